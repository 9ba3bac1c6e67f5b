"""Sets of NIfTI volumes with label maps: slices along the patient's axes, in radiological convention.

Volume and label map are each turned by its own header, so a map whose grid differs from its volume's is
refused: it could lie mirrored on the picture without anyone seeing it. `annotated` lists every label of the
case's maps, since each was looked for in the whole volume. Where a header leaves the orientation open, axis
and orientation stay None. Which files belong together is the business of `volume_layouts.py`; turning them is
that of `grounding/nifti.py`.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from ...images import MAX_BYTES, Frame, ImageError
from ...nifti import NiftiVolume, is_nifti, read_volume
from ...types import Window
from ...windowing import apply_window, ct_window, percentile_window
from ..records import DatasetInfo, SourceImage, SourceRegion, Unit, UnitError, encode_png
from .annotations import read_bytes
from .mask_files import file_below
from .volume_layouts import (
    ANY,
    BRATS,
    BRATS_2021_LAYOUT,
    BRATS_2023_LAYOUT,
    DECATHLON,
    KITS,
    KITS_2019_LAYOUT,
    KITS_2023_LAYOUT,
    TOTALSEGMENTATOR,
    TOTALSEGMENTATOR_LAYOUT,
    Case,
    DecathlonTask,
    Layout,
    Names,
)

AXES: Final = ("axial", "coronal", "sagittal")

_SAMPLED_SLICES: Final = 9  # for a window of the whole volume


@dataclass(frozen=True)
class VolumeReader:
    """A set of volumes.

    Attributes:
        root: the folder that the layout describes.
        info: what the manifest says; its body region decides the window of CT.
        layout: where the files are.
        axes: which of axial, coronal, sagittal.
        stride: every how many slices.
        window: (centre, width) for all slices; None = by body region for CT, by percentiles of the volume
            otherwise, and none at all for volumes of 8 bits.
    """

    root: Path
    info: DatasetInfo
    layout: Layout
    axes: tuple[str, ...] = AXES
    stride: int = 1
    window: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        """Check the options."""
        if not self.axes or not set(self.axes) <= set(AXES):
            raise ValueError(f"axes must be some of {', '.join(AXES)}, got {self.axes!r}")
        if self.stride < 1:
            raise ValueError(f"stride must be 1 or more slices, got {self.stride}")

    def units(self) -> Iterator[Unit]:
        """One unit a volume and sequence, in the layout's order."""
        for case in self.layout.cases(self.root):
            yield Unit(case.key, asdict(case))

    def read(self, unit: Unit) -> Iterator[SourceImage]:
        """Every chosen slice, axis by axis; nothing is yielded before all maps have been read."""
        case = Case(**unit.payload)
        image = self._open(case.image, case.modality or self.info.modality)
        slices = self._slices(image, case)
        if not case.maps:
            raise UnitError(f"{unit.key}: expected label maps beside {case.image}, found none")
        masks = _SliceMasks()
        for path, names in case.maps:
            masks.add(self._open(path, None), image, names, slices)
        window = self._window(image, case, slices[0])
        for axis, index in slices:
            frame = _frame(image, axis, index, case.channel)
            regions = masks.regions(axis, index)
            yield self._source_image(unit.key, case, frame, window, regions, (axis, index))

    def _open(self, name: str, modality: str | None) -> NiftiVolume:
        path = file_below(self.root, name)
        data = read_bytes(path, MAX_BYTES)
        if not is_nifti(data):
            raise UnitError(f"{path}: is no NIfTI volume whatever its name says, or damaged; copy it again")
        with _told():
            return read_volume(data, str(path), modality)

    def _slices(self, image: NiftiVolume, case: Case) -> list[tuple[str, int]]:
        """(axis, index) of the slices to read; none along an axis whose pictures would be single lines."""
        if case.channel >= image.rounds:
            raise UnitError(
                f"{case.image}: expected channel {case.channel} ({case.sequence}), it has {image.rounds}"
            )
        slices = [
            (axis, index)
            for axis in self.axes
            if axis in image.occupied
            for index in range(0, len(image.occupied[axis]), self.stride)
        ]
        if not slices:
            raise UnitError(
                f"{case.image}: has the shape {image.shape}, so no {' or '.join(self.axes)} slice"
            )
        return slices

    def _window(self, image: NiftiVolume, case: Case, first: tuple[str, int]) -> Window | None:
        """One window for the whole volume, so that neighbouring slices look alike."""
        frame = _frame(image, *first, case.channel)
        if frame.values.ndim == 3:
            return None
        if self.window is not None:
            return Window(*self.window)
        if not frame.windows:
            return None
        if (case.modality or self.info.modality) == "CT":
            return ct_window(self.info.body_region)
        axis = first[0]
        depth = len(image.occupied[axis])
        chosen = sorted({int(index) for index in np.linspace(0, depth - 1, _SAMPLED_SLICES)})
        return percentile_window(
            np.stack([_frame(image, axis, index, case.channel).values for index in chosen])
        )

    def _source_image(
        self,
        unit_key: str,
        case: Case,
        frame: Frame,
        window: Window | None,
        regions: tuple[SourceRegion, ...],
        place: tuple[str, int],
    ) -> SourceImage:
        axis, index = place
        pixels = frame.values if window is None else apply_window(frame.values, window)
        return SourceImage(
            key=f"{unit_key}/{axis}/{index:04d}",
            picture=encode_png(pixels),
            size=(pixels.shape[0], pixels.shape[1]),
            regions=regions,
            annotated=tuple(dict.fromkeys(label for _, names in case.maps for label in names.values())),
            file_name=case.image,
            modality=case.modality or self.info.modality,
            patient=case.patient,
            series=f"{unit_key}/{axis}",
            slice_index=index,
            axis=axis if frame.orientation else None,
            window=(window.center, window.width) if window else None,
            orientation=frame.orientation,
            spacing_mm=(frame.spacing.row_mm, frame.spacing.col_mm) if frame.spacing else None,
            split=case.split,
            attributes={"sequence": case.sequence} if case.sequence else {},
        )


class _SliceMasks:
    """The masks of all chosen slices, compressed: a hundred structures of a large volume fit."""

    def __init__(self) -> None:
        self._masks: dict[tuple[str, int], list[tuple[str, tuple[int, int], bytes]]] = {}

    def add(
        self, labels: NiftiVolume, image: NiftiVolume, names: Names, slices: list[tuple[str, int]]
    ) -> None:
        """Take the masks of one label map.

        Raises:
            UnitError: the map has another grid than the image, or holds a value without a name.
        """
        _check_grid(labels, image)
        for axis, index in slices:
            if labels.occupied[axis][index]:
                values = _frame(labels, axis, index, 0).values
                for label, mask in _split_values(values, names, labels.source.name):
                    shape = (mask.shape[0], mask.shape[1])
                    packed = zlib.compress(np.packbits(mask).tobytes(), 1)
                    self._masks.setdefault((axis, index), []).append((label, shape, packed))

    def regions(self, axis: str, index: int) -> tuple[SourceRegion, ...]:
        """The regions of one slice, in the order of the maps and their values."""
        regions = []
        for label, (height, width), packed in self._masks.get((axis, index), []):
            bits = np.frombuffer(zlib.decompress(packed), dtype=np.uint8)
            mask = np.unpackbits(bits, count=height * width).reshape(height, width).astype(np.bool_)
            regions.append(SourceRegion(label, mask=mask))
        return tuple(regions)


def _split_values(
    values: npt.NDArray[Any], names: Names, name: str
) -> Iterator[tuple[str, npt.NDArray[np.bool_]]]:
    """(label, mask) of each value but 0 in a slice of a label map."""
    if values.ndim != 2:
        raise UnitError(f"{name}: is a colour volume; expected a label map of one number a voxel")
    if ANY in names:
        yield names[ANY], values != 0
        return
    for value in np.unique(values[values != 0]):
        label = names.get(str(int(value))) if np.isfinite(value) and value == int(value) else None
        if label is None:
            known = ", ".join(f"{number} {text}" for number, text in names.items())
            raise UnitError(f"{name}: holds the value {value}, expected 0 or {known}; is it another version?")
        yield label, values == value


def _check_grid(labels: NiftiVolume, image: NiftiVolume) -> None:
    """Refuse a label map of another shape, voxel size or direction; where the origin lies does not matter."""
    name = labels.source.name
    if labels.shape != image.shape or labels.rounds != 1:
        extra = f" and {labels.rounds} rounds" if labels.rounds != 1 else ""
        raise UnitError(
            f"{name}: has the shape {labels.shape}{extra}, its image {image.shape}; it is another case's"
        )
    ours, theirs = labels.affine[:3, :3], image.affine[:3, :3]
    if not np.allclose(ours, theirs, rtol=0, atol=0.01 * float(np.abs(theirs).max())):
        raise UnitError(
            f"{name}: its voxels run {ours.round(3).tolist()}, those of its image {theirs.round(3).tolist()} "
            "mm; left and right could be swapped: give it the header of its image, or resample it"
        )
    if labels.oriented != image.oriented:
        raise UnitError(f"{name}: only one of it and its image says how the patient lies; give it the header")


def _frame(volume: NiftiVolume, axis: str, index: int, channel: int) -> Frame:
    with _told():
        return volume.source.frame(channel * len(volume.occupied[axis]) + index, view=axis)


@contextmanager
def _told() -> Iterator[None]:
    """Make what is wrong with a volume a `UnitError`; its message names the file already."""
    try:
        yield
    except ImageError as error:
        raise UnitError(str(error)) from error


@dataclass(frozen=True)
class TotalSegmentator(VolumeReader):
    """TotalSegmentator: s0001/ct.nii.gz and segmentations/<label>.nii.gz."""

    info: DatasetInfo = TOTALSEGMENTATOR
    layout: Layout = TOTALSEGMENTATOR_LAYOUT


@dataclass(frozen=True)
class Brats2021(VolumeReader):
    """BraTS 2020 and 2021: BraTS2021_00000/BraTS2021_00000_flair.nii.gz, _t1, _t1ce, _t2 and _seg."""

    info: DatasetInfo = BRATS
    layout: Layout = BRATS_2021_LAYOUT


@dataclass(frozen=True)
class Brats2023(VolumeReader):
    """BraTS since 2023: BraTS-GLI-00000-000/BraTS-GLI-00000-000-t2f.nii.gz, -t1n, -t1c, -t2w and -seg."""

    info: DatasetInfo = BRATS
    layout: Layout = BRATS_2023_LAYOUT


@dataclass(frozen=True)
class Kits2019(VolumeReader):
    """KiTS19: case_00000/imaging.nii.gz and segmentation.nii.gz with kidney and tumour."""

    info: DatasetInfo = KITS
    layout: Layout = KITS_2019_LAYOUT


@dataclass(frozen=True)
class Kits2023(VolumeReader):
    """KiTS23: as KiTS19, with cysts."""

    info: DatasetInfo = KITS
    layout: Layout = KITS_2023_LAYOUT


@dataclass(frozen=True)
class Decathlon(VolumeReader):
    """A task of the Medical Segmentation Decathlon; give each task its own name and body region."""

    info: DatasetInfo = DECATHLON
    layout: Layout = field(default_factory=DecathlonTask)
