"""Pascal VOC: ``Annotations/**/*.xml`` with the pictures in ``JPEGImages/``, splits in ``ImageSets/Main``.

VOC counts pixels from 1 and its corners belong to the box; in continuous pixels with the origin at the
top-left corner, the box xmin..xmax of VOC is therefore (xmin - 1, ymin - 1, xmax, ymax). Many programs that
write this XML count from 0 without saying so: `one_based=False` takes their corners as they are.
Fields of an object beside name and box (pose, truncated, difficult, ...) are kept in `attributes`, and the
parts of an object become regions with ``part_of``. Masks (``SegmentationObject``) are not read.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element, TreeBuilder
from xml.parsers import expat

from ..records import DatasetInfo, SourceImage, SourceRegion, Unit, UnitError
from .annotations import (
    box_of,
    find_picture,
    inside,
    parsed,
    picture_of_size,
    read_bytes,
    size_of,
    split_name,
    text_of,
)


@dataclass(frozen=True)
class PascalVoc:
    """A folder in the layout of the VOC devkit.

    Attributes:
        root: the folder with ``Annotations`` and ``JPEGImages``.
        info: what the manifest says.
        labels: what was looked for in every image, since the format has no list of it; empty: not known.
        one_based: whether corners count from 1 and belong to the box, as VOC's own do.
    """

    root: Path
    info: DatasetInfo
    labels: tuple[str, ...] = ()
    one_based: bool = True

    def units(self) -> Iterator[Unit]:
        """One unit an XML file, by name.

        Raises:
            UnitError: there are none.
        """
        folder = self.root / "Annotations"
        paths = sorted(folder.rglob("*.xml"))
        if not paths:
            raise UnitError(f"{folder}: expected XML files; give the folder above Annotations and JPEGImages")
        splits = _splits(self.root / "ImageSets" / "Main")
        for path in paths:
            key = path.relative_to(folder).with_suffix("").as_posix()
            split = splits.get(key) or split_name(Path(key).parent.name)
            yield Unit(key, {"split": split})

    def read(self, unit: Unit) -> Iterator[SourceImage]:
        """The image of one XML file.

        Raises:
            UnitError: the XML or the picture is missing or broken, or the two do not fit.
        """
        path = inside(self.root, f"Annotations/{unit.key}.xml")
        tree, where = parse_xml(read_bytes(path), str(path)), str(path)
        if tree.tag != "annotation":
            raise UnitError(f"{path}: expected <annotation>, got <{tree.tag}>; is it a VOC file?")
        name = (tree.findtext("filename") or "").strip() or f"{Path(unit.key).name}.jpg"
        declared = size_of(tree.findtext("size/height"), tree.findtext("size/width"), where)
        parent = Path(unit.key).parent.as_posix()
        folders = ["JPEGImages", f"JPEGImages/{parent}", "images", f"Annotations/{parent}", "."]
        picture, size = picture_of_size(find_picture(self.root, folders, name), declared)
        regions: list[SourceRegion] = []
        for item in tree.iter("object"):
            regions.append(self._region(item, where, {}))
            whole = len(regions) - 1
            regions.extend(self._region(part, where, {"part_of": whole}) for part in item.iter("part"))
        yield SourceImage(
            key=unit.key,
            picture=picture,
            size=size,
            regions=tuple(regions),
            annotated=self.labels,
            file_name=name,
            modality=self.info.modality,
            split=unit.payload["split"],
            attributes=_leaves(tree, ("filename", "path")),  # the path is one of the annotator's machine
        )

    def _region(self, item: Element, where: str, attributes: dict[str, Any]) -> SourceRegion:
        label = text_of((item.findtext("name") or "").strip(), "the name of an object", where)
        corners = [item.findtext(f"bndbox/{name}") for name in ("xmin", "ymin", "xmax", "ymax")]
        x1, y1, x2, y2 = parsed(corners, f"the bndbox of {label!r}", where)
        first = 1.0 if self.one_based else 0.0
        box = box_of(x1 - first, y1 - first, x2, y2, where)
        return SourceRegion(label, box, attributes=_leaves(item, ("name",)) | attributes)


def parse_xml(data: bytes, where: str) -> Element:
    """The root of an XML file without a document type, so that nothing in it can expand or reach outside.

    Raises:
        UnitError: it is no XML, or declares a document type or entity.
    """

    def refuse(*_: object) -> None:
        raise UnitError(f"{where}: declares a document type or entity, which annotations need not; remove it")

    builder, parser = TreeBuilder(), expat.ParserCreate()
    parser.StartDoctypeDeclHandler = parser.EntityDeclHandler = refuse
    parser.StartElementHandler = builder.start
    parser.EndElementHandler = builder.end
    parser.CharacterDataHandler = builder.data
    try:
        parser.Parse(data, True)
        return builder.close()
    except (expat.ExpatError, AssertionError, ValueError) as error:
        raise UnitError(f"{where}: is no XML, or truncated ({error}); copy it again") from error


def _leaves(element: Element, without: tuple[str, ...]) -> dict[str, Any]:
    """The children that hold only text, by name."""
    return {
        child.tag: (child.text or "").strip()
        for child in element
        if len(child) == 0 and child.tag not in without and (child.text or "").strip()
    }


def _splits(folder: Path) -> dict[str, str]:
    """The split of each image by the lists train.txt, val.txt and test.txt."""
    found: dict[str, str] = {}
    for split in ("train", "val", "test"):
        path = folder / f"{split}.txt"
        if path.is_file():
            lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
            found.update({line.split()[0]: split for line in lines if line.strip()})
    return found
