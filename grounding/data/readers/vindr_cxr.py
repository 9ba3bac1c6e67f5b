"""VinDr-CXR: PhysioNet's ``annotations/annotations_{train,test}.csv`` or Kaggle's ``train.csv``.

A row is image_id, rad_id, class_name, x_min, y_min, x_max, y_max in pixels of the DICOM file. A train picture
was read by three radiologists: boxes of one finding that overlap become one box, the mean of its readers',
and `attributes` keep how many they were, of how many, and what each drew. The test boxes are one consensus
already. "No finding" is a reading without a box, so the picture is a negative for every finding of the files.
"""

from __future__ import annotations

import csv
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from io import StringIO
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from ...boxes import box_iou
from ...images import ImageError, open_source
from ..records import DatasetInfo, SourceImage, SourceRegion, Unit, UnitError, encode_png
from .annotations import Record, box_of, find_picture, parsed, picture_of_size, read_text, size_of, split_name

NO_FINDING: Final = "no finding"
_INDEXES: Final = (
    "annotations/annotations_train.csv",
    "annotations/annotations_test.csv",
    "train.csv",
    "test.csv",
)
_CORNERS: Final = ("x_min", "y_min", "x_max", "y_max")
_SUFFIXES: Final = (".dicom", ".dcm", ".png", ".jpg", ".jpeg")
_OVERHANG: Final = 2.0
"""Pixels that a box may reach beyond its picture before the picture is taken for one of another size."""


@dataclass(frozen=True)
class VinDrCxr:
    """A folder of PhysioNet's or Kaggle's release.

    Attributes:
        root: the folder; the pictures (DICOM, PNG or JPEG of the DICOM's size) lie in train/ and test/, in
            images/, or beside the csv.
        info: what the manifest says; a modality that it leaves open is DX.
        merge_iou: from which overlap with a box of the other readers a box is the same finding; the
            competition scored at 0.4.
    """

    root: Path
    info: DatasetInfo
    merge_iou: float = 0.4

    def units(self) -> Iterator[Unit]:
        """One unit a picture.

        Raises:
            UnitError: there is no csv, or it lacks columns.
        """
        tables = {name: read_csv(self.root / name) for name in _INDEXES if (self.root / name).is_file()}
        tables = {name: rows for name, rows in tables.items() if "class_name" in rows[0]}  # not a file list
        if not tables:
            raise UnitError(f"{self.root}: expected one of {', '.join(_INDEXES)} there, with class_name")
        for name, rows in tables.items():
            if lacking := {"image_id", *_CORNERS} - rows[0].keys():
                raise UnitError(f"{self.root / name}: lacks the columns {sorted(lacking)}; correct it")
        found = {row["class_name"] for rows in tables.values() for row in rows}
        findings = sorted(name for name in found if name.strip().lower() != NO_FINDING)
        for name, rows in tables.items():
            split = split_name(Path(name).stem)
            pictures: dict[str, list[Record]] = defaultdict(list)
            for row in rows:
                pictures[row["image_id"]].append(row)
            for image, own in pictures.items():
                payload = {"index": name, "image": image, "rows": own, "split": split, "findings": findings}
                yield Unit(f"{split}/{image}", payload)

    def read(self, unit: Unit) -> Iterator[SourceImage]:
        """One picture with its findings.

        Raises:
            UnitError: the picture is missing, broken or of another size, or a row is wrong.
        """
        index, image, rows, split = (unit.payload[name] for name in ("index", "image", "rows", "split"))
        where = f"{self.root / index}: image {image}"
        picture, size, spacing = self._picture(image, split, where, rows[0])
        readers = {row["rad_id"] for row in rows if row.get("rad_id")}
        regions = list(_consensus(rows, len(readers), self.merge_iou, where))
        for region in regions:
            reach = region.box if region.box is not None else np.zeros(4)
            if reach[2] > size[1] + _OVERHANG or reach[3] > size[0] + _OVERHANG:
                raise UnitError(
                    f"{where}: the box {reach.tolist()} of {region.label} reaches beyond the picture of "
                    f"{size} (height, width); boxes are in pixels of the DICOM: use pictures of its size"
                )
        yield SourceImage(
            key=unit.key,
            picture=picture,
            size=size,
            regions=tuple(regions),
            annotated=tuple(unit.payload["findings"]),
            file_name=image,
            modality=self.info.modality or "DX",
            spacing_mm=spacing,
            split=split,
            attributes={"rad_ids": sorted(readers)} if readers else {},
        )

    def _picture(
        self, image: str, split: str, where: str, row: Record
    ) -> tuple[bytes, tuple[int, int], tuple[float, float] | None]:
        """PNG or JPEG bytes, (height, width) and, of a DICOM, the pixel spacing."""
        folders = [split, f"images/{split}", "images", ".", f"annotations/{split}"]
        path = _first(self.root, folders, image)
        if path.suffix not in (".dicom", ".dcm"):
            return *picture_of_size(path, size_of(row.get("height"), row.get("width"), where)), None
        try:
            rendered = open_source(path).render()
        except ImageError as error:
            raise UnitError(f"{path}: {error}") from error
        spacing = None if rendered.spacing is None else (rendered.spacing.row_mm, rendered.spacing.col_mm)
        return encode_png(rendered.pixels[:, :, 0]), rendered.size, spacing


def read_csv(path: Path) -> list[Record]:
    """The rows of a csv with a header.

    Raises:
        UnitError: it is missing, empty or cut off within a row.
    """
    try:
        rows: list[Record] = list(csv.DictReader(StringIO(read_text(path)), strict=True))
    except csv.Error as error:
        raise UnitError(f"{path}: is no csv, or truncated ({error}); copy it again") from error
    if not rows:
        raise UnitError(f"{path}: expected rows below its header; copy it again")
    if any(None in row or None in row.values() for row in rows):
        raise UnitError(f"{path}: has rows of another length than its header; it is truncated or no csv")
    return rows


def _first(root: Path, folders: Sequence[str], image: str) -> Path:
    for suffix in _SUFFIXES[:-1]:
        try:
            return find_picture(root, folders, image + suffix)
        except UnitError:
            continue
    return find_picture(root, folders, image + _SUFFIXES[-1])


@dataclass
class _Cluster:
    """Boxes of one finding that different readers drew over each other."""

    rows: list[tuple[str, npt.NDArray[np.float64]]] = field(default_factory=list)

    @property
    def mean(self) -> npt.NDArray[np.float64]:
        return np.mean([box for _, box in self.rows], axis=0)


def _consensus(rows: Sequence[Record], readers: int, merge_iou: float, where: str) -> Iterator[SourceRegion]:
    """One region a cluster, findings in the order of the file."""
    drawn: dict[str, list[tuple[str, npt.NDArray[np.float64]]]] = defaultdict(list)
    for row in rows:
        label = row["class_name"].strip()
        if label.lower() != NO_FINDING:
            x1, y1, x2, y2 = parsed([row.get(name) for name in _CORNERS], f"the box of {label!r}", where)
            drawn[label].append((row.get("rad_id") or "", box_of(x1, y1, x2, y2, where)))
    for label, boxes in drawn.items():
        for cluster in clusters(boxes, merge_iou):
            attributes: dict[str, Any] = {}
            if readers:
                attributes = {"readers": len(cluster.rows), "of_readers": readers}
                attributes["drawn"] = [{"rad_id": who, "box": box.tolist()} for who, box in cluster.rows]
            yield SourceRegion(label, cluster.mean, attributes=attributes)


def clusters(boxes: Sequence[tuple[str, npt.NDArray[np.float64]]], merge_iou: float) -> list[_Cluster]:
    """Boxes (reader, xyxy) joined greedily, in the order of readers.

    Each goes to the cluster whose mean it overlaps most, from `merge_iou` on, unless its reader is there
    already; a box of no reader ("") stays alone.
    """
    found: list[_Cluster] = []
    for who, box in sorted(boxes, key=lambda item: (item[0], item[1].tolist())):
        open_to = [c for c in found if who and who not in {name for name, _ in c.rows}]
        overlaps = [float(box_iou(box[None], cluster.mean[None])[0, 0]) for cluster in open_to]
        if overlaps and max(overlaps) >= merge_iou:
            open_to[int(np.argmax(overlaps))].rows.append((who, box))
        else:
            found.append(_Cluster([(who, box)]))
    return found
