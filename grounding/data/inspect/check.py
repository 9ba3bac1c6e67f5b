"""Looks for faults in a built data set: boxes, masks, labels, sides, pictures.

Owns what counts as a fault, and how bad it is. Changes nothing. Faults that need more than one row (leaks
between splits) are in `leaks.py`.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any, Final

import numpy as np
from PIL import Image
from pycocotools import mask as coco_mask

from ...boxes import box_iou
from ...ontology import Ontology
from ..readers.segmentation import decompressed
from ..records import UnitError
from ..schema import iterate_rows, shard_paths
from .faults import Fault
from .leaks import LeakFinder

SLACK: Final = 1.0
"""Pixels that a box may reach past the picture, or a mask past its box: rounding, not a fault."""
TINY_AREA: Final = 16.0
TINY_SIDE: Final = 2.0
DUPLICATE_IOU: Final = 0.95

_SIDE_WORDS: Final = frozenset(("left", "right"))


@dataclass(frozen=True)
class Report:
    """The outcome of a check.

    Attributes:
        faults: in the order of the rows, those of several rows last.
        images: images looked at.
        oriented: of these, images whose left and right are known and could be checked.
    """

    faults: tuple[Fault, ...]
    images: int
    oriented: int

    @property
    def failed(self) -> bool:
        """Whether there is an error among the faults."""
        return any(fault.severity == "error" for fault in self.faults)


def check(folder: Path, *, pixels: bool = False) -> Report:
    """Look through a native folder.

    Args:
        folder: what ``medglip data build`` wrote.
        pixels: also decode every picture, which takes much longer.

    Raises:
        FileNotFoundError: the folder is no built data set.
    """
    shard_paths(folder)
    known = frozenset((*Ontology.load().names, *Ontology.load().regions))
    faults: list[Fault] = []
    leaks, unknown, first = LeakFinder(), Counter[str](), dict[str, str]()
    images = oriented = 0
    for row in iterate_rows(folder, pixels=pixels):
        images += 1
        oriented += side_axis(row) is not None
        faults += row_faults(row)
        leaks.add(row)
        for region in row["regions"]:
            if region["label"] not in known:
                unknown[region["label"]] += 1
                first.setdefault(region["label"], row["image_id"])
    faults += [_unknown_label(label, count, first[label]) for label, count in sorted(unknown.items())]
    faults += leaks.find()
    return Report(tuple(faults), images, oriented)


def row_faults(row: Mapping[str, Any]) -> Iterator[Fault]:
    """The faults of one native row; the picture is decoded where the row has the column ``image``."""
    boxes = [find(row, region) for region in row["regions"] for find in (_box_fault, _mask_fault, _raw_side)]
    yield from (fault for fault in boxes if fault is not None)
    yield from _duplicates(row)
    yield from _contradictions(row)
    yield from _swapped_sides(row)
    if "image" in row:
        yield from _picture_faults(row)


def side_axis(row: Mapping[str, Any]) -> tuple[int, int] | None:
    """Where the patient's left is in the picture: (0 = x or 1 = y, +1 where it grows to the left or -1).

    None where the orientation is unknown or the picture shows no left and right. `orientation` names the
    patient's direction along a row, then down a column (DICOM C.7.6.1.1.1).
    """
    for axis, letters in enumerate(row["orientation"] or ()):
        if letters[:1] in ("L", "R"):
            return axis, 1 if letters[0] == "L" else -1
    return None


def _box_fault(row: Mapping[str, Any], region: Mapping[str, Any]) -> Fault | None:
    box, height, width = region["box"], row["height"], row["width"]
    told = f"{region['label']}: box {_told(box)}"
    if len(box) != 4 or not np.isfinite(box).all():
        return _error(row, "no box", f"{told} is not four finite numbers", "correct the source, build again")
    x1, y1, x2, y2 = box
    if x2 <= x1 or y2 <= y1:
        kind = "inside out" if x2 < x1 or y2 < y1 else "empty"
        return _error(row, f"box {kind}", f"{told} is {kind}", "expected xyxy with x1 < x2 and y1 < y2")
    if x1 < -SLACK or y1 < -SLACK or x2 > width + SLACK or y2 > height + SLACK:
        remedy = "is it xywh, or of another resolution?"
        return _error(row, "box outside", f"{told} leaves the picture of {width} x {height}", remedy)
    if min(x2 - x1, y2 - y1) < TINY_SIDE or (x2 - x1) * (y2 - y1) < TINY_AREA:
        return _warning(row, "box tiny", f"{told} is tiny", "raise the builder's least area to drop it")
    return None


def _mask_fault(row: Mapping[str, Any], region: Mapping[str, Any]) -> Fault | None:
    if not region["mask"]:
        return None
    label, size = region["label"], (row["height"], row["width"])
    try:
        runs = decompressed(region["mask"], label)
    except UnitError as error:
        return _error(row, "mask broken", str(error), "build again")
    if runs.min() < 0 or runs.sum() != size[0] * size[1]:
        what = f"{label}: mask's run lengths do not add up to {size[0]} x {size[1]} pixels"
        return _error(row, "mask broken", what, "is the mask of another size? build again")
    total = int(runs[1::2].sum())
    if total == 0:
        return _error(row, "mask empty", f"{label}: mask has no pixel", "drop the region")
    if total != round(region["area"]):
        what = f"{label}: mask has {total} pixels, the row says {region['area']:g}"
        return _error(row, "mask area", what, "build again")
    x, y, width, height = coco_mask.toBbox({"size": size, "counts": region["mask"].encode()})
    x1, y1, x2, y2 = region["box"]
    past = max(x1 - x, y1 - y, x + width - x2, y + height - y2)
    if past > SLACK:
        what = f"{label}: mask reaches {past:g} px past its box {_told(region['box'])}"
        return _error(row, "mask outside box", what, "do mask and box belong together?")
    return None


def _raw_side(row: Mapping[str, Any], region: Mapping[str, Any]) -> Fault | None:
    """A side that the raw label states and the label turns round."""
    said = _SIDE_WORDS & set(re.findall(r"[a-z]+", region["raw_label"].lower()))
    if len(said) != 1 or not region["side"] or region["side"] in said:
        return None
    what = f"raw label {region['raw_label']!r} became the {region['side']} side ({region['label']!r})"
    return _error(row, "side changed", what, "correct the ontology or the label map of the build")


def _duplicates(row: Mapping[str, Any]) -> Iterator[Fault]:
    by_label: dict[str, list[list[float]]] = {}
    for region in row["regions"]:
        by_label.setdefault(region["label"], []).append(region["box"])
    for label, boxes in by_label.items():
        if len(boxes) < 2 or any(len(box) != 4 for box in boxes):
            continue
        array = np.asarray(boxes, dtype=np.float64)
        count = int((np.triu(box_iou(array, array), k=1) > DUPLICATE_IOU).sum())
        if count:
            what = f"{label}: {count} pair{'s' * (count > 1)} of boxes with IoU above {DUPLICATE_IOU}"
            yield _warning(row, "box twice", what, "merge the readers, or drop one of the two")


def _contradictions(row: Mapping[str, Any]) -> Iterator[Fault]:
    for label in sorted({region["label"] for region in row["regions"]} & set(row["absent_labels"])):
        what = f"{label!r} is listed as absent, and has a region"
        yield _error(row, "absent and present", what, "build again: negatives are labels without a region")


def _swapped_sides(row: Mapping[str, Any]) -> Iterator[Fault]:
    """Twins ("left kidney", "right kidney") in the wrong order along the patient's left-right axis."""
    if (known := side_axis(row)) is None:
        return
    axis, sign = known
    spans: dict[str, dict[str, list[tuple[float, float]]]] = {}
    for region in row["regions"]:
        if region["side"] and len(region["box"]) == 4:
            twin = " ".join(word for word in region["label"].split() if word not in _SIDE_WORDS)
            span = (region["box"][axis], region["box"][axis + 2])
            spans.setdefault(twin, {}).setdefault(region["side"], []).append(span)
    for twin, sides in spans.items():
        if len(sides) != 2:
            continue
        left, right = (np.asarray(sides[side]) * sign for side in ("left", "right"))
        if left.mean() < right.mean():
            apart = left.max() < right.min()
            what = f"left {twin} lies on the right of right {twin}, by the orientation {row['orientation']}"
            remedy = "is the picture mirrored, the orientation wrong, or are the labels the viewer's?"
            yield (_error if apart else _warning)(row, "sides swapped", what, remedy)


def _picture_faults(row: Mapping[str, Any]) -> Iterator[Fault]:
    try:
        with Image.open(BytesIO(row["image"]["bytes"] or b"")) as picture:
            picture.load()
            size = (picture.height, picture.width)
    except Exception as error:  # Pillow raises what its decoders raise
        what = f"picture does not decode ({type(error).__name__}: {error})"
        yield _error(row, "picture broken", what, "look at the source's file, build again")
        return
    if size != (row["height"], row["width"]):
        what = f"picture is {size[1]} x {size[0]}, the row says {row['width']} x {row['height']}"
        yield _error(row, "picture size", what, "boxes are of the stated size: build again")


def _unknown_label(label: str, count: int, image_id: str) -> Fault:
    near = Ontology.load().suggest(label)
    remedy = f"nearest in the ontology: {', '.join(near)}" if near else "add it to grounding/labels.yaml"
    return Fault("warning", "label unknown", image_id, f"{label!r} ({count:,} regions) is no label", remedy)


def _told(box: Any) -> str:
    return f"({', '.join(f'{value:g}' for value in box)})"


def _error(row: Mapping[str, Any], kind: str, what: str, remedy: str) -> Fault:
    return Fault("error", kind, row["image_id"], what, remedy)


def _warning(row: Mapping[str, Any], kind: str, what: str, remedy: str) -> Fault:
    return Fault("warning", kind, row["image_id"], what, remedy)
