"""Citations follow from labels and sides alone."""

from __future__ import annotations

import numpy as np
import pytest

from grounding.types import Regions
from medglip_agent.citations import choose_citations, cite, cited_regions, contradiction, strip_citations


@pytest.fixture
def regions() -> Regions:
    """[R1] right kidney, [R2] left kidney, [R3] liver, [R4] a phrase outside the ontology."""
    return Regions(
        boxes=np.tile(np.array([[0, 0, 5, 5]], dtype=np.float32), (4, 1)),
        scores=np.array([0.9, 0.8, 0.7, 0.6], dtype=np.float32),
        phrase_index=np.arange(4),
        asked=("right kidney", "left kidney", "liver", "stent"),
        image_size=(10, 10),
    )


@pytest.mark.parametrize(
    ("question", "answer", "expected"),
    [
        ("Are the kidneys normal?", "yes", (0, 1)),
        ("Which kidney is larger?", "the left one", (1,)),
        ("Which kidney is larger?", "left and right are alike", (0, 1)),
        ("What is the large organ on the left?", "liver", (2,)),
        ("Is the liver right of the left kidney?", "yes, right", (2,)),
        ("What modality is this?", "CT", ()),
        ("Is the spleen enlarged?", "no", ()),
        ("Is the caudate lobe enlarged?", "no", (2,)),
        ("Is there a cyst of the kidney?", "yes, in the left renal cortex", (1,)),
    ],
)
def test_choose(regions: Regions, question: str, answer: str, expected: tuple[int, ...]) -> None:
    assert choose_citations(question, answer, regions, "CT") == expected


def test_writing_and_reading() -> None:
    assert cite([0, 2]) == "[R1] [R3]"
    assert cited_regions("left [R3] and [R1], again [R3]") == (2, 0)
    assert strip_citations("left [R3], liver[R12].") == "left, liver."
    assert strip_citations("left  [R3]  lung") == "left  lung"
    assert cite(()) == ""


def test_contradiction(regions: Regions) -> None:
    said = contradiction("Is there a liver?", "No", regions, (2,))
    assert said == "The detector found liver [R3] with score 0.70, which does not fit this answer."
    assert contradiction("Is the liver normal?", "No", regions, (2,)) == ""
    assert contradiction("Is there a liver?", "yes", regions, (2,)) == ""
    assert contradiction("Is there a spleen?", "no", regions, ()) == ""
    assert contradiction("Is there a liver?", "normal", regions, (2,)) == ""
