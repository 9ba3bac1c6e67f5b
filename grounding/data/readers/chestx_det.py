"""ChestX-Det: ``ChestX_Det_{train,test}.json``, a list of {file_name, syms, boxes, polygons}.

The three lists run in parallel: a finding, its box xyxy in pixels, its outline [[x, y], ...]. Every picture
is read for all 13 findings, so a picture with empty lists is a negative for each. ChestX-Det10, the older set
in the same layout without polygons, is read too: give its ten findings.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from ..records import DatasetInfo, SourceImage, SourceRegion, Unit, UnitError
from .annotations import (
    Record,
    box_of,
    faulty,
    find_picture,
    numbers,
    picture_of_size,
    read_json,
    refuse_faulty,
    split_name,
    text_of,
    unique,
)
from .segmentation import polygons_mask

FINDINGS: Final = (
    *(
        "Atelectasis",
        "Calcification",
        "Cardiomegaly",
        "Consolidation",
        "Diffuse Nodule",
        "Effusion",
        "Emphysema",
    ),
    *("Fibrosis", "Fracture", "Mass", "Nodule", "Pleural Thickening", "Pneumothorax"),
)
"""The categories that the set's README lists."""

_FIELDS: Final = ("file_name", "syms", "boxes", "polygons")


@dataclass(frozen=True)
class ChestXDet:
    """A folder with the two json files and the unpacked ``train_data`` and ``test_data``.

    Attributes:
        root: the folder.
        info: what the manifest says; a modality that it leaves open is DX.
        findings: what was looked for in every picture.
    """

    root: Path
    info: DatasetInfo
    findings: tuple[str, ...] = FINDINGS

    def units(self) -> Iterator[Unit]:
        """One unit a picture.

        Raises:
            UnitError: there are no such files, or one is broken.
        """
        paths = sorted(path for path in self.root.glob("*.json") if split_name(path.stem))
        if not paths:
            raise UnitError(f"{self.root}: expected ChestX_Det_train.json or ChestX_Det_test.json there")
        for path in paths:
            records, split = read_json(path), split_name(path.stem)
            if not isinstance(records, list):
                raise UnitError(f"{path}: expected a list of records, got {type(records).__name__}")
            seen: set[str] = set()
            for number, record in enumerate(records):
                name = record.get("file_name") if isinstance(record, dict) else None
                if not isinstance(name, str) or not name:
                    yield faulty(
                        f"{split}/record-{number}", f"{path}: record {number} has no file_name; add it"
                    )
                else:
                    payload = {"index": path.name, "split": split, "record": record}
                    yield Unit(unique(f"{split}/{name}", seen), payload)

    def read(self, unit: Unit) -> Iterator[SourceImage]:
        """One picture with its findings.

        Raises:
            UnitError: the picture is missing or broken, or the lists do not fit.
        """
        refuse_faulty(unit)
        record, split = unit.payload["record"], unit.payload["split"]
        name, where = record["file_name"], f"{self.root / unit.payload['index']}: {record['file_name']}"
        folders = [f"{split}_data/{split}", f"{split}_data", split, "images", "."]
        picture, size = picture_of_size(find_picture(self.root, folders, name), None)
        yield SourceImage(
            key=unit.key,
            picture=picture,
            size=size,
            regions=tuple(_regions(record, size, where)),
            annotated=self.findings,
            file_name=name,
            modality=self.info.modality or "DX",
            split=split,
            attributes={
                k: v for k, v in record.items() if k not in ("file_name", "syms", "boxes", "polygons")
            },
        )


def _regions(record: Record, size: tuple[int, int], where: str) -> Iterator[SourceRegion]:
    lists: dict[str, list[Any]] = {}
    for name in _FIELDS[1:]:
        value = record.get(name) or []
        if not isinstance(value, list):
            raise UnitError(f"{where}: expected {name} to be a list, got {type(value).__name__}; correct it")
        lists[name] = value
    syms, boxes, polygons = lists.values()
    if len(boxes) not in (0, len(syms)) or len(polygons) not in (0, len(syms)):
        counts = f"{len(syms)} syms, {len(boxes)} boxes and {len(polygons)} polygons"
        raise UnitError(f"{where}: expected as many of each, got {counts}; correct the record")
    for number, sym in enumerate(syms):
        label = text_of(sym, "a finding of syms", where)
        outline = _outline(polygons[number], where) if polygons else None
        mask = polygons_mask([outline], size, where) if outline else None
        if boxes:
            x1, y1, x2, y2 = numbers(boxes[number], 4, f"the box of {label}", where)
        elif outline:
            (x1, x2), (y1, y2) = ((min(side), max(side)) for side in (outline[::2], outline[1::2]))
        else:
            raise UnitError(f"{where}: {label} has neither box nor polygon; add one or remove it")
        box = box_of(x1, y1, x2, y2, where)
        attributes = {"polygons": [outline]} if outline else {}
        yield SourceRegion(label, box, mask if mask is not None and mask.any() else None, attributes)


def _outline(points: Any, where: str) -> list[float]:
    """x, y, x, y, ... of [[x, y], ...]; nothing for an empty outline."""
    if not isinstance(points, list):
        raise UnitError(f"{where}: expected an outline [[x, y], ...], got {points!r}; correct it")
    return [value for point in points for value in numbers(point, 2, "a point of an outline", where)]
