"""Native rows as COCO json: ``<folder>/<data set>/<split>.json`` with the pictures in ``images/`` beside it.

Boxes are xywh in continuous pixels, masks run lengths, categories carry supercategory, granularity and
synonyms. COCO has no name for phrase, side, raw label, patient hash, modality, geometry, attributes of the
source or the labels that were looked for; they are written as extra fields, which other programs ignore and
:class:`grounding.data.readers.coco_json.CocoJson` reads back. So nothing is left out.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from ..schema import iterate_rows
from .report import (
    NOTICE,
    Category,
    ExportReport,
    PictureNames,
    Row,
    Tally,
    append_line,
    attributes_of,
    categories_of,
    lines_of,
    new_folder,
    safe_name,
    write_picture,
)

LOSSES: Final[tuple[str, ...]] = ()

_MOVED: Final = ("categories", "licence")
"""Attributes of an image that COCO has a place of its own for."""


def export_coco(source: Path, folder: Path, split: str | None = None) -> ExportReport:
    """Write a built data set as COCO.

    Args:
        source: what ``medglip data build`` wrote.
        folder: a new or empty folder.
        split: train, val or test; None for all.

    Raises:
        FileNotFoundError: the source is no built data set.
        FileExistsError: the folder holds files.
    """
    categories = categories_of(source, split)
    new_folder(folder)
    tally, names, writers = Tally(LOSSES, categories), PictureNames(), dict[tuple[str, str], _Writer]()
    for row in iterate_rows(source, split):
        place = (row["dataset"], row["split"])
        if place not in writers:
            target = folder / safe_name(row["dataset"]) / f"{row['split']}.json"
            writers[place] = _Writer(target, categories[row["dataset"]])
        writers[place].add(row, names.of(row))
        tally.add(row)
    for writer in writers.values():
        writer.finish()
    return tally.report(folder)


class _Writer:
    """One json file; its images and annotations wait in files beside it, so that memory stays flat."""

    def __init__(self, path: Path, categories: Mapping[str, Category]) -> None:
        self._path, self._categories = path, categories
        self._numbers = {name: number for number, name in enumerate(categories, 1)}
        self._licences: dict[str, dict[str, Any]] = {}
        self._images = self._annotations = 0

    def add(self, row: Row, name: str) -> None:
        write_picture(self._path.parent / "images" / name, row)
        self._images += 1
        licence = self._licence(row)
        append_line(self._part("images"), image_record(row, name) | {"id": self._images, "license": licence})
        for region in row["regions"]:
            self._annotations += 1
            record = annotation_record(region, (row["height"], row["width"])) | {
                "id": self._annotations,
                "image_id": self._images,
                "category_id": self._numbers[region["label"]],
            }
            append_line(self._part("annotations"), record)

    def finish(self) -> None:
        """Join the parts; the json appears at once and whole."""
        head = {
            "info": {"description": f"{self._path.parent.name} {self._path.stem}. {NOTICE}"},
            "licenses": list(self._licences.values()),
            "categories": [
                category_record(c) | {"id": self._numbers[c.name]} for c in self._categories.values()
            ],
        }
        whole = self._path.with_suffix(".json.part")
        with whole.open("w", encoding="utf-8") as file:
            file.write(json.dumps(head, ensure_ascii=False)[:-1])
            for name in ("images", "annotations"):
                file.write(f', "{name}": [')
                for number, line in enumerate(lines_of(self._part(name))):
                    file.write(("," if number else "") + "\n" + line)
                file.write("]")
                self._part(name).unlink(missing_ok=True)
            file.write("}\n")
        whole.replace(self._path)

    def _part(self, name: str) -> Path:
        return self._path.with_suffix(f".{name}.part")

    def _licence(self, row: Row) -> Any:
        stated = attributes_of(row).get("licence")
        record: dict[str, Any] = dict(stated) if isinstance(stated, dict) else {"name": row["licence"]}
        record.pop("id", None)
        text = json.dumps(record, sort_keys=True)
        return self._licences.setdefault(text, {"id": len(self._licences) + 1, **record})["id"]


def image_record(row: Row, name: str) -> dict[str, Any]:
    """COCO's image record of a row, without ids; what is not known is left out."""
    attributes = {key: value for key, value in attributes_of(row).items() if key not in _MOVED}
    known = {
        "modality_code": row["modality"],
        "slice_index": row["slice_index"] if row["slice_index"] >= 0 else None,
        "source_file_name": row["file_name"],
        "attributes": attributes,
        **{
            field: row[field] for field in ("image_id", "dataset", "body_region", "patient", "series", "axis")
        },
        **{
            field: row[field] for field in ("window", "orientation", "spacing_mm", "perceptual_hash", "split")
        },
        **{field: row[field] for field in ("annotated_labels", "absent_labels")},
    }
    filled = {field: value for field, value in known.items() if value not in (None, "", [], {})}
    return {"file_name": name, "width": row["width"], "height": row["height"], **filled}


def annotation_record(region: Row, size: tuple[int, int]) -> dict[str, Any]:
    """COCO's annotation of a region, without ids; `size` is (height, width)."""
    x1, y1, x2, y2 = region["box"]
    attributes = attributes_of(region)
    record = {
        "bbox": [x1, y1, x2 - x1, y2 - y1],
        "area": region["area"],
        "iscrowd": int(bool(attributes.get("iscrowd"))),
        "segmentation": {"size": list(size), "counts": region["mask"]} if region["mask"] else [],
        **{name: region[name] for name in ("raw_label", "known", "granularity", "parent", "side", "phrase")},
        "source_index": region["source_index"],
    }
    return record | ({"attributes": attributes} if attributes else {})


def category_record(category: Category) -> dict[str, Any]:
    """COCO's category, without its id; what the source says of it stays where the ontology says nothing."""
    extras = dict(category.extras)
    return {
        **extras,
        "name": category.name,
        "supercategory": category.parent or str(extras.get("supercategory") or ""),
        "granularity": category.granularity or str(extras.get("granularity") or ""),
        "synonyms": extras.get("synonyms") or [],
    }
