"""LabelMe: one JSON a picture, with shapes in continuous pixels, and the picture beside it or inside it.

rectangle: its two corners in any order. polygon, oriented_rectangle: a box and a mask. circle (centre, a
point of the rim): a box and a disc. mask: the PNG inside the shape, at its first corner. line, linestrip,
point, points: a box that may have no area, kept so that the builder drops and counts it. ``imageData`` is
what the annotator saw, so it goes before the file that ``imagePath`` names.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from PIL import Image

from ..records import DatasetInfo, SourceImage, SourceRegion, Unit, UnitError, decode_picture
from .annotations import (
    Record,
    box_of,
    find_picture,
    inside,
    numbers,
    picture_of_size,
    read_index,
    size_of,
    split_name,
    text_of,
)
from .segmentation import polygons_mask

_POLYGONS: Final = ("polygon", "oriented_rectangle")
_THIN: Final = ("line", "linestrip", "point", "points")
_SHAPE_FIELDS: Final = ("label", "points", "mask")
_FILE_FIELDS: Final = ("shapes", "imagePath", "imageData", "imageHeight", "imageWidth")


@dataclass(frozen=True)
class LabelMe:
    """A folder of LabelMe files, at any depth.

    Attributes:
        root: the folder; no picture outside of it is read.
        info: what the manifest says.
        labels: what was looked for in every picture, since the format has no list of it; empty: not known.
    """

    root: Path
    info: DatasetInfo
    labels: tuple[str, ...] = ()

    def units(self) -> Iterator[Unit]:
        """One unit a JSON file, by name.

        Raises:
            UnitError: there are none.
        """
        paths = sorted(self.root.rglob("*.json"))
        if not paths:
            raise UnitError(f"{self.root}: expected LabelMe files (*.json); give the folder that holds them")
        for path in paths:
            yield Unit(path.relative_to(self.root).with_suffix("").as_posix())

    def read(self, unit: Unit) -> Iterator[SourceImage]:
        """The picture of one file with its shapes.

        Raises:
            UnitError: the file or the picture is missing or broken, or the two do not fit.
        """
        path = inside(self.root, f"{unit.key}.json")
        content, where = read_index(path, ("shapes",)), str(path)
        name = content.get("imagePath") or ""
        name = str(name).replace("\\", "/")  # written on Windows
        picture, size = self._picture(content, name, Path(unit.key).parent.as_posix(), where)
        regions = tuple(
            _region(shape, size, f"{where}, shape {number}") for number, shape in enumerate(content["shapes"])
        )
        yield SourceImage(
            key=unit.key,
            picture=picture,
            size=size,
            regions=regions,
            annotated=self.labels,
            file_name=Path(name).name,
            modality=self.info.modality,
            split=next(filter(None, map(split_name, reversed(Path(unit.key).parent.parts))), None),
            attributes={key: value for key, value in content.items() if key not in _FILE_FIELDS},
        )

    def _picture(self, content: Record, name: str, folder: str, where: str) -> tuple[bytes, tuple[int, int]]:
        declared = size_of(content.get("imageHeight"), content.get("imageWidth"), where)
        if not content.get("imageData"):
            text_of(name, "imagePath, without imageData,", where)
            return picture_of_size(find_picture(self.root, [folder], name), declared)
        picture, size = decode_picture(
            _decoded(content["imageData"], "imageData", where), f"{where}, imageData"
        )
        if declared not in (None, size):
            raise UnitError(
                f"{where}: declares {declared}, its imageData has {size} (height, width); correct it"
            )
        return picture, size


def _region(shape: Record, size: tuple[int, int], where: str) -> SourceRegion:
    label = text_of(shape.get("label"), "the label", where)
    given = shape.get("points")
    if not isinstance(given, list) or not given:
        raise UnitError(f"{where}: expected points [[x, y], ...], got {given!r}; correct it")
    points = np.array([numbers(point, 2, "a point", where) for point in given])
    kind = shape.get("shape_type") or "polygon"  # before version 3 every shape was a polygon
    attributes = {
        key: value for key, value in shape.items() if key not in _SHAPE_FIELDS and value is not None
    }
    mask: npt.NDArray[np.bool_] | None
    if kind == "circle" and len(points) == 2:
        box, mask = _circle(points, size, where)
    else:
        (x1, y1), (x2, y2) = points.min(axis=0), points.max(axis=0)
        box, mask = box_of(x1, y1, x2, y2, where), _mask(kind, points, shape, size, where)
    if kind in _POLYGONS:
        attributes["polygons"] = [points.ravel().tolist()]
    return SourceRegion(label, box, mask if mask is not None and mask.any() else None, attributes)


def _mask(
    kind: Any, points: npt.NDArray[np.float64], shape: Record, size: tuple[int, int], where: str
) -> npt.NDArray[np.bool_] | None:
    """The mask of any shape but a circle, None for shapes without one."""
    if kind in _POLYGONS:
        return polygons_mask([points.ravel().tolist()], size, where)
    if kind == "mask" and len(points) == 2:
        return _embedded(shape, points, size, where)
    if kind in _THIN or (kind == "rectangle" and len(points) == 2):
        return None
    raise UnitError(
        f"{where}: expected a rectangle, circle or mask of 2 points, {', '.join((*_POLYGONS, *_THIN))}, "
        f"got {kind!r} of {len(points)} points; draw it as one of these"
    )


def _circle(
    points: npt.NDArray[np.float64], size: tuple[int, int], where: str
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_]]:
    """Box and disc of a circle; a pixel belongs to it where its centre does."""
    (x, y), radius = points[0], float(np.hypot(*(points[1] - points[0])))
    rows, columns = np.ogrid[: size[0], : size[1]]
    disc = (columns + 0.5 - x) ** 2 + (rows + 0.5 - y) ** 2 <= radius**2
    return box_of(x - radius, y - radius, x + radius, y + radius, where), disc


def _embedded(
    shape: Record, points: npt.NDArray[np.float64], size: tuple[int, int], where: str
) -> npt.NDArray[np.bool_]:
    """The PNG of a shape of type "mask", set into a picture of `size` with its corner at the first point."""
    data, (height, width) = decode_picture(_decoded(shape.get("mask"), "mask", where), f"{where}, mask")
    left, top = (round(value) for value in points[0])
    if left < 0 or top < 0 or left + width > size[1] or top + height > size[0]:
        raise UnitError(f"{where}: its mask of {height} x {width} does not fit into {size} (height, width)")
    whole = np.zeros(size, dtype=np.bool_)
    with Image.open(BytesIO(data)) as picture:
        whole[top : top + height, left : left + width] = np.asarray(picture.convert("L")) > 0
    return whole


def _decoded(text: object, what: str, where: str) -> bytes:
    try:
        return base64.b64decode(text_of(text, what, where), validate=True)
    except (binascii.Error, ValueError) as error:
        raise UnitError(f"{where}: expected {what} in base64 ({error}); save the file again") from error
