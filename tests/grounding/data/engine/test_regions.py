"""Parts, boxes and drops, computed by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from pycocotools import mask as coco_mask

from grounding.data.engine.regions import RegionRules, decode_mask, encode_mask, make_regions
from grounding.data.records import SourceImage, SourceRegion

LOOSE = RegionRules(min_area=1, min_area_fraction=0.0, min_side=0.0, training_size=100)


def picture(text: str) -> np.ndarray:
    """A mask drawn with # and dots."""
    return np.array([[sign == "#" for sign in line] for line in text.split()])


TWO_PARTS = picture("""
    ##......
    ##......
    ..#.....
    ......##
    ......#.
""")


def image(*regions: SourceRegion, size: tuple[int, int] = (5, 8)) -> SourceImage:
    return SourceImage("key", b"", size, regions)


def boxes(found) -> list[list[float]]:
    return [region.box.tolist() for region in found.regions]


def test_components_hang_together_over_corners():
    found = make_regions(image(SourceRegion("a", mask=TWO_PARTS)), "components", "given", LOOSE)
    assert boxes(found) == [[0, 0, 3, 3], [6, 3, 8, 5]]
    assert [region.area for region in found.regions] == [5, 3]
    assert (found.parts, found.merged, found.drops) == (1, 0, ())


def test_largest_logs_the_rest():
    found = make_regions(image(SourceRegion("a", mask=TWO_PARTS)), "largest", "given", LOOSE)
    assert boxes(found) == [[0, 0, 3, 3]]
    assert [(drop.source_index, drop.label, drop.reason) for drop in found.drops] == [
        (0, "a", "not the largest")
    ]


def test_of_two_alike_the_upper_part_stays():
    mask = picture("..##..## ........ ##......")
    found = make_regions(image(SourceRegion("a", mask=mask), size=(3, 8)), "largest", "given", LOOSE)
    assert boxes(found) == [[2, 0, 4, 1]]
    assert len(found.drops) == 2


def test_union_joins_the_masks_of_a_label_and_leaves_boxes_alone():
    upper, lower = TWO_PARTS.copy(), TWO_PARTS.copy()
    upper[3:], lower[:3] = False, False
    sources = (
        SourceRegion("a", mask=lower),
        SourceRegion("b", box=np.array([1.0, 1.0, 2.0, 2.0])),
        SourceRegion("a", mask=upper),
    )
    found = make_regions(image(*sources), "union", "given", LOOSE)
    assert [(region.label, region.source_index) for region in found.regions] == [("a", 0), ("b", 1)]
    assert boxes(found) == [[0, 0, 8, 5], [1, 1, 2, 2]]
    assert (found.merged, found.parts, found.regions[0].area) == (1, 0, 8)


def test_keep_takes_the_given_box_unless_told():
    source = SourceRegion("a", box=np.array([0.25, 0.0, 7.5, 5.0]), mask=TWO_PARTS)
    assert boxes(make_regions(image(source), "keep", "given", LOOSE)) == [[0.25, 0, 7.5, 5]]
    assert boxes(make_regions(image(source), "keep", "mask", LOOSE)) == [[0, 0, 8, 5]]
    assert len(boxes(make_regions(image(source), "components", "given", LOOSE))) == 2


@pytest.mark.parametrize(
    ("box", "reason"),
    [
        ([5, 5, 5, 9], "degenerate box"),
        ([9, 5, 2, 9], "degenerate box"),
        ([-9, 2, 0, 9], "outside the picture"),
        ([40, 2, 50, 9], "outside the picture"),
        ([2, 20, 9, 30], "outside the picture"),
        ([2, 2, 5, 12], "tiny box"),  # 3 of 40 pixels across are 3.75 of 50
        ([-9, 2, 3, 12], "tiny box"),  # what is left of it in the picture
        ([2, 2, 5.2, 12], None),
        ([2, 2, 12, 3], "tiny box"),  # 1 of 20 pixels down is 2.5 of 50
        ([2, 2, 12, 4], None),
    ],
)
def test_boxes_that_go(box, reason):
    rules = RegionRules(min_side=4.0, training_size=50)
    source = SourceRegion("a", box=np.array(box, dtype=float))
    found = make_regions(image(source, size=(20, 40)), "components", "given", rules)
    assert [drop.reason for drop in found.drops] == ([reason] if reason else [])


def test_specks_by_pixels_and_by_share_of_the_picture():
    mask = np.zeros((400, 400), dtype=bool)  # 0.02 % are 32 pixels
    mask[10:14, 10:18] = True  # 32
    mask[50:55, 50:56] = True  # 30
    found = make_regions(
        image(SourceRegion("a", mask=mask), size=(400, 400)), "components", "given", RegionRules()
    )
    assert boxes(found) == [[10, 10, 18, 14]]
    assert [drop.reason for drop in found.drops] == ["speck"]
    small = make_regions(image(SourceRegion("a", mask=TWO_PARTS)), "keep", "given", RegionRules())
    assert [drop.reason for drop in small.drops] == ["speck"]  # 8 of at least 16 pixels


def test_an_empty_mask_goes_even_with_a_box():
    source = SourceRegion("a", box=np.array([0.0, 0.0, 5.0, 5.0]), mask=np.zeros((5, 8), dtype=bool))
    for policy in ("keep", "union", "components", "largest"):
        assert [drop.reason for drop in make_regions(image(source), policy, "given", LOOSE).drops] == [
            "empty mask"
        ]


def test_boxes_that_poke_out_are_clipped_and_counted():
    sources = [SourceRegion("a", box=np.array(box)) for box in ([-2.0, 1.0, 3.0, 9.5], [0.0, 0.0, 8.0, 5.0])]
    found = make_regions(image(*sources), "keep", "given", LOOSE)
    assert boxes(found) == [[0, 1, 3, 5], [0, 0, 8, 5]]
    assert (found.clipped, found.regions[0].area) == (1, 12)


def test_no_annotations_is_no_regions():
    found = make_regions(image(), "components", "given", LOOSE)
    assert (found.regions, found.drops, found.parts, found.merged) == ((), (), 0, 0)


@settings(max_examples=60, deadline=None)
@given(arrays(np.bool_, st.tuples(st.integers(1, 7), st.integers(1, 7))))
def test_run_lengths_are_those_of_pycocotools_and_read_back(mask):
    whole = coco_mask.encode(np.asfortranarray(mask, dtype=np.uint8))["counts"].decode()
    found = make_regions(image(SourceRegion("a", mask=mask), size=mask.shape), "keep", "given", LOOSE)
    assert [region.mask for region in found.regions] == ([whole] if mask.any() else [])
    assert (decode_mask(whole, mask.shape) == mask).all()
    larger = np.zeros((11, 12), dtype=bool)
    larger[2 : 2 + mask.shape[0], 5 : 5 + mask.shape[1]] = mask
    expected = coco_mask.encode(np.asfortranarray(larger, dtype=np.uint8))["counts"].decode()
    assert encode_mask(mask, 2, 5, (11, 12)) == expected


@settings(max_examples=40, deadline=None)
@given(
    arrays(np.bool_, (9, 11)), st.sampled_from(("keep", "union", "components", "largest")), st.integers(0, 9)
)
def test_every_annotation_is_accounted_for(mask, policy, min_area):
    rules = RegionRules(min_area=min_area, min_area_fraction=0.0, min_side=2.0, training_size=11)
    sources = [SourceRegion(label, mask=mask) for label in "aab"] + [SourceRegion("c", box=np.arange(4.0))]
    found = make_regions(image(*sources, size=(9, 11)), policy, "given", rules)
    assert len(sources) + found.parts - found.merged == len(found.regions) + len(found.drops)
    for region in found.regions:
        assert (region.box >= 0).all()
        assert (region.box <= [11, 9, 11, 9]).all()
