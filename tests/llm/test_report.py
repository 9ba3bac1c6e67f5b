"""Reports in a model's own words: sentences, regions, claims and what contradicts them."""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from grounding.types import MedicalImage, Regions
from llm.report import (
    CITATION,
    REQUEST,
    Claim,
    check_report,
    claims,
    read_report,
    strip_citations,
    write_report,
)
from llm.types import Finding, Generation, Report, SpatialPrompt

SIZE = (40, 60)
IMAGE = MedicalImage(np.zeros((*SIZE, 3), dtype=np.uint8))
NAMES = ("right lung", "left lung", "effusion", "nodule", "fracture")


def names_in(text: str) -> list[str]:
    return [name for name in NAMES if name in text.lower()]


def findings_in(text: str) -> list[str]:
    return [name for name in names_in(text) if "lung" not in name]


def found(**scores: float) -> Regions:
    names = [name.replace("_", " ") for name in scores]
    boxes = np.array([[k, k, k + 5, k + 9] for k in range(len(names))], dtype=np.float32)
    return Regions(boxes, np.array([*scores.values()]), np.arange(len(names)), tuple(names), SIZE)


@pytest.mark.parametrize(
    ("sentence", "said"),
    [
        ("A nodule is seen.", {"nodule": True}),
        ("No nodule, effusion or fracture.", {"nodule": False, "effusion": False, "fracture": False}),
        ("No effusion, but a nodule is seen.", {"effusion": False, "nodule": True}),
        ("Effusion is absent.", {"effusion": False}),
        ("A nodule without fracture.", {"nodule": True, "fracture": False}),
        ("Effusion with a nodule.", {"effusion": True, "nodule": True}),
        ("The heart is normal.", {}),
    ],
)
def test_claims(sentence: str, said: dict[str, bool]) -> None:
    assert {c.name: c.present for c in claims(sentence, names_in)} == said


def test_sentences_keep_their_regions() -> None:
    text = (
        "Findings: Right lung in the left of the picture [R1]. A nodule. [R2] [R9] The left lung is clear."
        " No effusion. Impression: A nodule [R2]."
    )
    report = read_report(text, found(right_lung=0.9, nodule=0.5), names_in)
    assert [(f.sentence, f.region_ids, f.grounded) for f in report.findings] == [
        ("Right lung in the left of the picture.", (0,), True),
        ("A nodule.", (1,), True),
        ("The left lung is clear.", (), False),
        ("No effusion.", (), False),
    ]
    assert report.impression == "A nodule."


def test_a_sentence_that_cites_nothing_is_tied_by_name_and_a_denial_is_not() -> None:
    report = read_report("A nodule is seen. No right lung", found(nodule=0.5, right_lung=0.9), names_in)
    assert [f.region_ids for f in report.findings] == [(0,), ()]
    assert report.impression == "" and read_report(" ", Regions.empty(SIZE), names_in).findings == ()


def test_contradictions_are_marked_and_new_regions_kept() -> None:
    asked: list[Sequence[str]] = []

    def ground(image: MedicalImage, names: Sequence[str]) -> Regions:
        asked.append(names)
        boxes = np.array([[1, 1, 9, 9], [2, 2, 8, 8]], dtype=np.float32)
        return Regions(boxes, np.array([0.7, 0.6]), np.array([1, 2]), tuple(names), SIZE)

    findings = [
        Finding("A fracture.", (), False),
        Finding("No effusion.", (), False),
        Finding("A nodule.", (), False),
    ]
    said = [(Claim("fracture", True),), (Claim("effusion", False),), (Claim("nodule", True),)]
    report = check_report(Report(tuple(findings), "", found(right_lung=0.9)), said, IMAGE, ground)
    assert asked == [("fracture", "effusion", "nodule")]
    assert [(f.region_ids, f.conflict) for f in report.findings] == [
        ((), "fracture was looked for and not found."),
        ((), "effusion was found [R2] with score 0.70."),
        ((2,), ""),
    ]
    assert report.regions.phrases == ("right lung", "effusion", "nodule")
    assert report.regions.missing == ("fracture",)


def test_a_report_is_asked_for_once_and_checked() -> None:
    class Model:
        def generate(self, prompts: Sequence[SpatialPrompt], *, max_new_tokens: int = 16) -> list[Generation]:
            assert [p.text for p in prompts] == [REQUEST]
            return [
                Generation("Findings: No nodule. The right lung is not enlarged. Impression: Normal.", 0.5)
            ]

    regions = found(right_lung=0.9, nodule=0.5)
    report = write_report(Model(), IMAGE, regions, lambda *_: regions, names_in, findings_in)
    assert [f.conflict for f in report.findings] == ["nodule was found [R2] with score 0.50.", ""]
    assert report.regions is regions and report.impression == "Normal."


@given(st.lists(st.sampled_from(["[R1]", "[R", "[", "]", "1]", "r 2", ", 3", "R", " ", "x"]), max_size=12))
@settings(max_examples=300, deadline=None)
def test_citations_are_stripped_as_by_repeated_removal(parts: list[str]) -> None:
    left = text = "".join(parts)
    while (shorter := CITATION.sub("", left)) != left:
        left = shorter
    assert strip_citations(text) == left.strip()


@pytest.mark.parametrize(
    "text",
    [
        "[R" * 50_000 + "1]" * 50_000,  # each removal puts the next one together
        "x" + " " * 100_000 + "y",
        "[R1" + ", 1" * 30_000 + "x]",  # nearly one citation
        "[" + "]" * 100_000,
    ],
    ids=["nested", "spaces", "unfinished", "closed"],
)
def test_hostile_text_is_stripped_in_one_reading(text: str) -> None:
    """In less than a second on an idle core; in a reading for each citation or space, in minutes."""
    started = time.process_time()
    stripped = strip_citations(text)
    assert time.process_time() - started < 10
    assert stripped == ("" if text.endswith("1]") else text)
