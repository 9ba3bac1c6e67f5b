"""COCO's two ways to write a mask, polygons and run lengths, as (H, W) bool.

pycocotools reads and writes beyond its buffers when a polygon or a run-length string is malformed; so both
are checked here first. Knows no layout.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from pycocotools import mask as coco_mask

from ..records import UnitError
from .annotations import numbers

Mask = npt.NDArray[np.bool_]


def is_polygons(segmentation: object) -> bool:
    """Whether it is COCO's list of polygons, and not empty."""
    return isinstance(segmentation, list) and bool(segmentation)


def mask_of(segmentation: Any, size: tuple[int, int], where: str) -> Mask | None:
    """(H, W) bool of a COCO `segmentation`: polygons, run lengths, or nothing at all.

    Args:
        segmentation: [[x, y, x, y, ...], ...], {"size": [h, w], "counts": [...] | "..."}, [] or None.
        size: (height, width) of the image.
        where: what to call it in errors.

    Raises:
        UnitError: it is none of these, or made for another size.
    """
    if segmentation is None or segmentation == []:
        return None
    if isinstance(segmentation, list):
        return polygons_mask([numbers(ring, None, "a polygon", where) for ring in segmentation], size, where)
    if not isinstance(segmentation, dict) or "counts" not in segmentation:
        raise UnitError(f"{where}: expected polygons or run lengths, got {type(segmentation).__name__}")
    stated = tuple(int(side) for side in numbers(segmentation.get("size"), 2, "size of a mask", where))
    if stated != size:
        raise UnitError(f"{where}: its mask has (height, width) {stated}, the image {size}; correct it")
    counts = segmentation["counts"]
    if isinstance(counts, str):
        runs = decompressed(counts, where)
    else:
        lengths = np.asarray(numbers(counts, None, "run lengths", where), dtype=np.float64)
        runs = np.clip(lengths, -1, size[0] * size[1] + 1).astype(np.int64)  # what is outside does not add up
    return _mask_of_runs(runs, size, where)


def polygons_mask(rings: list[list[float]], size: tuple[int, int], where: str) -> Mask:
    """(H, W) bool: the union of polygons x, y, x, y, ... in pixels, rasterised as pycocotools does.

    Raises:
        UnitError: a polygon has less than three points, or lies far outside of the image.
    """
    height, width = size
    for ring in rings:
        if len(ring) < 6 or len(ring) % 2:
            raise UnitError(f"{where}: expected polygons of at least 3 points x, y, got {len(ring)} numbers")
        x, y = np.asarray(ring[::2]), np.asarray(ring[1::2])
        if x.min() < -width or y.min() < -height or x.max() > 2 * width or y.max() > 2 * height:
            raise UnitError(f"{where}: a polygon lies far outside of the image of {size}; is it in pixels?")
    packed = coco_mask.merge(coco_mask.frPyObjects(rings, height, width))
    return _mask_of_runs(decompressed(packed["counts"].decode(), where), size, where)


def decompressed(counts: str, where: str) -> npt.NDArray[np.int64]:
    """The run lengths of COCO's compressed string (pycocotools' `rleFrString`, for every damaged string too).

    A character holds 5 bits, low ones first; from the fourth run on, the difference to the run two before.

    Raises:
        UnitError: the string is damaged.
    """
    codes = np.frombuffer(counts.encode("utf-8"), dtype=np.uint8).astype(np.int64) - 48
    if codes.size == 0 or codes.min() < 0 or codes.max() > 63 or codes[-1] & 0x20:
        raise UnitError(f"{where}: its compressed run lengths are damaged or cut off; copy the file again")
    last = np.flatnonzero((codes & 0x20) == 0)
    first = np.concatenate(([0], last[:-1] + 1))
    place = np.arange(codes.size) - np.repeat(first, last - first + 1)
    if place.max() > 6:
        raise UnitError(f"{where}: a run length is longer than any image; the mask is damaged")
    runs = np.add.reduceat((codes & 0x1F) << (5 * place), first)
    negative = (codes[last] & 0x10) != 0
    runs -= np.where(negative, np.int64(1) << (5 * (place[last] + 1)), 0)
    runs[1::2] = np.cumsum(runs[1::2])
    runs[2::2] = np.cumsum(runs[2::2])
    return runs


def _mask_of_runs(runs: npt.NDArray[np.int64], size: tuple[int, int], where: str) -> Mask:
    """Runs of background and object in turn, down the columns."""
    height, width = size
    if runs.size == 0 or runs.min() < 0 or runs.max() > height * width or runs.sum() != height * width:
        raise UnitError(f"{where}: its run lengths do not add up to {height} x {width} pixels; copy it again")
    values = np.arange(runs.size) % 2 == 1
    return np.repeat(values, runs).reshape((width, height)).T
