"""The values that cross the border of the language side refuse what they cannot mean."""

import numpy as np
import pytest

from grounding.types import MedicalImage, Regions
from llm.types import Answer, Finding, Generation, Report, SpatialPrompt, Step

IMAGE = MedicalImage(np.zeros((4, 6, 3), np.uint8))


def test_prompt_refuses_regions_of_another_image() -> None:
    with pytest.raises(ValueError, match=r"\(6, 4\).*\(4, 6\)"):
        SpatialPrompt("why?", IMAGE, Regions.empty((6, 4)))
    assert SpatialPrompt("why?", IMAGE, Regions.empty((4, 6))).regions is not None


def test_prompt_refuses_empty_text() -> None:
    with pytest.raises(ValueError, match="empty"):
        SpatialPrompt("  ", IMAGE)


@pytest.mark.parametrize("confidence", [-0.1, 1.1, float("nan")])
def test_confidence_is_a_probability(confidence: float) -> None:
    with pytest.raises(ValueError, match="confidence"):
        Generation("yes", confidence)


def test_abstention_needs_a_reason() -> None:
    with pytest.raises(ValueError, match="reason"):
        Answer("", Regions.empty((4, 6)), None, abstained=True)


def test_step_needs_a_name_and_a_duration() -> None:
    with pytest.raises(ValueError, match="seconds"):
        Step("ground", {}, "2 regions", float("nan"))
    with pytest.raises(ValueError, match="name"):
        Step("", {}, "2 regions", 0.1)


def test_finding_is_grounded_exactly_when_it_names_regions() -> None:
    with pytest.raises(ValueError, match="region_ids"):
        Finding("Clear lungs.", (), grounded=True)


def test_report_cites_only_its_regions(two_regions: Regions) -> None:
    with pytest.raises(ValueError, match="2"):
        Report((Finding("Clear lungs.", (1, 2), grounded=True),), "", two_regions)
