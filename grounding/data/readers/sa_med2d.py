"""SA-Med2D-20M: pictures and one binary mask a connected part, everything else in their names.

Layout (the folder ``SAMed2Dv1`` of the published archive)::

    images/ct_00--AbdomenCT1K--Case_00011--x_0040.png            modality_sub--set--case--direction_slice
    masks/ct_00--AbdomenCT1K--Case_00011--x_0040--0000_001.png   the same, then class id and part
    SAMed2D_v1.json                                              {image: [mask, ...]}
    SAMed2D_v1_class_mapping_id.json                             {set: {class name: class id}}

The index is read piece by piece. A mask whose class id the mapping does not name, or names twice, makes the
image unreadable: a label that nobody can look up is of no use, and leaving the mask out would make its
structure look absent. `annotated` lists only the labels present, because the source left small masks out: a
class without a mask is not known to be absent. x, y and z are axes of the source's arrays and not of the
patient, so `axis` stays None; two-dimensional sets are x_0000 throughout.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Final

from ..records import DatasetInfo, SourceImage, SourceRegion, Unit, UnitError, read_picture
from .annotations import read_json
from .json_stream import object_items
from .mask_files import code_of_word, file_below, read_mask

INFO: Final = DatasetInfo(
    name="sa_med2d_20m",
    licence="CC BY-NC-SA 4.0",
    attribution="Ye et al., SA-Med2D-20M Dataset: Segment Anything in 2D Medical Imaging with 20 Million "
    "masks, arXiv 2311.11969; and the sets it is built from",
    url="https://huggingface.co/datasets/OpenGVLab/SA-Med2D-20M",
)

_Classes = Mapping[str, Mapping[int, str | None]]
_PLACE: Final = re.compile(r"([a-z]+)_(\d{1,9})")
_MASK: Final = re.compile(r"(\d{1,9})_(\d{1,9})")


@dataclass(frozen=True)
class _Name:
    """What the name of an image says."""

    modality: str
    dataset: str
    case: str
    direction: str
    index: int


@dataclass(frozen=True)
class SaMed2D:
    """SA-Med2D-20M as published.

    Attributes:
        root: the folder with images/, masks/ and the two json files.
        info: what the manifest says.
        index: the json of images and masks; name a part of it to read a part of the set.
        mapping: the json of class names.
    """

    root: Path
    info: DatasetInfo = INFO
    index: str = "SAMed2D_v1.json"
    mapping: str = "SAMed2D_v1_class_mapping_id.json"

    def units(self) -> Iterator[Unit]:
        """One unit an image, in the order of the index."""
        classes = _class_names(file_below(self.root, self.mapping))
        for image, masks in object_items(file_below(self.root, self.index)):
            yield Unit(image, {"masks": _labelled(image, masks, classes)})

    def read(self, unit: Unit) -> Iterator[SourceImage]:
        """The image with its masks, a region each."""
        name = _parse(unit.key)
        if unit.payload["masks"] is None:
            raise UnitError(f"{unit.key}: expected a list of mask files in {self.index}; correct the index")
        picture, size = read_picture(file_below(self.root, unit.key))
        regions = tuple(
            self._region(unit.key, name, mask, label, size) for mask, label in unit.payload["masks"]
        )
        patient = f"{name.dataset}--{name.case}"
        yield SourceImage(
            key=unit.key,
            picture=picture,
            size=size,
            regions=regions,
            annotated=tuple(dict.fromkeys(region.label for region in regions)),
            file_name=unit.key,
            modality=code_of_word(name.modality),
            patient=patient,
            series=f"{name.modality}--{patient}--{name.direction}",
            slice_index=name.index,
            attributes={
                "source_dataset": name.dataset,
                "source_modality": name.modality,
                "slice_direction": name.direction,
            },
        )

    def _region(
        self, image: str, name: _Name, mask: str, label: str | None, size: tuple[int, int]
    ) -> SourceRegion:
        class_id, part = _class_and_part(image, mask)
        if label is None:
            raise UnitError(
                f"{mask}: class {class_id} of {name.dataset!r} has no name, or two, in {self.mapping}; "
                "complete the mapping"
            )
        pixels = read_mask(file_below(self.root, mask), size)
        return SourceRegion(label, mask=pixels, attributes={"class_id": class_id, "part": part})


def _class_names(path: Path) -> _Classes:
    """Data set -> class id -> name, None for an id that two names share."""
    content = read_json(path)
    if not isinstance(content, dict) or not all(isinstance(names, dict) for names in content.values()):
        raise UnitError(f"{path}: expected {{data set: {{class name: class id}}}}; is it the right file?")
    classes: dict[str, dict[int, str | None]] = {}
    for dataset, ids in content.items():
        names = classes.setdefault(dataset, {})
        for name, number in ids.items():
            if not name or not re.fullmatch(r"\d{1,9}", str(number)):
                raise UnitError(f"{path}: class {name!r} of {dataset!r} has the id {number!r}; correct it")
            names[int(number)] = None if int(number) in names else name
    return classes


def _labelled(image: str, masks: Any, classes: _Classes) -> list[list[str | None]] | None:
    """[mask, label or None] of each mask; None where the index holds no list of names."""
    if not isinstance(masks, list) or not all(isinstance(mask, str) for mask in masks):
        return None
    names = classes.get(([*image.split("--"), ""])[1], {})
    labelled: list[list[str | None]] = []
    for mask in masks:
        found = _MASK.fullmatch(PurePosixPath(mask).stem.rpartition("--")[2])
        labelled.append([mask, names.get(int(found[1])) if found else None])
    return labelled


def _parse(image: str) -> _Name:
    modality, *rest = PurePosixPath(image).stem.split("--")
    place = _PLACE.fullmatch(rest[-1]) if len(rest) >= 3 else None
    if not modality or place is None or not rest[0] or not any(rest[1:-1]):
        raise UnitError(
            f"{image}: expected a name <modality>_<sub-modality>--<set>--<case>--<direction>_<slice>.png"
        )
    return _Name(modality, rest[0], "--".join(rest[1:-1]), place[1], int(place[2]))


def _class_and_part(image: str, mask: str) -> tuple[int, int]:
    stem, _, ending = PurePosixPath(mask).stem.rpartition("--")
    found = _MASK.fullmatch(ending)
    if found is None or stem != PurePosixPath(image).stem:
        raise UnitError(f"{mask}: expected a mask of {image}, called <image>--<class id>_<part>.png")
    return int(found[1]), int(found[2])
