"""Captions and grounded descriptions say what the boxes say, and cite the regions that they mean."""

from pathlib import Path

import numpy as np
import pytest

from llm.data.boxed import BoxedImage
from llm.data.captions import grounded_descriptions, grounded_findings, region_captions
from llm.types import Finding

ANNOTATED = ("liver", "spleen", "cell", "gallbladder", "aorta")


def image(*found):
    """`found`: (phrase, x1, y1, x2, y2) in pixels of a picture of 100 x 100."""
    boxes = np.array([box for _, *box in found], dtype=np.float32).reshape(-1, 4)
    phrases = tuple(phrase for phrase, *_ in found)
    return BoxedImage(Path("a.png"), (100, 100), boxes, phrases, ANNOTATED, "toy", "group")


THREE = image(("cell", 0, 0, 20, 20), ("liver", 70, 70, 90, 90), ("cell", 40, 80, 60, 90))


def test_findings_by_hand():
    regions, findings = grounded_findings(THREE, most_absent=0)
    assert regions.phrases == ("cell", "cell", "liver")
    assert findings == (
        Finding("2 cells in the upper left and lower of the picture.", (0, 1), True),
        Finding("Liver in the lower right of the picture.", (2,), True),
    )


def test_absent_phrases_are_said_and_marked_ungrounded():
    regions, findings = grounded_findings(THREE, most_absent=2)
    absent = findings[2:]
    assert len(absent) == 2
    assert all(not finding.grounded for finding in absent)
    assert {f"No {phrase} is seen." for phrase in regions.missing} == {f.sentence for f in absent}


def test_a_doubtful_place_is_not_said():
    _, findings = grounded_findings(image(("liver", 0, 0, 66, 66)), most_absent=0)  # centre .33
    assert findings[0].sentence == "Liver."


def test_descriptions_cite_what_they_mean():
    (item,) = grounded_descriptions([THREE], most_absent=0)
    assert item.answer == (
        "2 cells in the upper left and lower of the picture [R1] [R2]."
        " Liver in the lower right of the picture [R3]."
    )
    assert item.region_ids == (0, 1, 2)


def test_an_image_with_too_many_boxes_is_left_out():
    assert not grounded_descriptions([THREE], most_boxes=2)


def test_a_picture_without_boxes_is_described_by_what_is_absent():
    (item,) = grounded_descriptions([image()], most_absent=1)
    assert item.answer.startswith("No ")
    assert item.region_ids == ()


def test_captions_withhold_the_name_and_ask_for_the_right_box():
    items = region_captions([THREE], per_image=5)
    assert len(items) == 2  # a phrase once
    for item in items:
        assert set(item.regions.phrases) == {"region"}
        (index,) = item.region_ids
        assert f"R{index + 1}" in item.question
        x1 = item.regions.boxes[index, 0]
        place = {0: "Cell in the upper left", 40: "Cell in the lower", 70: "Liver in the lower right"}[
            int(x1)
        ]
        assert item.answer == f"{place} of the picture."


@pytest.mark.parametrize("make", [region_captions, grounded_descriptions])
def test_equal_seeds_give_equal_texts(make):
    def texts(seed):
        return [(item.qid, item.question, item.answer) for item in make([THREE], seed=seed)]

    assert texts(3) == texts(3)
