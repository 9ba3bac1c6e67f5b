"""Pictures that carry regions: where every pixel lies, what is drawn, and the way back to the original."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from grounding.types import MedicalImage, Regions
from llm.spatial import crop_panel, draw_marks
from llm.spatial.gemma import pad_to_square
from llm.spatial.overlay import mark_outline
from llm.spatial.placement import fitted, padded_square, smart_resized, stretched

SIDES = st.integers(1, 10_000)
UNIT = st.floats(0, 1)


@pytest.fixture
def image() -> MedicalImage:
    pixels = np.random.default_rng(0).integers(0, 200, (40, 60, 3), dtype=np.uint8)
    return MedicalImage(pixels, modality="CT", orientation=("L", "P"))


@settings(max_examples=60, deadline=None)
@given(SIDES, SIDES, st.tuples(UNIT, UNIT, UNIT, UNIT))
def test_placements_are_exact_inverses(height: int, width: int, shares: tuple[float, ...]) -> None:
    size, box = (height, width), np.array(shares) * [width, height, width, height]
    places = [
        stretched(size, (224, 224)),
        padded_square(size),
        fitted((0, 0, width, height), (300, 200)),
    ]
    if max(size) <= 200 * min(size):
        places.append(smart_resized(size, factor=28, min_pixels=3136, max_pixels=1_003_520))
    for place in places:
        there = place.to_canvas(box)
        np.testing.assert_allclose(place.to_image(there), box, atol=1e-6)
        x1, y1, x2, y2 = place.target
        assert (there >= np.array([x1, y1, x1, y1]) - 1e-6).all()
        assert (there <= np.array([x2, y2, x2, y2]) + 1e-6).all()


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 300), st.integers(1, 300))
def test_the_mask_of_a_letterbox_is_exactly_its_image(height: int, width: int) -> None:
    place = padded_square((height, width))
    mask = place.valid_mask()
    assert mask.shape == (max(height, width),) * 2
    assert mask.sum() == height * width
    x1, y1, x2, y2 = map(int, place.target)
    assert mask[y1:y2, x1:x2].all()
    fit = fitted((0, 0, width, height), (64, 96))
    x1, y1, x2, y2 = fit.target
    assert fit.valid_mask().sum() == (x2 - x1) * (y2 - y1) > 0


def test_a_letterbox_by_hand() -> None:
    place = padded_square((100, 301))
    assert place.target == (0, 100, 301, 200)  # 201 rows of padding: 100 above, 101 below
    np.testing.assert_allclose(place.to_canvas((1, 2, 3, 4)), (1, 102, 3, 104))


def test_padding_moves_pixels_and_changes_none(image: MedicalImage) -> None:
    padded = pad_to_square(image)
    assert padded.size == (60, 60) and padded.source_id != image.source_id
    mask = padded_square(image.size).valid_mask()
    assert (padded.pixels[mask].reshape(image.pixels.shape) == image.pixels).all()
    assert not padded.pixels[~mask].any()
    assert (padded.orientation, padded.modality) == (image.orientation, image.modality)


def test_marks_are_drawn_where_the_boxes_are(image: MedicalImage, two_regions: Regions) -> None:
    marked = draw_marks(image, two_regions, (1,))
    assert marked.size == image.size and marked.source_id != image.source_id
    assert marked.orientation == image.orientation
    changed = (marked.pixels != image.pixels).any(axis=2)
    x1, y1, x2, y2 = mark_outline(two_regions, 1)
    assert (x1, y1, x2, y2) == (36, 4, 53, 35)  # last column and row inside the box
    assert changed[y1, x1 : x2 + 1].all() and changed[y2, x1 : x2 + 1].all()
    assert changed[y1 : y2 + 1, x1].all() and changed[y1 : y2 + 1, x2].all()
    assert not changed[:, :x1].any() and not changed[y2 + 1 :].any()
    assert not changed[20:y2, x1 + 1 : x2].any()  # the inside, below the number, stays


def test_no_marks_leave_the_image_as_it_is(image: MedicalImage, two_regions: Regions) -> None:
    assert (draw_marks(image, two_regions, ()).pixels == image.pixels).all()
    assert draw_marks(image, two_regions, ()).source_id == image.source_id


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 60), st.integers(1, 60), st.tuples(*[st.floats(-20, 80)] * 4))
def test_any_box_can_be_marked_and_cropped(height: int, width: int, corners: tuple[float, ...]) -> None:
    x1, x2 = sorted(corners[:2])
    y1, y2 = sorted(corners[2:])
    picture = MedicalImage(np.zeros((height, width, 3), dtype=np.uint8))
    box = np.array([[x1, y1, x2, y2]], dtype=np.float32)
    regions = Regions(box, np.ones(1), np.zeros(1, dtype=int), ("a",), (height, width))
    assert draw_marks(picture, regions, (0,)).size == picture.size
    left, top, right, bottom = mark_outline(regions, 0)
    assert 0 <= left <= right < width and 0 <= top <= bottom < height
    panel = crop_panel(picture, regions, (0,), tile=48)
    assert len(panel.tiles) == 2
    shown = panel.tiles[1].source
    assert shown[2] - shown[0] >= 1 and shown[3] - shown[1] >= 1


def test_a_panel_shows_the_whole_and_each_crop(image: MedicalImage, two_regions: Regions) -> None:
    panel = crop_panel(image, two_regions, (1, 0), tile=120, columns=2)
    assert panel.image.size == (2 * (120 + 12), 240)
    assert panel.tiles[0].source == (0, 0, 60, 40)
    assert panel.tiles[1].source == (31, 0, 59, 40)  # 36 4 54 36 with 15 % of 32 = 4.8 around
    whole = panel.tiles[0]
    assert whole.target == (0, 12 + 20, 120, 12 + 100)  # 60 x 40 becomes 120 x 80 in a tile of 120
    np.testing.assert_array_equal(  # enlarged twice: the middle of flat areas stays
        crop_panel(
            MedicalImage(np.full((40, 60, 3), 77, dtype=np.uint8)), two_regions, (), tile=120
        ).image.pixels[40, 60],
        [77, 77, 77],
    )
    outside = panel.image.pixels[~panel.valid_mask()].reshape(-1, 3)
    assert (outside == outside[:, :1]).all()  # black and the white captions only


def test_a_box_on_a_panel_comes_back_through_its_tile(image: MedicalImage, two_regions: Regions) -> None:
    panel = crop_panel(image, two_regions, (0, 1), tile=100)
    for tile in range(3):
        box = np.array([37, 5, 50, 30]) if tile != 1 else np.array([7, 5, 20, 30])
        np.testing.assert_allclose(panel.to_image(panel.to_panel(box, tile)), box, atol=1e-4)
    with pytest.raises(ValueError, match="between the tiles"):
        panel.to_image((0, 0, 2, 2))


def test_regions_of_another_image_are_refused(image: MedicalImage) -> None:
    other = Regions.empty((10, 10))
    for draw in (draw_marks, crop_panel):
        with pytest.raises(ValueError, match="got one of"):
            draw(image, other, ())
