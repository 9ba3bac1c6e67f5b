"""From the annotations of one image to regions: connected parts, tight boxes, and what is dropped and why.

Owns the box policies, the thresholds and COCO's run lengths of masks. Knows no label tree, no rows and no
files. Boxes are xyxy in pixels of the image, origin top-left, far edges exclusive: a mask of the one pixel
(row 2, column 5) has the box (5, 2, 6, 3). Nothing is ever mirrored.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final, Literal, TypeAlias, get_args

import numpy as np
import numpy.typing as npt
from pycocotools import mask as coco_mask
from scipy import ndimage

from ..records import SourceImage, SourceRegion

Mask: TypeAlias = npt.NDArray[np.bool_]
Box: TypeAlias = npt.NDArray[np.float64]
Policy = Literal["keep", "union", "components", "largest"]
BoxSource = Literal["given", "mask"]
Reason = Literal[
    "empty mask", "degenerate box", "outside the picture", "speck", "tiny box", "not the largest"
]

POLICIES: Final = get_args(Policy)
BOX_SOURCES: Final = get_args(BoxSource)
_NEIGHBOURS: Final = np.ones((3, 3), dtype=np.int8)


@dataclass(frozen=True)
class RegionRules:
    """What is too small to keep.

    Attributes:
        min_area: least area of a mask, in pixels of the picture; a smaller one is a speck.
        min_area_fraction: the same as a share of the picture; the larger of the two counts.
        min_side: least side of a box, in pixels after the picture is resized to `training_size`.
        training_size: side of the square that the training resizes a picture to, in pixels.
    """

    min_area: int = 16
    min_area_fraction: float = 0.0002
    min_side: float = 4.0
    training_size: int = 512


@dataclass(frozen=True, eq=False)
class Region:
    """One region that stays.

    Attributes:
        label: as the source writes it.
        box: (4,) float64 xyxy pixels, inside the picture.
        area: pixels of the mask, or of the box where there is no mask.
        mask: COCO's compressed run lengths over the whole picture, "" where there is no mask.
        source: the annotation it came from (the first one, of a union).
        source_index: its place among the image's annotations.
    """

    label: str
    box: Box
    area: float
    mask: str
    source: SourceRegion
    source_index: int


@dataclass(frozen=True)
class Drop:
    """One region that does not stay: the annotation it came from, its label, and why."""

    source_index: int
    label: str
    reason: Reason


@dataclass(frozen=True)
class RegionSet:
    """All that the annotations of one image became: annotations + parts - merged = regions + drops.

    Attributes:
        regions: what stays, in the order of the annotations; parts of one mask from the top down.
        drops: what does not.
        parts: connected parts beyond the first of their mask.
        merged: annotations that went into the union of an earlier one.
        clipped: regions whose box poked out of the picture and was cut at its border.
    """

    regions: tuple[Region, ...]
    drops: tuple[Drop, ...]
    parts: int
    merged: int
    clipped: int


@dataclass(frozen=True, eq=False)
class _Part:
    """A mask cut to its tight box: `pixels` with their first row and column in the picture."""

    pixels: Mask
    top: int
    left: int
    area: int

    @property
    def box(self) -> Box:
        height, width = self.pixels.shape
        return np.array([self.left, self.top, self.left + width, self.top + height], dtype=np.float64)


def make_regions(image: SourceImage, policy: Policy, boxes: BoxSource, rules: RegionRules) -> RegionSet:
    """Turn the annotations of `image` into regions.

    Args:
        image: what a reader made.
        policy: for masks. "keep": one region an annotation; "union": one a label, over all its masks;
            "components": one a connected part (8 neighbours); "largest": the largest part of each mask alone.
            Annotations without a mask are kept by every policy.
        boxes: where an annotation has a box and a mask and is kept whole: the box as "given", or tight round
            the "mask". Boxes of unions and parts are always tight.
        rules: what is too small.
    """
    regions: list[Region] = []
    drops: list[Drop] = []
    parts = clipped = 0
    annotations = list(_united(image.regions)) if policy == "union" else list(enumerate(image.regions))
    for index, source in annotations:
        found = _candidates(source, policy, boxes, rules, image.size)
        parts += len(found) - 1
        for box, part, reason in found:
            if reason is not None:
                drops.append(Drop(index, source.label, reason))
                continue
            inside = _clip(box, image.size)
            clipped += not np.array_equal(inside, box)
            regions.append(_region(source, index, inside, part, image.size))
    merged = len(image.regions) - len(annotations)
    return RegionSet(tuple(regions), tuple(drops), parts, merged, clipped)


def _candidates(
    source: SourceRegion, policy: Policy, boxes: BoxSource, rules: RegionRules, size: tuple[int, int]
) -> list[tuple[Box, _Part | None, Reason | None]]:
    """What an annotation stands for, and what is wrong with each; never an empty list."""
    if source.mask is None:
        assert source.box is not None  # SourceRegion refuses to have neither
        return [(source.box, None, _wrong_box(source.box, size, rules))]
    whole = _cut(source.mask)
    if whole is None:
        return [(np.zeros(4), None, "empty mask")]
    if policy in ("keep", "union"):
        box = source.box if source.box is not None and boxes == "given" else whole.box
        return [(box, whole, _speck(whole, size, rules) or _wrong_box(box, size, rules))]
    found = _connected(whole)
    largest = max(found, key=lambda part: part.area)  # of two alike, the upper one
    return [(part.box, part, _wrong_part(part, largest, policy, size, rules)) for part in found]


def _wrong_part(
    part: _Part, largest: _Part, policy: Policy, size: tuple[int, int], rules: RegionRules
) -> Reason | None:
    if reason := _speck(part, size, rules):
        return reason
    if policy == "largest" and part is not largest:
        return "not the largest"
    return _wrong_box(part.box, size, rules)


def _region(source: SourceRegion, index: int, box: Box, part: _Part | None, size: tuple[int, int]) -> Region:
    if part is None:
        area = float((box[2] - box[0]) * (box[3] - box[1]))
        return Region(source.label, box, area, "", source, index)
    counts = encode_mask(part.pixels, part.top, part.left, size)
    return Region(source.label, box, float(part.area), counts, source, index)


def _united(sources: Sequence[SourceRegion]) -> Iterator[tuple[int, SourceRegion]]:
    """Annotations with the masks of one label in one, in the place of the first; boxes alone stay."""
    masks: dict[str, list[Mask]] = {}
    for source in sources:
        if source.mask is not None:
            masks.setdefault(source.label, []).append(source.mask)
    for index, source in enumerate(sources):
        if source.mask is None:
            yield index, source
        elif own := masks.pop(source.label, None):
            union = own[0] if len(own) == 1 else np.logical_or.reduce(own)
            yield index, SourceRegion(source.label, mask=union, attributes=source.attributes)


def _cut(mask: Mask) -> _Part | None:
    """The mask within its tight box, None where it is empty."""
    rows = np.flatnonzero(mask.any(axis=1))
    if rows.size == 0:
        return None
    top, bottom = int(rows[0]), int(rows[-1]) + 1
    columns = np.flatnonzero(mask[top:bottom].any(axis=0))
    left, right = int(columns[0]), int(columns[-1]) + 1
    pixels = mask[top:bottom, left:right]
    return _Part(pixels, top, left, int(np.count_nonzero(pixels)))


def _connected(whole: _Part) -> list[_Part]:
    """The parts of a mask that hang together over 8 neighbours, from the top down."""
    numbers, count = ndimage.label(whole.pixels, structure=_NEIGHBOURS)
    if count == 1:
        return [whole]
    areas = np.bincount(numbers.ravel(), minlength=count + 1)
    found = []
    for number, (rows, columns) in enumerate(ndimage.find_objects(numbers), start=1):
        pixels = numbers[rows, columns] == number
        found.append(_Part(pixels, whole.top + rows.start, whole.left + columns.start, int(areas[number])))
    return found


def _speck(part: _Part, size: tuple[int, int], rules: RegionRules) -> Reason | None:
    least = max(rules.min_area, rules.min_area_fraction * size[0] * size[1])
    return "speck" if part.area < least else None


def _wrong_box(box: Box, size: tuple[int, int], rules: RegionRules) -> Reason | None:
    """Why a box, not yet clipped, cannot stay."""
    height, width = size
    x1, y1, x2, y2 = box.tolist()
    if x2 <= x1 or y2 <= y1:
        return "degenerate box"
    if x2 <= 0 or y2 <= 0 or x1 >= width or y1 >= height:
        return "outside the picture"
    x1, y1, x2, y2 = max(x1, 0.0), max(y1, 0.0), min(x2, float(width)), min(y2, float(height))
    side = min((x2 - x1) * rules.training_size / width, (y2 - y1) * rules.training_size / height)
    return "tiny box" if side < rules.min_side else None


def _clip(box: Box, size: tuple[int, int]) -> Box:
    height, width = size
    return np.clip(box, 0.0, [width, height, width, height])


def encode_mask(pixels: Mask, top: int, left: int, size: tuple[int, int]) -> str:
    """COCO's compressed run lengths of a mask that is False outside a crop.

    The runs are found in the crop alone, which is far cheaper than in the picture; the string is the one that
    ``pycocotools.mask.encode`` gives for the whole mask.

    Args:
        pixels: (h, w) bool, the crop.
        top: the crop's first row in the picture.
        left: the crop's first column in the picture.
        size: (height, width) of the picture.
    """
    height, width = size
    rows, columns = pixels.shape
    padded = np.zeros((columns, rows + 1), dtype=np.int8)
    padded[:, :rows] = pixels.T
    changes = np.flatnonzero(np.diff(padded.ravel(), prepend=np.int8(0)))
    column, row = np.divmod(changes, rows + 1)
    edges = (left + column) * height + top + row
    if rows == height:  # a run may go on from the foot of one column to the head of the next
        joined = np.flatnonzero(edges[1:-1:2] == edges[2::2]) * 2 + 1
        edges = np.delete(edges, np.concatenate([joined, joined + 1]))
    ends = [0, *edges.tolist(), height * width]
    if ends[-2] == ends[-1]:
        ends.pop()
    counts = [b - a for a, b in pairwise(ends)]
    run_lengths = coco_mask.frPyObjects({"size": [height, width], "counts": counts}, height, width)
    return str(run_lengths["counts"].decode("ascii"))


def decode_mask(counts: str, size: tuple[int, int]) -> Mask:
    """(height, width) bool mask of COCO's compressed run lengths, as :func:`encode_mask` gives them."""
    mask: Mask = coco_mask.decode({"size": list(size), "counts": counts.encode("ascii")}).astype(bool)
    return mask
