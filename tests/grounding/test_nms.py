"""Non-maximum suppression, by hand."""

import numpy as np
import pytest

from grounding.nms import nms_indices, suppress
from grounding.types import Regions

# a and b overlap by IoU 8/12 = 2/3, b and c likewise, a and c by 6/14 = 3/7.
BOXES = np.array([[0, 0, 10, 1], [2, 0, 12, 1], [4, 0, 14, 1]], dtype=np.float32)
ONE_CLASS = np.zeros(3, dtype=np.int64)


def kept(scores, threshold, classes=ONE_CLASS):
    return nms_indices(BOXES, np.array(scores, dtype=np.float32), classes, threshold).tolist()


def test_the_surest_drops_what_overlaps_it_more_than_the_threshold():
    assert kept([0.5, 0.9, 0.7], 0.5) == [1]
    assert kept([0.9, 0.7, 0.5], 0.5) == [0, 2]  # b is gone before it could drop c
    assert kept([0.9, 0.7, 0.5], 0.4) == [0]
    assert kept([0.9, 0.7, 0.5], 0.7) == [0, 1, 2]


def test_the_threshold_itself_is_not_too_much():
    boxes = np.array([[0, 0, 2, 1], [0, 0, 1, 1]], dtype=np.float32)  # IoU exactly 1/2
    scores, classes = np.array([0.9, 0.8], dtype=np.float32), np.zeros(2, dtype=np.int64)
    assert nms_indices(boxes, scores, classes, 0.5).tolist() == [0, 1]


def test_classes_do_not_meet():
    assert kept([0.5, 0.9, 0.7], 0.5, np.array([0, 1, 0])) == [1, 2, 0]
    assert kept([0.5, 0.9, 0.7], 0.4, np.array([0, 1, 0])) == [1, 2]


def test_equal_scores_keep_their_order_and_nothing_gives_nothing():
    assert kept([0.5, 0.5, 0.5], 0.5) == [0, 2]
    none = np.zeros((0, 4), dtype=np.float32)
    assert nms_indices(none, none[:, 0], np.zeros(0, dtype=np.int64), 0.5).tolist() == []


def test_a_threshold_outside_0_to_1_is_refused():
    with pytest.raises(ValueError, match=r"in \[0, 1\], got 50"):
        kept([0.5, 0.9, 0.7], 50)


def test_regions_keep_their_fields():
    masks = np.zeros((3, 20, 20), dtype=bool)
    masks[1, 3, 3] = True
    regions = Regions(BOXES, np.array([0.5, 0.9, 0.7]), ONE_CLASS, ("lung", "heart"), (20, 20), masks)
    result = suppress(regions, 0.5)
    assert (len(result), result.asked) == (1, ("lung", "heart"))
    assert result.masks is not None and result.masks[0, 3, 3]
