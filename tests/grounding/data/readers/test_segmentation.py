"""Masks of COCO's polygons and run lengths: equal to pycocotools, and safe where it is not."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from pycocotools import mask as coco_mask

from grounding.data.readers.segmentation import decompressed, mask_of
from grounding.data.records import UnitError


@settings(max_examples=30, deadline=None)
@given(hnp.arrays(np.bool_, hnp.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=40)))
def test_run_lengths_both_ways(mask):
    packed = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))
    counts = packed["counts"].decode()
    size = list(mask.shape)
    assert np.array_equal(mask_of({"size": size, "counts": counts}, mask.shape, "x"), mask)
    runs = decompressed(counts, "x").tolist()
    assert sum(runs) == mask.size
    assert np.array_equal(mask_of({"size": size, "counts": runs}, mask.shape, "x"), mask)


def test_runs_go_down_the_columns():
    mask = mask_of({"size": [2, 3], "counts": [1, 2, 3]}, (2, 3), "x")
    assert mask.tolist() == [[False, True, False], [True, False, False]]


def test_polygons_as_pycocotools_draws_them():
    ring = [1, 1, 3, 1, 3, 3, 1, 3]
    mask = mask_of([ring], (5, 6), "x")
    assert np.argwhere(mask).tolist() == [[1, 1], [1, 2], [2, 1], [2, 2]]
    both = mask_of([ring, [4, 3, 6, 3, 6, 5, 4, 5]], (5, 6), "x")
    assert both.sum() == 8


def test_nothing_is_no_mask():
    assert mask_of(None, (2, 2), "x") is None and mask_of([], (2, 2), "x") is None


@settings(max_examples=80, deadline=None)
@given(st.text(max_size=12))
def test_damaged_strings_never_crash(counts):
    try:
        mask = mask_of({"size": [4, 4], "counts": counts}, (4, 4), "x")
    except UnitError:
        return
    assert mask.shape == (4, 4)


@pytest.mark.parametrize(
    ("segmentation", "says"),
    [
        ("polygon", "expected polygons or run lengths, got str"),
        ({"size": [4, 4]}, "expected polygons or run lengths, got dict"),
        ({"size": [4, 5], "counts": "`0"}, r"its mask has \(height, width\) \(4, 5\)"),
        ({"size": [4, 4], "counts": [15]}, "do not add up to 4 x 4"),
        ({"size": [4, 4], "counts": [-1, 17]}, "do not add up"),
        ({"size": [4, 4], "counts": [1e300]}, "do not add up"),
        ({"size": [4, 4], "counts": "P"}, "damaged or cut off"),
        ({"size": [4, 4], "counts": "oooooooooo0"}, "longer than any image"),
        ([[1, 2, 3, 4]], "at least 3 points"),
        ([[1, 2, 3, 4, 5, 6, 7]], "at least 3 points"),
        ([[1, 2, 3, 4, 5, float("nan")]], "finite numbers"),
        ([[0, 0, 1e9, 0, 0, 1e9]], "far outside"),
        ([5], "expected a polygon to be finite numbers"),
    ],
)
def test_malformed_masks_are_refused(segmentation, says):
    with pytest.raises(UnitError, match=says):
        mask_of(segmentation, (4, 4), "x")
