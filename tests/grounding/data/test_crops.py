"""Parts of pictures: what they show of boxes by hand, which lie beside every box."""

import numpy as np
import pytest

from grounding.data.crops import CLOSE_SIDES, close_crop, crop_boxes


@pytest.mark.parametrize("beside", [False, True])
def test_close_crops_hold_a_box_or_lie_beside_all(beside):
    boxes = np.array([[60.0, 10.0, 90.0, 40.0]])
    crops = [close_crop(boxes, (100, 50), 0.4, beside, np.random.default_rng(seed)) for seed in range(100)]
    found = [crop for crop in crops if crop is not None]
    assert len(found) > 95
    for left, top, right, bottom in found:
        assert 0 <= left < right <= 100 and 0 <= top < bottom <= 50
        for side, whole in ((right - left, 100), (bottom - top, 50)):
            assert CLOSE_SIDES[0] <= side / whole <= CLOSE_SIDES[1]
        seen = max(min(90, right) - max(60, left), 0) * max(min(40, bottom) - max(10, top), 0) / 900
        assert seen == 0 if beside else seen >= 0.4


def test_no_close_crop_lies_beside_a_box_that_fills_the_picture():
    boxes = np.array([[0.0, 0.0, 100.0, 50.0]])
    assert close_crop(boxes, (100, 50), 0.4, True, np.random.default_rng(0)) is None


def test_crop_boxes_by_hand():
    boxes = np.array(
        [
            [10, 10, 30, 30],  # right half stays: x 20..30 of 20..60, y 10..30 of 0..40
            [0, 0, 10, 10],  # outside
            [50, 35, 70, 45],  # a quarter stays: dropped
            [25, 5, 45, 25],  # inside
        ],
        dtype=np.float32,
    )
    cropped, kept = crop_boxes(boxes, (20.0, 0.0, 60.0, 40.0), min_visible=0.4)
    assert kept.tolist() == [True, False, False, True]
    assert cropped.dtype == np.float32
    assert cropped.tolist() == [[0.0, 0.25, 0.25, 0.75], [0.125, 0.125, 0.625, 0.625]]


def test_a_box_just_visible_enough_is_kept():
    boxes = np.array([[0, 0, 10, 10]], dtype=np.float32)
    assert crop_boxes(boxes, (6.0, 0.0, 20.0, 20.0), 0.4)[1].tolist() == [True]
    assert crop_boxes(boxes, (6.1, 0.0, 20.0, 20.0), 0.4)[1].tolist() == [False]


def test_whole_picture_as_crop_only_scales():
    boxes = np.array([[10, 10, 30, 20]], dtype=np.float32)
    assert crop_boxes(boxes, (0.0, 0.0, 40.0, 20.0), 0.4)[0].tolist() == [[0.25, 0.5, 0.75, 1.0]]


def test_no_boxes_and_boxes_without_area():
    assert crop_boxes(np.zeros((0, 4), np.float32), (0.0, 0.0, 4.0, 4.0), 0.4)[0].shape == (0, 4)
    flat = np.array([[1, 1, 1, 3]], dtype=np.float32)
    assert crop_boxes(flat, (0.0, 0.0, 4.0, 4.0), 0.4)[1].tolist() == [False]
