"""Sizes, distances, areas and kinds of image, computed by hand."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from grounding.types import MedicalImage, PixelSpacing, Regions
from medglip_agent.agent import MedGLIPAgent
from medglip_agent.describe import check_box
from medglip_agent.measure import measure_regions
from medglip_agent.modality import ImageModality, classify
from medglip_agent.request import RequestError


@pytest.fixture
def spaced(chest: MedicalImage) -> MedicalImage:
    return replace(chest, spacing=PixelSpacing(0.5, 0.25, "pixel"))


def test_mm_where_the_spacing_is_known(agent: MedGLIPAgent, spaced: MedicalImage) -> None:
    result = agent.measure(spaced, ["right lung"])
    assert (result.sizes[0].width, result.sizes[0].height, result.sizes[0].unit) == (20, 80, "mm")
    assert result.text == "right lung [R1]: 20 x 80 mm"


def test_detector_spacing_is_named_as_such(agent: MedGLIPAgent, chest: MedicalImage) -> None:
    result = agent.measure(replace(chest, spacing=PixelSpacing(0.5, 0.25, "detector")), ["right lung"])
    assert result.text == (
        "right lung [R1]: 20 x 80 mm at the detector\n"
        "The spacing is that of the X-ray detector: the structures themselves are smaller."
    )


def test_pixels_are_said_to_be_pixels(agent: MedGLIPAgent, chest: MedicalImage) -> None:
    assert "unknown: sizes are in pixels" in agent.measure(chest, ["lungs"]).text


def test_distance_uses_the_spacing_of_each_axis() -> None:
    image = MedicalImage(np.zeros((100, 100, 3), np.uint8), spacing=PixelSpacing(2.0, 0.5))
    boxes = np.array([[0, 0, 10, 10], [40, 20, 50, 30]], dtype=np.float32)
    regions = Regions(boxes, np.ones(2, np.float32), np.arange(2), ("a", "b"), image.size)
    distance = measure_regions(image, regions, distance=True).distance
    assert distance is not None
    assert distance.centres == pytest.approx(44.721, abs=1e-3)  # (40 * 0.5, 20 * 2.0) = (20, 40)
    assert distance.gap == pytest.approx(25.0)  # (30 * 0.5, 10 * 2.0) = (15, 20)


def test_distance_needs_two_structures_found(agent: MedGLIPAgent, chest: MedicalImage) -> None:
    with pytest.raises(RequestError, match="expected two structures for a distance, got right lung"):
        agent.measure(chest, ["right lung"], distance=True)
    result = agent.measure(chest, ["right lung", "spleen"], distance=True)
    assert result.distance is None and "Not found: spleen." in result.text


def test_areas_of_masks(grounder: Any, segmenter: Any, spaced: MedicalImage, chest: MedicalImage) -> None:
    agent = MedGLIPAgent(grounder, None, segmenter=segmenter)
    result = agent.segment(spaced, ["right lung", "polyp"])
    assert (result.areas[0].pixels, result.areas[0].area, result.areas[0].unit) == (6400, 800.0, "mm2")
    assert result.text == "right lung [R1]: 800 mm2\nNot found: polyp."
    assert result.segmenter == "fake-segmenter"
    assert agent.segment(chest, ["right lung"]).text.startswith("right lung [R1]: 6400 px\nThe pixel")
    assert agent.models == {"grounder": "fake-grounder", "segmenter": "fake-segmenter"}


def test_segmenting_needs_a_segmenter(agent: MedGLIPAgent, chest: MedicalImage) -> None:
    with pytest.raises(RuntimeError, match="expected a segmenter"):
        agent.segment(chest, ["lungs"])


def test_a_stated_kind_is_not_guessed_at(agent: MedGLIPAgent, grounder: Any, chest: MedicalImage) -> None:
    assert agent.modality(chest) == ImageModality(("CR",))
    assert agent.modality(chest).stated and grounder.encoded == 0


def test_an_unstated_kind_is_the_grounder_s_where_it_is_sure(agent: MedGLIPAgent, grounder: Any) -> None:
    image = MedicalImage.from_array(np.zeros((9, 9), np.uint8))
    assert agent.modality(image).codes == ()
    grounder.modalities = {("CR", "DX"): 0.75, ("CT",): 0.25}
    result = agent.modality(image)
    assert (result.codes, result.probability, result.stated) == (("CR", "DX"), 0.75, False)
    assert "computed radiography (CR) or digital radiography (DX), probability 0.75" in result.text
    assert classify(image, {("CT",): 0.5, ("MR",): 0.5}).codes == ()


def test_a_box_is_cut_to_the_picture(chest: MedicalImage) -> None:
    assert check_box([-5, 10, 300, 20], chest).tolist() == [0, 10, 200, 20]


@pytest.mark.parametrize("box", [[5, 5, 5, 9], [9, 5, 5, 9], [201, 0, 300, 9], [0, 0, 5], [0, 0, np.nan, 9]])
def test_what_is_no_box_is_refused(chest: MedicalImage, box: list[float]) -> None:
    with pytest.raises(RequestError, match="pixels of the original image"):
        check_box(box, chest)


def test_a_marked_box_and_what_it_overlaps(agent: MedGLIPAgent, chest: MedicalImage, vlm: Any) -> None:
    result = agent.describe(chest, [70, 100, 130, 180], question="Is it normal?")
    assert result.place == "centre"
    assert (result.size.width, result.size.height, result.area_percent) == (60, 80, 10.0)
    assert result.regions.phrases == ("right lung", "left lung")
    shares = [(round(o.of_box, 4), round(o.of_structure, 4)) for o in result.overlaps]
    assert shares == [(0.3333, 0.125), (0.3333, 0.125)]
    assert (result.answer, result.confidence) == ("yes", 0.64)
    assert vlm.prompts[-1].regions.phrases[0] == "marked region"


def test_a_marked_box_without_language_model(grounder: Any, chest: MedicalImage) -> None:
    result = MedGLIPAgent(grounder, None).describe(chest, [92, 0, 100, 10])
    assert result.answer == "" and result.confidence is None
    assert result.text.endswith("It overlaps no structure that was found.")
