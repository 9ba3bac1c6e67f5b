"""NIfTI volumes in: one slice at a time, turned to radiological convention.

Voxel axes follow the affine to the nearest patient axis; a slice index counts along the patient axis towards
the right, front or top (nibabel's canonical RAS+), whatever the order in the file.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import Any

import nibabel as nib
import numpy as np
import numpy.typing as npt
from nibabel.affines import voxel_sizes
from nibabel.orientations import io_orientation

from .images import MAX_BYTES, Frame, ImageError, ImageSource, View, check_size, inflate, reading
from .types import PixelSpacing, Window
from .windowing import SOFT_TISSUE, percentile_window

MAX_VOXELS = 1 << 29
"""Largest volume that is read, in voxels over all time points."""

# view: (patient axis of the slices, of the rows, of the columns); 0 = right-left, 1 = front-back,
# 2 = head-foot; every row and column then runs towards left, back or foot.
_PLANES = {"axial": (2, 1, 0), "coronal": (1, 2, 0), "sagittal": (0, 2, 1)}
_TOWARDS = ("L", "P", "F")
_UNIT_MM = {"meter": 1000.0, "micron": 0.001}


def is_nifti(data: bytes) -> bool:
    """Whether the bytes are a NIfTI-1 or -2 file, plain or gzipped."""
    return _magic(_head(data)) is not None


def read_nifti(data: bytes, name: str, modality: str | None = None) -> ImageSource:
    """Read a NIfTI file; more than three dimensions become further rounds of slices.

    Args:
        data: the file's bytes, plain or gzipped.
        name: the file's name, for error messages.
        modality: DICOM code; "CT" chooses a soft-tissue window where the file has none.

    Raises:
        ImageError: the volume is damaged, truncated, too large, complex, or a header without its data.
    """
    with reading(name):
        return ImageSource(name, _Volume(_decode(data, name), name, modality).views(), modality)


@dataclass(frozen=True, eq=False)
class NiftiVolume:
    """A NIfTI volume with its voxels in memory, so that slices across any axis are quick.

    Args:
        source: its slices, as `read_nifti` gives them.
        shape: voxels along the three axes of the file.
        rounds: volumes over the further axes; round r of slice i is frame `r * depth + i` of a view.
        affine: (4, 4) float64, voxel indices to millimetres towards the patient's right, front and top.
        oriented: whether the header says how the patient lies.
        occupied: view -> (depth,) bool, whether a slice of the first round holds anything but zeros.
    """

    source: ImageSource
    shape: tuple[int, int, int]
    rounds: int
    affine: npt.NDArray[np.float64]
    oriented: bool
    occupied: dict[str, npt.NDArray[np.bool_]]


def read_volume(data: bytes, name: str, modality: str | None = None) -> NiftiVolume:
    """Read a NIfTI file and unpack its voxels; arguments and errors are those of `read_nifti`."""
    with reading(name):
        volume = _Volume(_decode(data, name), name, modality)
        volume.unpack()
        views = volume.views()
        occupied = {plane: volume.occupied(plane) for plane in views}
        source = ImageSource(name, views, modality)
        return NiftiVolume(source, volume.shape, volume.rounds, volume.affine, volume.oriented, occupied)


def _decode(data: bytes, name: str) -> Any:
    """The file as nibabel sees it, its size and completeness checked, its voxels still packed."""
    magic = _magic(_head(data))
    if magic == b"ni":
        raise ImageError(f"{name}: is the header of a .hdr/.img pair; convert the pair to one .nii file")
    kind = nib.Nifti2Image if magic == b"n2" else nib.Nifti1Image
    header = kind.header_class(_head(data)[: kind.header_class.sizeof_hdr], check=False)
    needed = _declared_bytes(header, name)
    # one byte more than needed makes the decompressor reach the end of the stream and compare its checksum
    raw = inflate(data, needed + 1) if data[:2] == b"\x1f\x8b" else data
    if len(raw) < needed:
        raise ImageError(
            f"{name}: is truncated, {len(raw)} bytes of the {needed} that its header declares; copy it again"
        )
    return kind.from_bytes(raw)


def _head(data: bytes) -> bytes:
    try:
        return inflate(data, 540) if data[:2] == b"\x1f\x8b" else data[:540]
    except Exception:  # a damaged archive is no NIfTI file
        return b""


def _magic(head: bytes) -> bytes | None:
    """b"n1" and b"n2" for one-file NIfTI-1 and -2, b"ni" for a header whose data lies in another file."""
    if head[344:348] == b"n+1\0":
        return b"n1"
    if head[4:8] == b"n+2\0":
        return b"n2"
    return b"ni" if head[344:348] == b"ni1\0" or head[4:8] == b"ni2\0" else None


def _declared_bytes(header: Any, name: str) -> int:
    """Bytes that the header promises, refused before anything is unpacked."""
    shape = tuple(int(side) for side in header.get_data_shape())
    if len(shape) < 2 or min(shape) < 1:
        raise ImageError(
            f"{name}: declares the shape {shape}; a volume needs two or more sides > 0, export it again"
        )
    voxels = math.prod(shape)
    needed = int(header.get_data_offset()) + voxels * int(header.get_data_dtype().itemsize)
    if voxels > MAX_VOXELS or needed > MAX_BYTES:
        raise ImageError(
            f"{name}: declares {' x '.join(map(str, shape))} voxels, more than the {MAX_VOXELS} "
            "that are read; export a part of it"
        )
    return needed


class _Volume:
    """A NIfTI image whose slices are read on demand."""

    def __init__(self, image: Any, name: str, modality: str | None) -> None:
        self._image = image
        self._name = name
        self._modality = modality
        dtype = image.get_data_dtype()
        if np.issubdtype(dtype, np.complexfloating):
            raise ImageError(f"{name}: holds complex numbers, not a picture; export its magnitude")
        self._colour = dtype.names is not None
        self._plain_bytes = dtype == np.uint8 and image.dataobj.slope == 1 and image.dataobj.inter == 0
        self._packed = image.dataobj
        shape = tuple(image.shape)
        self._shape = (*shape, 1)[:3] if len(shape) < 3 else shape[:3]
        self._rounds = shape[3:]
        known = int(image.header["qform_code"]) > 0 or int(image.header["sform_code"]) > 0
        self.oriented = known
        turns = io_orientation(image.affine)
        if np.isnan(turns).any():
            turns = np.array([[0, 1], [1, 1], [2, 1]])
            self.oriented = False
        self._voxel_axis = {int(patient): voxel for voxel, (patient, _) in enumerate(turns)}
        self._towards_ras = {int(patient): flip > 0 for patient, flip in turns}
        unit = image.header.get_xyzt_units()[0]
        self._zooms = [float(mm) * _UNIT_MM.get(unit, 1.0) for mm in voxel_sizes(image.affine)]

    @property
    def shape(self) -> tuple[int, int, int]:
        """Voxels along the three axes of the file."""
        first, second, third = self._shape
        return int(first), int(second), int(third)

    @property
    def rounds(self) -> int:
        """Volumes over the further axes."""
        return math.prod(self._rounds)

    @property
    def affine(self) -> npt.NDArray[np.float64]:
        """(4, 4) voxel indices to millimetres, RAS+."""
        return np.asarray(self._image.affine, dtype=np.float64)

    def unpack(self) -> None:
        """Hold the voxels as an array, in the file's type or, where it scales them, as float32."""
        scaled = self._packed.slope != 1 or self._packed.inter != 0
        self._packed = np.asarray(self._packed, dtype=np.float32 if scaled else None)

    def occupied(self, plane: str) -> npt.NDArray[np.bool_]:
        """(depth,) whether a slice of the first round holds anything but zeros; needs `unpack`."""
        through = _PLANES[plane][0]
        if self._colour:
            return np.ones(self._shape[self._voxel_axis[through]], dtype=np.bool_)
        first = self._packed.reshape((*self._shape, -1), order="F")[..., 0]
        others = tuple(axis for axis in range(3) if axis != self._voxel_axis[through])
        used: npt.NDArray[np.bool_] = (first != 0).any(axis=others)
        return used if self._towards_ras[through] else used[::-1]

    def views(self) -> dict[str, View]:
        """The planes in which the volume has pictures of more than one pixel a side."""
        views = {}
        for plane, (through, down, across) in _PLANES.items():
            height, width, depth = (self._shape[self._voxel_axis[axis]] for axis in (down, across, through))
            check_size(self._name, height, width)
            if min(height, width) > 1 or depth == 1:
                views[plane] = View(depth * self.rounds, functools.partial(self._slice, plane), depth // 2)
        return views

    def _slice(self, plane: str, index: int) -> Frame:
        through, down, across = _PLANES[plane]
        depth = self._shape[self._voxel_axis[through]]
        turn, position = divmod(index, depth)
        if not self._towards_ras[through]:
            position = depth - 1 - position
        values = self._voxels(self._voxel_axis[through], position, turn)
        if self._voxel_axis[down] > self._voxel_axis[across]:
            values = values.swapaxes(0, 1)
        # pictures run away from RAS, to left, back and foot
        values = values[:: -1 if self._towards_ras[down] else 1, :: -1 if self._towards_ras[across] else 1]
        row_mm, col_mm = (self._zooms[self._voxel_axis[axis]] for axis in (down, across))
        spacing = PixelSpacing(row_mm, col_mm) if row_mm > 0 and col_mm > 0 else None
        orientation = (_TOWARDS[across], _TOWARDS[down]) if self.oriented else None
        windows = () if self._colour or self._plain_bytes else (self._window,)
        return Frame(np.ascontiguousarray(values), windows, spacing=spacing, orientation=orientation)

    def _voxels(self, axis: int, position: int, turn: int) -> npt.NDArray[Any]:
        """One slice across a voxel axis, two-dimensional or (..., 3) uint8 for colour; axes in file order."""
        where: list[Any] = [slice(None)] * len(self._image.shape)
        if axis < len(where):
            where[axis] = position
        if self._rounds:
            where[3:] = [int(i) for i in np.unravel_index(turn, self._rounds, order="F")]
        values = np.asarray(self._packed[tuple(where)])
        if values.ndim < 2:  # a two-dimensional file, cut across one of its own axes
            values = np.expand_dims(values, -1)
        if self._colour:
            return np.stack([values[channel] for channel in ("R", "G", "B")], axis=-1)
        return values.astype(values.dtype.newbyteorder("="))

    @functools.cached_property
    def _window(self) -> Window:
        """The header's display range, soft tissue for CT, or percentiles of slices of the first volume."""
        header = self._image.header
        low, high = float(header["cal_min"]), float(header["cal_max"])
        if math.isfinite(low) and math.isfinite(high) and high > low:
            return Window((low + high) / 2, high - low)
        if self._modality == "CT":
            return SOFT_TISSUE
        depth = self._shape[2]
        chosen = sorted({int(position) for position in np.linspace(0, depth - 1, 9)})
        return percentile_window(np.stack([self._voxels(2, position, 0) for position in chosen]))
