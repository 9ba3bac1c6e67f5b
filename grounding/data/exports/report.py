"""What the exports share: folders, pictures written as they are stored, the categories, and losses counted.

A format is written by its own module: `export_coco`, `export_odvg`, `export_yolo`, `export_hf`. Every one
returns an :class:`ExportReport`, which says what the format had no place for.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from ..schema import iterate_rows

Row = Mapping[str, Any]

NOTICE: Final = "Research use only. Not for diagnosis or any clinical decision."

LOSSES: Final[Mapping[str, str]] = {
    "masks": "regions whose mask is reduced to its box",
    "raw labels": "regions whose own label at the source differs from the label written",
    "labels": "regions written under a phrase that differs from their label",
    "phrases": "regions whose phrase differs from the label written",
    "hierarchy": "regions with a granularity, parent or side",
    "region attributes": "regions with attributes of the source",
    "image attributes": "images with attributes of the source",
    "patients": "images with a patient or series, by which alone one may split anew",
    "geometry": "images with a slice, axis, window, orientation or spacing",
    "modalities": "images with a modality or body region",
    "absences": "images with labels that are known to be absent",
    "partial annotation": "images annotated for a part of the classes: trainers take the rest for absent",
}
"""Everything that a format may have no place for; each format names its own part of it."""


@dataclass(frozen=True)
class ExportReport:
    """What was written, and what was left out.

    Attributes:
        folder: where.
        images: how many.
        regions: how many.
        losses: by name of :data:`LOSSES`, in how many regions or images something was left out.
    """

    folder: Path
    images: int
    regions: int
    losses: Mapping[str, int]

    def __str__(self) -> str:
        """A few lines to print."""
        lines = [f"{self.folder}: {self.images} images, {self.regions} regions"]
        lines += [f"  left out: {name}: {count} {LOSSES[name]}" for name, count in self.losses.items()]
        return "\n".join(lines if self.losses else [*lines, "  nothing was left out"])


@dataclass
class Category:
    """A label of one data set, as its regions describe it."""

    name: str
    parent: str = ""
    granularity: str = ""
    extras: dict[str, Any] = field(default_factory=dict)


class Tally:
    """Counts what is written and what is lost."""

    def __init__(self, kinds: tuple[str, ...], classes: Mapping[str, Any]) -> None:
        """Count the losses of `kinds`; `classes` are the label lists by data set, for partial annotation."""
        self._kinds, self._classes = kinds, classes
        self._losses: Counter[str] = Counter()
        self._images = self._regions = 0

    def add(self, row: Row) -> None:
        """Count one row."""
        self._images += 1
        self._regions += len(row["regions"])
        self._losses += lost(row, len(self._classes[row["dataset"]]))

    def report(self, folder: Path) -> ExportReport:
        """What has been counted."""
        losses = {kind: self._losses[kind] for kind in self._kinds if self._losses[kind]}
        return ExportReport(folder, self._images, self._regions, losses)


def lost(row: Row, classes: int) -> Counter[str]:
    """What a row holds of each of :data:`LOSSES`; `classes` is the length of its data set's label list."""
    regions = row["regions"]
    counts = Counter(
        {
            "masks": sum(bool(region["mask"]) for region in regions),
            "raw labels": sum(region["raw_label"] != region["label"] for region in regions),
            "phrases": sum(region["phrase"] != region["label"] for region in regions),
            "hierarchy": sum(
                any(region[name] for name in ("granularity", "parent", "side")) for region in regions
            ),
            "region attributes": sum(bool(attributes_of(region)) for region in regions),
            "image attributes": int(bool(attributes_of(row))),
            "patients": int(bool(row["patient"] or row["series"])),
            "geometry": int(row["slice_index"] >= 0 or any(row[name] for name in _GEOMETRY)),
            "modalities": int(bool(row["modality"] or row["body_region"])),
            "absences": int(bool(row["absent_labels"])),
            "partial annotation": int(len(set(row["annotated_labels"])) < classes),
        }
    )
    counts["labels"] = counts["phrases"]
    return counts


_GEOMETRY: Final = ("axis", "window", "orientation", "spacing_mm")


def attributes_of(record: Row) -> dict[str, Any]:
    """The attributes of a row or a region."""
    attributes: dict[str, Any] = json.loads(record["attributes"] or "{}")
    return attributes


def categories_of(source: Path, split: str | None) -> dict[str, dict[str, Category]]:
    """The labels of each data set by name, sorted: those of its regions, and those that were looked for."""
    found: dict[str, dict[str, Category]] = {}
    for row in iterate_rows(source, split, pixels=False):
        own = found.setdefault(row["dataset"], {})
        for label in row["annotated_labels"]:
            own.setdefault(label, Category(label))
        described = attributes_of(row).get("categories", {})
        for region in row["regions"]:
            category = own.setdefault(region["label"], Category(region["label"]))
            category.parent = category.parent or region["parent"]
            category.granularity = category.granularity or region["granularity"]
            for name, value in described.get(region["raw_label"], {}).items():
                category.extras.setdefault(name, value)
    return {name: dict(sorted(own.items())) for name, own in sorted(found.items())}


def new_folder(folder: Path) -> Path:
    """The folder, made.

    Raises:
        FileExistsError: it holds files already, which an export would be mixed with.
    """
    if folder.exists() and any(folder.iterdir()):
        raise FileExistsError(f"{folder} is not empty; give a new folder, or remove it first")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def safe_name(text: str) -> str:
    """A name for a file or folder: letters, digits, point, dash and underscore."""
    return re.sub(r"[^A-Za-z0-9._-]+", "_", text).strip("._") or "_"


class PictureNames:
    """Gives every row a file name of its own, whatever its key holds and however file systems see case."""

    def __init__(self) -> None:
        """Nothing is taken yet."""
        self._taken: set[str] = set()

    def of(self, row: Row) -> str:
        """The name for the picture of a row, unique among all that were asked for."""
        key = row["image_id"].removeprefix(f"{row['dataset']}/")
        stem = re.sub(r"\.(png|jpe?g|bmp|tiff?|dcm|dicom)$", "", safe_name(key), flags=re.IGNORECASE)[-150:]
        suffix = "png" if row["image"]["bytes"].startswith(b"\x89PNG") else "jpg"
        name, number = f"{stem}.{suffix}", 1
        while f"{row['dataset']}/{name}".lower() in self._taken:
            number += 1
            name = f"{stem}-{number}.{suffix}"
        self._taken.add(f"{row['dataset']}/{name}".lower())
        return name


def write_picture(path: Path, row: Row) -> None:
    """The picture of a row, byte for byte."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(row["image"]["bytes"])


def append_line(path: Path, record: Mapping[str, Any]) -> None:
    """One more line of a jsonl file, which is not kept open: there may be hundreds."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(record, ensure_ascii=False) + "\n")


def lines_of(path: Path) -> Iterator[str]:
    """The lines of a file, none where it does not exist."""
    if path.is_file():
        with path.open(encoding="utf-8") as file:
            yield from (line.rstrip("\n") for line in file)
