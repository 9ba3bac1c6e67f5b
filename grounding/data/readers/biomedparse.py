"""BiomedParse: pictures and binary masks whose names say modality, site and target.

Layout (one folder a set, as published and as its users write their own)::

    train/image001_CT_abdomen.png                     [NAME]_[MODALITY]_[SITE].png
    train_mask/image001_CT_abdomen_left+kidney.png    the same, then [TARGET]: no "_", "+" for a space
    test/ test_mask/

The texts that ``train.json`` adds are left aside: they are made of the names. An image without masks is read
without regions. `annotated` lists the targets present unless `exhaustive`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ..records import DatasetInfo, SourceImage, SourceRegion, Unit, UnitError, read_picture
from .annotations import split_name
from .mask_files import CASE_AND_SLICE, case_and_slice, code_of_word, file_below, read_mask

INFO: Final = DatasetInfo(
    name="biomedparse",
    licence="CC BY-NC-SA 4.0",
    attribution="Zhao et al., A foundation model for joint segmentation, detection and recognition of "
    "biomedical objects across nine modalities, Nature Methods 2024 (BiomedParseData); and the source set",
    url="https://huggingface.co/datasets/microsoft/BiomedParseData",
)


@dataclass(frozen=True)
class BiomedParse:
    """One set of BiomedParseData.

    Attributes:
        root: the folder with train/ and train_mask/, test/ and test_mask/.
        info: what the manifest says; give each source set its own name and licence.
        exhaustive: whether a target of the split is absent from every image of the same modality and site
            that has no mask of it, as BiomedParse's own sampler of negatives takes for granted.
        case_pattern: how [NAME] names case and slice, see
            :func:`grounding.data.readers.mask_files.case_and_slice`.
    """

    root: Path
    info: DatasetInfo = INFO
    exhaustive: bool = False
    case_pattern: str = CASE_AND_SLICE

    def units(self) -> Iterator[Unit]:
        """One unit an image, by split and name; a mask without its image is a unit that cannot be read."""
        splits = [name.removesuffix("_mask") for name in _names(self.root) if name.endswith("_mask")]
        if not splits:
            raise UnitError(f"{self.root}: expected folders such as train/ and train_mask/ in it")
        for split in splits:
            masks: dict[str, list[str]] = {}
            targets: dict[str, dict[str, None]] = {}
            for name in _pictures(self.root / f"{split}_mask"):
                stem, _, target = name.removesuffix(".png").rpartition("_")
                masks.setdefault(stem, []).append(name)
                targets.setdefault(_kind(stem), {})[_label(target)] = None
            images = {name.removesuffix(".png") for name in _pictures(self.root / split)}
            for stem in sorted(images | set(masks)):
                looked_for = list(targets.get(_kind(stem), {})) if self.exhaustive else []
                payload = {"split": split, "masks": masks.get(stem, []), "looked_for": looked_for}
                yield Unit(f"{split}/{stem}.png", payload)

    def read(self, unit: Unit) -> Iterator[SourceImage]:
        """The image with its masks, a region each."""
        split = unit.payload["split"]
        name, modality, site = _parse(unit.key)
        picture, size = read_picture(file_below(self.root, unit.key))
        regions = tuple(self._region(f"{split}_mask/{mask}", size) for mask in unit.payload["masks"])
        case, index = case_and_slice(name, self.case_pattern)
        yield SourceImage(
            key=unit.key,
            picture=picture,
            size=size,
            regions=regions,
            annotated=tuple(
                dict.fromkeys([*(region.label for region in regions), *unit.payload["looked_for"]])
            ),
            file_name=unit.key,
            modality=code_of_word(modality) or self.info.modality,
            patient=case,
            series=f"{case} {modality}" if index is not None else None,
            slice_index=index,
            split=split_name(split),
            attributes={"source_modality": modality, "site": site},
        )

    def _region(self, mask: str, size: tuple[int, int]) -> SourceRegion:
        label = _label(Path(mask).stem.rpartition("_")[2])
        if not label:
            raise UnitError(f"{mask}: expected a name [NAME]_[MODALITY]_[SITE]_[TARGET].png, got no target")
        return SourceRegion(label, mask=read_mask(file_below(self.root, mask), size))


def _label(target: str) -> str:
    return target.replace("+", " ").strip()


def _kind(stem: str) -> str:
    """Modality and site, which decide what is looked for in an image."""
    return "_".join(stem.split("_")[-2:])


def _parse(image: str) -> tuple[str, str, str]:
    name, *rest = Path(image).stem.rsplit("_", 2)
    if len(rest) != 2 or not name or not all(rest):
        raise UnitError(f"{image}: expected a name [NAME]_[MODALITY]_[SITE].png; rename it and its masks")
    return name, rest[0].replace("+", " "), rest[1].replace("+", " ")


def _names(folder: Path) -> list[str]:
    try:
        return sorted(os.listdir(folder))
    except OSError as error:
        raise UnitError(
            f"{folder}: cannot be listed ({error.strerror}); is the data set complete?"
        ) from error


def _pictures(folder: Path) -> list[str]:
    return [name for name in _names(folder) if name.endswith(".png") and not name.startswith(".")]
