"""COCO json: ours (``<split>.json`` beside ``images/``), plain (``annotations/instances_*.json``), Roboflow.

A box is xywh in continuous pixels. What the format does not name is kept in `attributes`: of an annotation
all its extra fields, its own id as ``source_id`` and its polygons as ``polygons``; of an image its extra
fields, ``source_id``, ``licence`` and, for the categories that occur in it, ``categories`` with synonyms and
the like. Patient identifiers go into `patient` alone. What `export_coco` writes reads back the same.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from ..coco import modality_code
from ..records import DatasetInfo, SourceImage, SourceRegion, Unit, UnitError
from .annotations import (
    Record,
    box_of,
    faulty,
    find_picture,
    numbers,
    parsed,
    picture_of_size,
    read_index,
    refuse_faulty,
    size_of,
    split_name,
    text_of,
    unique,
)
from .segmentation import is_polygons, mask_of

PATIENT_FIELDS: Final = ("group", "patient", "patient_id", "subject_id", "exam", "case", "study")
"""What images of one patient share, the widest first: a group joins a patient's near-duplicates too."""

_IMAGE_FIELDS: Final = {
    *("id", "file_name", "width", "height", "license", "modality_code", "attributes", "split", "series"),
    *("slice", "slice_index", "axis", "window", "orientation", "spacing_mm"),
    *("annotated_labels", "absent_labels", *PATIENT_FIELDS),
}
_ANNOTATION_FIELDS: Final = {"id", "image_id", "category_id", "bbox", "segmentation", "attributes"}
_KEYS: Final = ("images", "annotations", "categories")


@dataclass(frozen=True)
class CocoJson:
    """A folder with one or more COCO json files.

    Attributes:
        root: the folder; no picture outside of it is read.
        info: what the manifest says; :func:`coco_info` reads it from the json.
        exhaustive: whether every image is annotated for every category, so that one without a box is absent.
            An image that lists ``annotated_labels`` itself is believed either way.
        files: the json files, relative to `root`; empty: found by the layouts above.
    """

    root: Path
    info: DatasetInfo
    exhaustive: bool = True
    files: tuple[str, ...] = ()

    def units(self) -> Iterator[Unit]:
        """One unit an image; an annotation of no image is a unit of its own, which is refused when read.

        Raises:
            UnitError: there is no index, or it is broken.
        """
        for path in index_files(self.root, self.files):
            yield from self._units_of(path)

    def read(self, unit: Unit) -> Iterator[SourceImage]:
        """The image with its annotations.

        Raises:
            UnitError: the picture is missing or of another size, or an annotation is wrong.
        """
        refuse_faulty(unit)
        index, record = unit.payload["index"], unit.payload["image"]
        where = f"{self.root / index}: image {record['file_name']!r}"
        declared = size_of(record.get("height"), record.get("width"), where)
        path = find_picture(self.root, _picture_folders(index), record["file_name"])
        picture, size = picture_of_size(path, declared)
        names = {text_key(row["id"]): row["name"] for row in unit.payload["categories"]}
        regions = tuple(_region(item, names, size, where) for item in unit.payload["annotations"])
        attributes = _attributes(record, _IMAGE_FIELDS)
        if unit.payload["licence"]:
            attributes["licence"] = unit.payload["licence"]
        extras = {row["name"]: _category_extras(row) for row in unit.payload["categories"]}
        if any(extras.values()):
            attributes["categories"] = extras
        yield SourceImage(
            key=unit.key,
            picture=picture,
            size=size,
            regions=regions,
            annotated=tuple(unit.payload["annotated"]),
            file_name=record["file_name"],
            split=_split(record, Path(index)),
            attributes=attributes,
            modality=_modality(record) or self.info.modality,
            **_geometry(record, where),
        )

    def _units_of(self, path: Path) -> Iterator[Unit]:
        content, index = read_index(path, _KEYS), path.relative_to(self.root).as_posix()
        categories = {text_key(row.get("id")): row for row in content["categories"]}
        for row in categories.values():
            text_of(row.get("name"), "the name of a category", str(path))
        licences = {text_key(row.get("id")): row for row in _rows(content.get("licenses"))}
        counts = Counter(text_key(row.get("id")) for row in content["images"])
        annotations: dict[str, list[Record]] = defaultdict(list)
        prefix = index.removesuffix(".json")
        for row in content["annotations"]:
            if (image := text_key(row.get("image_id"))) in counts:
                annotations[image].append(row)
            else:
                lost = f"annotation {row.get('id')!r} names image {row.get('image_id')!r}, which is not there"
                yield faulty(
                    f"{prefix}/annotation-{row.get('id')}", f"{path}: {lost}; remove it or add the image"
                )
        every = [row["name"] for row in categories.values()] if self.exhaustive else []
        seen: set[str] = set()
        for record in content["images"]:
            own = annotations[text_key(record.get("id"))]
            key = unique(f"{prefix}/{record.get('file_name')}", seen)
            if fault := _fault(record, own, categories, counts):
                yield faulty(key, f"{path}: {fault}")
                continue
            used = {text_key(row["category_id"]) for row in own}
            payload = {
                "index": index,
                "image": record,
                "annotations": own,
                "categories": [row for name, row in categories.items() if name in used],
                "annotated": _strings(record.get("annotated_labels")) or every,
                "licence": licences.get(text_key(record.get("license"))),
            }
            yield Unit(key, payload)


def coco_info(root: Path, name: str = "") -> DatasetInfo:
    """What the json files of `root` say of themselves: licences, where they come from, the one modality.

    Raises:
        UnitError: there is no index, or it is broken.
    """
    content = read_index(index_files(root, ())[0], _KEYS)
    licences = _rows(content.get("licenses"))
    info = content["info"] if isinstance(content.get("info"), dict) else {}
    codes = {_modality(record) for record in content["images"]}
    return DatasetInfo(
        name=name or root.name,
        licence="; ".join(str(row["name"]) for row in licences if row.get("name")) or "not stated",
        attribution=str(info.get("source_repository") or info.get("contributor") or ""),
        url=next((str(row["url"]) for row in licences if row.get("url")), str(info.get("url") or "")),
        modality=codes.pop() if len(codes) == 1 else None,
    )


def index_files(root: Path, files: tuple[str, ...]) -> list[Path]:
    """The json files given, or those of the first layout that `root` has.

    Raises:
        UnitError: there are none.
    """
    if files:
        return [root / name for name in files]
    for pattern in ("*.json", "annotations/instances_*.json", "*/_annotations.coco.json"):
        if found := sorted(root.glob(pattern)):
            return found
    raise UnitError(
        f"{root}: expected <split>.json beside images/, annotations/instances_<split>.json, or "
        "<split>/_annotations.coco.json; give the folder that holds them"
    )


def text_key(identifier: object) -> str:
    """An id as text, since some writers give numbers here and strings there."""
    return str(identifier)


def _picture_folders(index: str) -> list[str]:
    """Where the pictures of an index may lie, relative to the root."""
    stem, parent = Path(index).stem, Path(index).parent.as_posix()
    split = stem.removeprefix("instances_")
    return list(dict.fromkeys(["images", f"images/{split}", split, parent, "."]))


def _fault(record: Record, own: list[Record], categories: Record, counts: Counter[str]) -> str:
    """What is wrong with an image record or the links of its annotations, or nothing."""
    name = record.get("file_name")
    if not isinstance(name, str) or not name:
        return f"image {record.get('id')!r} has no file_name; add it"
    if counts[text_key(record.get("id"))] > 1:
        return f"image {name!r} shares its id {record.get('id')!r} with another; number the images anew"
    unknown = [row.get("category_id") for row in own if text_key(row.get("category_id")) not in categories]
    return f"image {name!r} uses category {unknown[0]!r}, which is not in the list; add it" if unknown else ""


def _region(item: Record, names: Record, size: tuple[int, int], where: str) -> SourceRegion:
    where = f"{where}, annotation {item.get('id')!r}"
    label = names[text_key(item["category_id"])]
    segmentation = item.get("segmentation")
    mask = mask_of(segmentation, size, where)
    box = None
    if item.get("bbox") is not None or mask is None or not mask.any():
        x, y, width, height = numbers(item.get("bbox"), 4, "bbox", where)
        box = box_of(x, y, x + width, y + height, where)
    attributes = _attributes(item, _ANNOTATION_FIELDS)
    if is_polygons(segmentation):
        attributes["polygons"] = segmentation
    return SourceRegion(label, box, mask if mask is not None and mask.any() else None, attributes)


def _attributes(record: Record, fields: set[str]) -> dict[str, Any]:
    """What a record holds beside `fields`; a nested "attributes" (CVAT, our exports) joins it and wins."""
    extras = {key: value for key, value in record.items() if key not in fields}
    nested = record.get("attributes")
    if isinstance(nested, dict):
        extras.update({key: value for key, value in nested.items() if key not in PATIENT_FIELDS})
    extras.setdefault("source_id", record.get("id"))
    return extras


def _category_extras(row: Record) -> dict[str, Any]:
    return {key: value for key, value in row.items() if key not in ("id", "name")}


def _split(record: Record, index: Path) -> str | None:
    stated = record.get("split")
    return stated if isinstance(stated, str) else split_name(index.stem) or split_name(index.parent.name)


def _geometry(record: Record, where: str) -> dict[str, Any]:
    """Patient, series and place of a slice, as far as the record tells."""
    patient = next((str(record[name]) for name in PATIENT_FIELDS if record.get(name) not in (None, "")), None)
    place = record.get("slice_index", record.get("slice"))
    series = record.get("series") or (patient if place is not None else None)
    pairs = {name: record.get(name) or None for name in ("window", "spacing_mm")}
    orientation = _strings(record.get("orientation"))
    return {
        "patient": patient,
        "series": None if series is None else str(series),
        "slice_index": None if place is None else int(parsed([place], "slice", where)[0]),
        "axis": record["axis"] if isinstance(record.get("axis"), str) else None,
        "orientation": (orientation[0], orientation[1]) if len(orientation) == 2 else None,
        **{name: value and tuple(numbers(value, 2, name, where)) for name, value in pairs.items()},
    }


def _modality(record: Record) -> str | None:
    stated = {
        name: record[name] for name in ("modality_code", "modality") if isinstance(record.get(name), str)
    }
    return modality_code(stated) or None


def _strings(values: object) -> list[str]:
    return [str(value) for value in values] if isinstance(values, list) else []


def _rows(value: object) -> list[Record]:
    return [row for row in value if isinstance(row, dict)] if isinstance(value, list) else []
