"""Where published sets of volumes keep their files, and what the values of their label maps mean.

A layout lists cases: which volume, which maps, which names. Knows no pixels; `volumes.py` reads them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, Protocol

from ..records import DatasetInfo, UnitError
from .annotations import read_json
from .mask_files import code_of_word, file_below

ANY = "*"
"""Stands for every value but 0 in the names of a map that holds one structure."""

Names = Mapping[str, str]
"""Value of a label map, as text -> raw label."""


@dataclass(frozen=True)
class Case:
    """One volume (or one channel of it) with its label maps; all paths are below the root.

    Attributes:
        key: unique within the set.
        patient: what the volumes of one patient share.
        image: the volume.
        maps: label maps and the names of their values, in the order of the regions.
        modality: DICOM code, or None.
        channel: which of the volumes of a four-dimensional file.
        sequence: what the volume shows ("flair"), "" where there is only one.
        split: the source's own split, or None.
    """

    key: str
    patient: str
    image: str
    maps: tuple[tuple[str, Names], ...]
    modality: str | None = None
    channel: int = 0
    sequence: str = ""
    split: str | None = None


class Layout(Protocol):
    """How a set keeps its volumes."""

    def cases(self, root: Path) -> Iterator[Case]:
        """All cases in a fixed order, complete or not: what lacks a file fails when it is read.

        Raises:
            UnitError: no case is there; says what was expected.
        """
        ...


@dataclass(frozen=True)
class CaseFolders:
    """A folder a case, with volumes and a label map or a folder of masks, one a structure.

    File names come without ``.nii.gz`` or ``.nii``; ``{case}`` stands for the folder's name.

    Attributes:
        folders: glob of the case folders.
        images: sequence -> file name.
        modality: DICOM code.
        label_map: file name of the label map; "" = `masks` instead.
        names: what the label map's values mean.
        masks: folder of binary masks named after their labels.
        patient: regular expression whose first group is the patient in the folder's name.
    """

    folders: str
    images: Mapping[str, str]
    modality: str
    label_map: str = ""
    names: Names = field(default_factory=dict)
    masks: str = ""
    patient: str = r"(.+)"

    def cases(self, root: Path) -> Iterator[Case]:
        """One case a folder and sequence, by name."""
        folders = sorted(path for path in root.glob(self.folders) if path.is_dir())
        if not folders:
            raise UnitError(f"{root}: expected case folders named {self.folders} in it, found none")
        for folder in folders:
            patient = re.fullmatch(self.patient, folder.name)
            maps = self._maps(root, folder)
            for sequence, stem in self.images.items():
                yield Case(
                    key=f"{folder.name}/{sequence}" if sequence else folder.name,
                    patient=patient[1] if patient else folder.name,
                    image=_volume_file(root, folder, stem),
                    maps=maps,
                    modality=self.modality,
                    sequence=sequence,
                )

    def _maps(self, root: Path, folder: Path) -> tuple[tuple[str, Names], ...]:
        if self.label_map:
            # YAML may have read the values as numbers
            names = {str(value): name for value, name in self.names.items()}
            return ((_volume_file(root, folder, self.label_map), names),)
        files = sorted((folder / self.masks).glob("*.nii*"))
        return tuple(
            (path.relative_to(root).as_posix(), {ANY: path.name.partition(".nii")[0]})
            for path in files
            if not path.name.startswith(".")
        )


@dataclass(frozen=True)
class DecathlonTask:
    """A task of the Medical Segmentation Decathlon: dataset.json, imagesTr/, labelsTr/.

    The modality and the names come from dataset.json; its ``test`` part has no labels and is left aside. A
    four-dimensional task gives one case a channel.
    """

    def cases(self, root: Path) -> Iterator[Case]:
        """One case a volume and channel, in the order of dataset.json."""
        path = file_below(root, "dataset.json")
        content = read_json(path)
        channels = _texts(content, "modality", path)
        names = {value: name for value, name in _texts(content, "labels", path).items() if int(value) != 0}
        pairs = content.get("training")
        if not isinstance(pairs, list) or not pairs:
            raise UnitError(f"{path}: expected a list of images and labels under 'training'")
        for number, pair in enumerate(pairs):
            given = [pair.get(kind) if isinstance(pair, dict) else None for kind in ("image", "label")]
            files = [PurePosixPath(file).as_posix() for file in given if isinstance(file, str) and file]
            if len(files) != 2:
                raise UnitError(f"{path}: entry {number} of 'training' is {pair!r}, expected image and label")
            image, label = files
            case = PurePosixPath(image).name.partition(".nii")[0]
            for channel, (_, word) in enumerate(sorted(channels.items(), key=lambda item: int(item[0]))):
                many = len(channels) > 1
                yield Case(
                    key=f"{case}/{word}" if many else case,
                    patient=case,
                    image=image,
                    maps=((label, names),),
                    modality=code_of_word(word),
                    channel=channel,
                    sequence=word if many else "",
                    split="train",
                )


def _texts(content: Any, key: str, path: Path) -> dict[str, str]:
    """{"0": "text", ...} below a key of dataset.json."""
    texts = content.get(key) if isinstance(content, dict) else None
    if not isinstance(texts, dict) or not texts:
        raise UnitError(f"{path}: expected {{number: text}} under {key!r}; is it a Decathlon task?")
    for number, text in texts.items():
        if not re.fullmatch(r"\d{1,9}", number) or not isinstance(text, str) or not text:
            raise UnitError(f"{path}: expected {{number: text}} under {key!r}, got {number!r}: {text!r}")
    return texts


def _volume_file(root: Path, folder: Path, stem: str) -> str:
    """The file below `root`, packed or not; the packed one where there is neither, to be missed by name."""
    path = folder / stem.format(case=folder.name)
    plain = path.with_name(f"{path.name}.nii")
    packed = path.with_name(f"{path.name}.nii.gz")
    chosen = plain if plain.is_file() and not packed.is_file() else packed
    return chosen.relative_to(root).as_posix()


TOTALSEGMENTATOR = DatasetInfo(
    name="totalsegmentator",
    licence="CC BY 4.0",
    attribution="Wasserthal et al., TotalSegmentator, Radiology: Artificial Intelligence 2023",
    url="https://zenodo.org/records/10047292",
    modality="CT",
)
BRATS = DatasetInfo(
    name="brats",
    attribution="Menze et al., IEEE TMI 2015; Bakas et al., Sci Data 2017; Baid et al., arXiv 2107.02314",
    url="https://www.synapse.org/brats",
    modality="MR",
    body_region="head and neck",
)
KITS = DatasetInfo(
    name="kits",
    licence="CC BY-NC-SA 4.0",
    attribution="Heller et al., The KiTS19 / KiTS21 / KiTS23 challenges, arXiv 1904.00445 and 2307.01984",
    url="https://kits-challenge.org",
    modality="CT",
    body_region="abdomen",
)
DECATHLON = DatasetInfo(
    name="msd",
    licence="CC BY-SA 4.0",
    attribution="Antonelli et al., The Medical Segmentation Decathlon, Nature Communications 2022",
    url="http://medicaldecathlon.com",
)

TOTALSEGMENTATOR_LAYOUT = CaseFolders("s[0-9]*", {"": "ct"}, "CT", masks="segmentations")

# The challenge's NCR, ED and ET: values 1, 2 and 4 up to 2021, 1, 2 and 3 since 2023.
_BRATS_NAMES = {"1": "necrotic tumor core", "2": "peritumoral edema"}
BRATS_2021_LAYOUT = CaseFolders(
    "BraTS*",
    {name: f"{{case}}_{name}" for name in ("t1", "t1ce", "t2", "flair")},
    "MR",
    label_map="{case}_seg",
    names={**_BRATS_NAMES, "4": "enhancing tumor"},
)
BRATS_2023_LAYOUT = CaseFolders(
    "BraTS*",
    {name: f"{{case}}-{name}" for name in ("t1n", "t1c", "t2w", "t2f")},
    "MR",
    label_map="{case}-seg",
    names={**_BRATS_NAMES, "3": "enhancing tumor"},
    patient=r"(.+)-\d{3}",  # BraTS-GLI-00000-000: the last number counts the patient's examinations
)

# The challenge calls them kidney, tumor and cyst.
_KITS_NAMES = {"1": "kidney", "2": "kidney tumor"}
KITS_2019_LAYOUT = CaseFolders("case_*", {"": "imaging"}, "CT", label_map="segmentation", names=_KITS_NAMES)
KITS_2023_LAYOUT = CaseFolders(
    "case_*", {"": "imaging"}, "CT", label_map="segmentation", names={**_KITS_NAMES, "3": "kidney cyst"}
)
