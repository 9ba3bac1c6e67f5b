"""SAM-Med2D's own layout, which its users write for their data: one binary mask a part, named by its label.

Layout (``data_demo`` of the published repository; paths in the json start at the folder that holds it)::

    images/s0619_32.png                     case and slice
    masks/s0619_32_hip_left_001.png         image, label, part
    image2label_train.json                  {image: [mask, ...]}
    label2image_test.json                   {mask: image}

``image2label_*`` is read piece by piece; ``label2image_*`` is gathered in memory, since its masks may come in
any order, and is left aside where ``image2label_*`` of the same split says the same. `annotated` lists only
the labels present: the source left small masks out.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Final

from ..records import DatasetInfo, SourceImage, SourceRegion, Unit, UnitError, read_picture
from .annotations import split_name
from .json_stream import object_items
from .mask_files import CASE_AND_SLICE, case_and_slice, file_below, read_mask

INFO: Final = DatasetInfo(
    name="sam_med2d",
    attribution="Cheng et al., SAM-Med2D, arXiv 2308.16184; and the sets it is built from",
    url="https://github.com/OpenGVLab/SAM-Med2D",
)

_LABEL_AND_PART: Final = re.compile(r"_(.+)_(\d{1,9})")


@dataclass(frozen=True)
class SamMed2D:
    """A folder in SAM-Med2D's layout.

    Attributes:
        root: the folder with images/, masks/ and the json files.
        info: what the manifest says; give it the modality, which the layout does not name.
        case_pattern: how an image's stem names case and slice, see
            :func:`grounding.data.readers.mask_files.case_and_slice`.
    """

    root: Path
    info: DatasetInfo = INFO
    case_pattern: str = CASE_AND_SLICE

    def units(self) -> Iterator[Unit]:
        """One unit an image: the json files by name, ``image2label_*`` in the order of the file."""
        whole = sorted(self.root.glob("image2label_*.json"))
        turned = sorted(self.root.glob("label2image_*.json"))
        if not whole and not turned:
            raise UnitError(f"{self.root}: expected image2label_*.json or label2image_*.json in it")
        splits = {_split(path) for path in whole}
        for path in whole:
            for image, masks in object_items(path):
                yield self._unit(path, image, masks)
        for path in turned:
            if _split(path) not in splits:
                for image, masks in _by_image(path).items():
                    yield self._unit(path, image, masks)

    def read(self, unit: Unit) -> Iterator[SourceImage]:
        """The image with its masks, a region each."""
        image, masks = unit.payload["image"], unit.payload["masks"]
        if not isinstance(masks, list) or not all(isinstance(mask, str) for mask in masks):
            raise UnitError(f"{image}: expected a list of mask files in the json; correct the json")
        picture, size = read_picture(self._path(image))
        regions = tuple(self._region(image, mask, size) for mask in masks)
        case, index = case_and_slice(PurePosixPath(image).stem, self.case_pattern)
        yield SourceImage(
            key=unit.key,
            picture=picture,
            size=size,
            regions=regions,
            annotated=tuple(dict.fromkeys(region.label for region in regions)),
            file_name=image,
            modality=self.info.modality,
            patient=case,
            series=case if index is not None else None,
            slice_index=index,
            split=unit.payload["split"],
        )

    def _unit(self, path: Path, image: str, masks: Any) -> Unit:
        split = _split(path)
        return Unit(f"{split}/{image}", {"image": image, "masks": masks, "split": split_name(split)})

    def _path(self, name: str) -> Path:
        """Where a path of the json lies: it starts beside `root`, or in it."""
        first, _, rest = PurePosixPath(name).as_posix().partition("/")
        beside = rest and first == Path(os.path.abspath(self.root)).name
        return file_below(self.root, rest if beside else name)

    def _region(self, image: str, mask: str, size: tuple[int, int]) -> SourceRegion:
        start, stem = PurePosixPath(image).stem, PurePosixPath(mask).stem
        found = _LABEL_AND_PART.fullmatch(stem.removeprefix(start))
        if found is None or not stem.startswith(start):
            raise UnitError(
                f"{mask}: expected a mask of {image}, called <image>_<label>_<part>.png; names with '--' are "
                "those of SA-Med2D-20M, which has its own reader"
            )
        pixels = read_mask(self._path(mask), size)
        return SourceRegion(found[1], mask=pixels, attributes={"part": int(found[2])})


def _split(path: Path) -> str:
    return path.stem.partition("_")[2]


def _by_image(path: Path) -> dict[str, Any]:
    """Image -> its masks, both in the order of the file."""
    images: dict[str, Any] = {}
    for mask, image in object_items(path):
        if not isinstance(image, str):
            raise UnitError(f"{path}: expected {{mask: image}}, got {image!r} for {mask!r}; correct it")
        images.setdefault(image, []).append(mask)
    return images
