"""YOLO: ``data.yaml``, and for each picture below ``images/`` a text file below ``labels/``.

A line is ``class cx cy w h`` as fractions of the picture, or ``class x1 y1 x2 y2 x3 y3 ...``, a polygon of
fractions. By the format's own rule a picture without a text file, or with an empty one, shows nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import yaml

from ...boxes import denormalize_boxes
from ..records import DatasetInfo, SourceImage, SourceRegion, Unit, UnitError
from .annotations import Record, box_of, inside, parsed, picture_of_size, read_text, split_name
from .segmentation import polygons_mask

PICTURE_SUFFIXES: Final = frozenset((".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp"))
_REACH: Final = 1.5
"""How far beyond the picture a fraction may lie; beyond that it is taken for pixels."""


@dataclass(frozen=True)
class Yolo:
    """A folder with ``data.yaml``.

    Attributes:
        root: the folder; pictures and labels lie below it, whatever ``path`` says.
        info: what the manifest says.
        exhaustive: whether every picture is annotated for every name of ``data.yaml``.
    """

    root: Path
    info: DatasetInfo
    exhaustive: bool = True

    def units(self) -> Iterator[Unit]:
        """One unit a picture, by split and name.

        Raises:
            UnitError: there is no ``data.yaml``, or the folders that it names are not there.
        """
        content = _data_yaml(self.root)
        names, seen = class_names(content.get("names"), str(self.root)), set[str]()
        for word in ("train", "val", "valid", "test"):
            places = content.get(word)
            for place in places if isinstance(places, list) else [places] if places else []:
                for picture in self._pictures(str(place)):
                    path = picture.relative_to(self.root).as_posix()
                    if path not in seen:  # some sets name one folder for two splits: the first has it
                        seen.add(path)
                        yield Unit(path, {"names": names, "split": split_name(word)})

    def read(self, unit: Unit) -> Iterator[SourceImage]:
        """One picture with the regions of its text file.

        Raises:
            UnitError: the picture is missing or broken, or a line is wrong.
        """
        names: dict[str, str] = unit.payload["names"]
        name = unit.key
        picture, size = picture_of_size(inside(self.root, name), None)
        labels = inside(self.root, _label_file(name))
        lines = labels.read_bytes().strip() and read_text(labels).splitlines() if labels.is_file() else []
        regions = tuple(
            _region(line.split(), names, size, f"{labels}, line {number}")
            for number, line in enumerate(lines, 1)
            if isinstance(line, str) and line.strip()
        )
        yield SourceImage(
            key=unit.key,
            picture=picture,
            size=size,
            regions=regions,
            annotated=tuple(dict.fromkeys(names.values())) if self.exhaustive else (),
            file_name=name,
            modality=self.info.modality,
            split=unit.payload["split"],
        )

    def _pictures(self, place: str) -> list[Path]:
        """The pictures of a folder, or those that a text file lists."""
        folder = self._place(place)
        if folder.is_dir():
            found = sorted(path for path in folder.rglob("*") if path.suffix.lower() in PICTURE_SUFFIXES)
        else:
            lines = [line.strip() for line in read_text(folder).splitlines()]
            found = [inside(self.root, line) for line in lines if line]
        if (
            found
            and not (self.root / _label_file(found[0].relative_to(self.root).as_posix())).parent.is_dir()
        ):
            raise UnitError(f"{folder}: has no labels/ beside its images/; a set without any is no YOLO set")
        return found

    def _place(self, place: str) -> Path:
        """A folder or list of ``data.yaml`` below the root; some writers put a "../" too many before it."""
        path = inside(self.root, place.removeprefix("../"))
        if not path.exists():
            raise UnitError(
                f"{self.root / 'data.yaml'}: names {place!r}, but {path} is not there; correct it"
            )
        return path


def class_names(names: Any, where: str) -> dict[str, str]:
    """The names of ``data.yaml`` (a list, or a mapping from numbers) by class number as text.

    Raises:
        UnitError: they are neither.
    """
    pairs = list(enumerate(names)) if isinstance(names, list) else names
    if isinstance(pairs, dict):
        pairs = list(pairs.items())
    if not isinstance(pairs, list) or not pairs:
        raise UnitError(
            f"{where}: data.yaml has no names; expected a list, or a mapping from numbers to names"
        )
    return {str(number): str(name) for number, name in pairs}


def _data_yaml(root: Path) -> Record:
    for name in ("data.yaml", "dataset.yaml", "data.yml"):
        if (root / name).is_file():
            try:
                content = yaml.safe_load(read_text(root / name))
            except (yaml.YAMLError, ValueError, RecursionError) as error:
                raise UnitError(f"{root / name}: is no YAML ({error}); correct it") from error
            if isinstance(content, dict):
                return content
            raise UnitError(f"{root / name}: expected a mapping with names, train and val; is it truncated?")
    raise UnitError(f"{root}: expected data.yaml there; give the folder that holds it")


def _label_file(picture: str) -> str:
    """The text file of a picture: the last folder "images" becomes "labels"."""
    parts = list(Path(picture).with_suffix(".txt").parts)
    places = [place for place, part in enumerate(parts[:-1]) if part == "images"]
    if places:
        parts[places[-1]] = "labels"
    return Path(*parts).as_posix()


def _region(words: list[str], names: dict[str, str], size: tuple[int, int], where: str) -> SourceRegion:
    number, *rest = words
    number = number.removesuffix(".0")
    if number not in names:
        raise UnitError(
            f"{where}: uses class {number!r}, data.yaml has {', '.join(names)}; correct one of them"
        )
    values = parsed(rest, "a box or polygon", where)
    if any(abs(value) > _REACH for value in values):
        raise UnitError(
            f"{where}: expected fractions of the picture from 0 to 1, got {rest[:4]}; are they pixels?"
        )
    height, width = size
    if len(values) == 4:
        if values[2] < 0 or values[3] < 0:
            raise UnitError(f"{where}: expected width and height of at least 0, got {rest[2:]}; correct them")
        return SourceRegion(names[number], denormalize_boxes(np.array([values]), size)[0])
    if len(values) < 6 or len(values) % 2:
        wanted = "class cx cy w h, or class and at least 3 points x y"
        raise UnitError(f"{where}: expected {wanted}, got {len(values)} numbers after the class; correct it")
    xs, ys = [x * width for x in values[::2]], [y * height for y in values[1::2]]
    ring = [value for point in zip(xs, ys, strict=True) for value in point]
    mask = polygons_mask([ring], size, where)
    box = box_of(min(xs), min(ys), max(xs), max(ys), where)
    return SourceRegion(names[number], box, mask if mask.any() else None, {"polygons": [ring]})
