"""MS-CXR: phrases of radiology reports with their boxes, on pictures of MIMIC-CXR-JPG.

``MS_CXR_Local_Alignment_v*.csv`` has a row a box: dicom_id, category_name, label_text, path, x, y, w, h in
pixels, image_width, image_height, and from version 1.1.0 on a split; the ``.json`` beside it says the same in
COCO's layout and is read where there is no csv. A region's label is its category, its ``phrase`` is in
`attributes`. Only what a report mentions was boxed, so no label is taken for absent. Paths contain the
subject's number: it goes into `patient` alone, never into keys, names or messages.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ..records import DatasetInfo, SourceImage, SourceRegion, Unit, UnitError
from .annotations import (
    Record,
    box_of,
    faulty,
    find_picture,
    parsed,
    picture_of_size,
    read_index,
    refuse_faulty,
    size_of,
    split_name,
    text_of,
)
from .vindr_cxr import read_csv

_COLUMNS: Final = ("dicom_id", "category_name", "label_text", "path", "x", "y", "w", "h")
_SUBJECT: Final = re.compile(r"(?:^|/)p(\d{8})(?=/)")


@dataclass(frozen=True)
class MsCxr:
    """The folder of the annotations and that of MIMIC-CXR-JPG.

    Attributes:
        root: the folder with the csv or json.
        info: what the manifest says; a modality that it leaves open is DX.
        images: the folder of MIMIC-CXR-JPG that holds ``files/``, or ``files/`` itself; None: `root`.
    """

    root: Path
    info: DatasetInfo
    images: Path | None = None

    def units(self) -> Iterator[Unit]:
        """One unit a picture.

        Raises:
            UnitError: there is neither csv nor json, or it is broken.
        """
        pictures: dict[str, list[Record]] = defaultdict(list)
        for number, row in enumerate(self._rows()):
            if row.get("dicom_id") and isinstance(row.get("path"), str):
                pictures[row["dicom_id"]].append(row)
            else:
                yield faulty(
                    f"row-{number}", f"{self.root}: row {number} names no picture; add dicom_id and path"
                )
        for image, rows in pictures.items():
            yield Unit(image, {"rows": rows})

    def read(self, unit: Unit) -> Iterator[SourceImage]:
        """One picture with its phrases.

        Raises:
            UnitError: the picture is missing, broken or of another size, or a row is wrong.
        """
        refuse_faulty(unit)
        rows, where = unit.payload["rows"], f"{self.root}: picture {unit.key}"
        first = rows[0]
        declared = size_of(first.get("image_height"), first.get("image_width"), where)
        picture, size = self._picture(first["path"], unit.key, declared)
        subject = _SUBJECT.search(first["path"])
        yield SourceImage(
            key=unit.key,
            picture=picture,
            size=size,
            regions=tuple(_region(row, where) for row in rows),
            file_name=f"{unit.key}.jpg",
            modality=self.info.modality or "DX",
            patient=subject[1] if subject else None,
            split=split_name(str(first.get("split"))),
        )

    def _rows(self) -> list[Record]:
        """The rows of the newest version."""
        tables = sorted(self.root.glob("MS_CXR_Local_Alignment_v*.csv"))
        if tables:
            rows = read_csv(tables[-1])
            if lacking := [name for name in _COLUMNS if name not in rows[0]]:
                raise UnitError(f"{tables[-1]}: lacks the columns {', '.join(lacking)}; is it MS-CXR's csv?")
            return rows
        indexes = sorted(self.root.glob("MS_CXR_Local_Alignment_v*.json"))
        if not indexes:
            raise UnitError(f"{self.root}: expected MS_CXR_Local_Alignment_v*.csv or .json there")
        return _rows_of_json(indexes[-1])

    def _picture(
        self, path: str, name: str, declared: tuple[int, int] | None
    ) -> tuple[bytes, tuple[int, int]]:
        """The picture; what goes wrong is told by its own name, since its path names the subject."""
        root = self.images or self.root
        try:
            return picture_of_size(find_picture(root, ["."], _below(root, path)), declared)
        except UnitError as error:
            told = re.sub(r"\S*/p\d{2,}/[^\s:]*", f"{name}.jpg", str(error))
            raise UnitError(f"{told} (looked for below {root}, the folder of MIMIC-CXR-JPG)") from None


def _below(root: Path, path: str) -> str:
    """The path as it is, or without its leading "files/" where the root is that folder."""
    return path if (root / path).is_file() else path.removeprefix("files/")


def _rows_of_json(path: Path) -> list[Record]:
    """The annotations of the COCO-like json as rows of the csv."""
    content = read_index(path, ("images", "annotations", "categories"))
    images = {str(image.get("id")): image for image in content["images"]}
    names = {str(category.get("id")): category.get("name") for category in content["categories"]}
    rows: list[Record] = []
    for item in content["annotations"]:
        image = images.get(str(item.get("image_id")), {})
        box = item.get("bbox")
        rows.append(
            {
                "dicom_id": Path(str(image.get("file_name") or "")).stem,
                "category_name": names.get(str(item.get("category_id"))),
                "label_text": item.get("label_text"),
                "path": image.get("path"),
                **dict(zip("xywh", box if isinstance(box, list) else [], strict=False)),
                "image_height": image.get("height"),
                "image_width": image.get("width"),
                "split": image.get("split") or item.get("split"),
            }
        )
    return rows


def _region(row: Record, where: str) -> SourceRegion:
    label = text_of(row.get("category_name"), "category_name", where)
    phrase = text_of(row.get("label_text"), "label_text", where)
    x, y, width, height = parsed([row.get(name) for name in "xywh"], f"the box of {label!r}", where)
    return SourceRegion(label, box_of(x, y, x + width, y + height, where), attributes={"phrase": phrase})
