"""Boxes and labels on a picture: in place, inside, not on top of one another, legible at any size."""

from __future__ import annotations

import numpy as np
import pytest

from grounding.types import MedicalImage, Regions
from medglip_agent.render import PALETTE, _captions, _free_place, _shared, colour_of, draw_regions


def _image(height: int, width: int) -> MedicalImage:
    return MedicalImage.from_array(np.zeros((height, width), dtype=np.uint8))


def _regions(size: tuple[int, int], *boxes: tuple[float, float, float, float]) -> Regions:
    count = len(boxes)
    scores = np.linspace(0.9, 0.5, count).astype(np.float32)
    index = np.zeros(count, dtype=np.int64)
    return Regions(np.array(boxes, dtype=np.float32).reshape(-1, 4), scores, index, ("liver",), size)


def test_the_outline_lies_on_the_box() -> None:
    picture = np.asarray(draw_regions(_image(400, 500), _regions((400, 500), (100, 120, 300, 320))))
    colour = colour_of("liver")
    assert picture.shape == (400, 500, 3)
    assert tuple(picture[200, 100]) == colour and tuple(picture[200, 299]) == colour
    assert tuple(picture[319, 250]) == colour
    assert tuple(picture[200, 200]) == (0, 0, 0)


def test_no_region_leaves_the_picture_as_it_is() -> None:
    image = _image(400, 400)
    assert np.array_equal(np.asarray(draw_regions(image, Regions.empty((400, 400)))), image.pixels)


def test_scores_and_choice_decide_what_is_drawn() -> None:
    image, regions = _image(400, 400), _regions((400, 400), (10, 10, 90, 90), (200, 200, 300, 300))
    low = np.asarray(draw_regions(image, regions, min_score=0.6))
    assert low[200:, 200:].max() == 0 and low[:100, :100].max() > 0
    only = np.asarray(draw_regions(image, regions, only=(1,)))
    assert only[:100, :100].max() == 0 and only[200:, 200:].max() > 0


@pytest.mark.parametrize("size", [(24, 40), (64, 64), (320, 3000), (2500, 2000)])
def test_any_size_and_boxes_past_the_border(size: tuple[int, int]) -> None:
    height, width = size
    boxes = [
        (-9.0, -9.0, width + 9.0, height + 9.0),
        (0, 0, 0, 0),
        (width - 1.0, height - 1.0, width, height),
    ]
    picture = draw_regions(_image(*size), _regions(size, *boxes))
    assert min(picture.size) >= 320
    assert picture.width % width == 0 and picture.width / width == picture.height / height


def test_labels_do_not_overlap() -> None:
    box = (50, 50, 120, 100)
    taken: list[tuple[int, int, int, int]] = []
    for _ in range(12):
        place = _free_place(box, (80, 14), (400, 400), taken, [box])
        assert 0 <= place[0] and 0 <= place[1] and place[2] < 400 and place[3] < 400
        assert not any(_shared(place, other) for other in taken)
        taken.append(place)


def test_a_label_does_not_hide_a_small_box() -> None:
    box, neighbour = (100, 100, 110, 110), (100, 60, 200, 99)
    place = _free_place(box, (80, 14), (400, 400), [], [box, neighbour])
    assert place == (100, 111, 180, 125)  # below: above lies the neighbour
    assert _shared(place, box) == _shared(place, neighbour) == 0


def test_a_crowd_is_named_once() -> None:
    few, many = _regions((9, 9), *[(0, 0, 5, 5)] * 4), _regions((9, 9), *[(0, 0, 5, 5)] * 5)
    assert list(_captions(list(few)).values())[1:] == [
        "[R2] liver 0.77",
        "[R3] liver 0.63",
        "[R4] liver 0.50",
    ]
    captions = _captions(list(many))
    assert list(captions.values()) == ["[R1] liver 0.90", "[R2]", "[R3]", "[R4]", "[R5]"]


def test_a_label_has_one_colour_everywhere() -> None:
    assert colour_of("liver") == colour_of("liver") != colour_of("spleen")
    assert colour_of("right lung") != colour_of("left lung")
    abdomen = (
        "right kidney, left kidney, spleen, liver, stomach, pancreas, aorta, gallbladder, inferior vena cava"
    )
    assert len({colour_of(organ) for organ in abdomen.split(", ")}) == 9
    assert colour_of("a phrase of one's own") in PALETTE


def test_regions_of_another_picture_are_refused() -> None:
    with pytest.raises(ValueError, match="regions are of an image of"):
        draw_regions(_image(50, 50), Regions.empty((60, 50)))
