"""What flows through the data engine: readers make these, the builder turns them into native rows.

A *reader* knows one layout on disk. It lists its *units* cheaply, in a fixed order (an image, a volume),
and turns one unit into *source images* in whatever process asks for it. Labels stay as the source writes
them; ontology, box policies, splits and phrases are the builder's business. Knows no parquet and no torch.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any, Final, Protocol

import numpy as np
import numpy.typing as npt
from PIL import Image

MAX_PIXELS: Final = 178_956_970
"""Pillow's own limit, as an error: a larger picture is taken for a decompression bomb."""


class UnitError(Exception):
    """A unit that cannot be read, with the reason and the file; the builder quarantines and counts it."""


@dataclass(frozen=True)
class DatasetInfo:
    """What a manifest must say of a source.

    Attributes:
        name: short name, unique within a build; it becomes part of every image id.
        licence: as the source states it; "not stated" where it does not.
        attribution: whom to credit.
        url: where it comes from.
        modality: DICOM code of all its images, or None where it varies or is not known.
        body_region: region of the ontology that all its images show, or None; decides the CT window.
    """

    name: str
    licence: str = "not stated"
    attribution: str = ""
    url: str = ""
    modality: str | None = None
    body_region: str | None = None


@dataclass(frozen=True)
class Unit:
    """The smallest piece of a source that can be read (and fail) alone.

    Attributes:
        key: unique within the source and stable between runs: resuming and splits rest on it.
        payload: JSON-able; all that the reader needs beyond its own fields to read the unit elsewhere.
    """

    key: str
    payload: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class SourceRegion:
    """One annotation as the source has it: a box, a mask or both.

    Attributes:
        label: as the source writes it ("right_lung").
        box: (4,) float64 xyxy in pixels of the image, or None where the mask says it.
        mask: (H, W) bool, or None.
        attributes: JSON-able extras worth keeping (reader, score, part, phrase, "iscrowd", ...).
    """

    label: str
    box: npt.NDArray[np.float64] | None = None
    mask: npt.NDArray[np.bool_] | None = None
    attributes: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse what has neither box nor mask, or a box that is not four finite numbers."""
        if self.box is None and self.mask is None:
            raise ValueError(f"region {self.label!r}: expected a box or a mask, got neither")
        if self.box is not None:
            box = np.asarray(self.box, dtype=np.float64)
            if box.shape != (4,) or not np.isfinite(box).all():
                raise ValueError(f"region {self.label!r}: expected 4 finite xyxy pixels, got {self.box!r}")
            object.__setattr__(self, "box", box)


@dataclass(frozen=True, eq=False)
class SourceImage:
    """One picture with all its annotations.

    Attributes:
        key: unique within the source; for a volume, unit key + axis + slice.
        picture: the encoded file, PNG or JPEG of 8 bits (see :func:`read_picture`, :func:`encode_png`).
        size: (height, width) in pixels.
        regions: its annotations, in the source's order.
        annotated: raw labels that the source looks for in this image: of these, those without a region are
            truly absent. Only these may become negatives.
        file_name: the source's own name for it, kept for exports.
        modality: DICOM code, or None.
        patient: what images of one patient share (id, case, exam, group), or None where unknown. Only a hash
            of it is ever stored.
        series: what neighbouring slices share, or None.
        slice_index: place within the series, or None.
        axis: anatomical axis the slice is cut along ("axial", "coronal", "sagittal"), or None.
        window: (centre, width) that made grey values of it, or None.
        orientation: patient directions of (rows, columns) such as ("L", "P"), or None.
        spacing_mm: (row, column) pixel spacing, or None.
        split: the source's own split name where it is official, or None.
        attributes: JSON-able extras worth keeping.
    """

    key: str
    picture: bytes
    size: tuple[int, int]
    regions: tuple[SourceRegion, ...]
    annotated: tuple[str, ...] = ()
    file_name: str = ""
    modality: str | None = None
    patient: str | None = None
    series: str | None = None
    slice_index: int | None = None
    axis: str | None = None
    window: tuple[float, float] | None = None
    orientation: tuple[str, str] | None = None
    spacing_mm: tuple[float, float] | None = None
    split: str | None = None
    attributes: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse masks of another size than the image's."""
        for region in self.regions:
            if region.mask is not None and region.mask.shape != self.size:
                raise ValueError(
                    f"{self.key}: the mask of {region.label!r} is {region.mask.shape}, the image {self.size}"
                )


class Reader(Protocol):
    """One layout on disk. Implementations are frozen dataclasses, so that they travel to other processes."""

    @property
    def info(self) -> DatasetInfo:
        """The source's name, licence and modality."""
        ...

    def units(self) -> Iterator[Unit]:
        """All units, in the same order every time, without decoding pixels.

        Raises:
            UnitError: the layout itself is not there or its index file is broken; says what was expected.
        """
        ...

    def read(self, unit: Unit) -> Iterator[SourceImage]:
        """Decode one unit.

        Raises:
            UnitError: the unit's files are missing, truncated, swapped or of another format.
        """
        ...


def read_picture(path: Path) -> tuple[bytes, tuple[int, int]]:
    """The bytes of a PNG or JPEG file as they are, others re-encoded as PNG; and (height, width).

    The picture is decoded whole, so that a damaged one fails here.

    Raises:
        UnitError: the file is missing, empty, too large, or no readable picture.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UnitError(f"{path}: cannot be read ({error.strerror}); is the data set complete?") from error
    if not data:
        raise UnitError(f"{path}: is empty; copy it again")
    return decode_picture(data, str(path))


def decode_picture(data: bytes, name: str) -> tuple[bytes, tuple[int, int]]:
    """The same for a picture already in memory; `name` says in errors where it came from.

    Raises:
        UnitError: it is too large, or no readable picture.
    """
    try:
        with Image.open(BytesIO(data)) as picture:
            if picture.width * picture.height > MAX_PIXELS:
                raise UnitError(f"{name}: declares {picture.width} x {picture.height} pixels; too many")
            picture.load()
            if picture.format in ("PNG", "JPEG") and picture.mode in ("L", "RGB"):
                return data, (picture.height, picture.width)
            kind = "L" if picture.mode in ("1", "L", "I;16", "I", "F") else "RGB"
            pixels = _eight_bits(np.asarray(picture)) if kind == "L" else np.asarray(picture.convert("RGB"))
    except UnitError:
        raise
    except Exception as error:  # Pillow raises what its decoders raise: OSError, SyntaxError, struct.error...
        raise UnitError(f"{name}: is no readable picture ({type(error).__name__}: {error})") from error
    return encode_png(pixels), (pixels.shape[0], pixels.shape[1])


def encode_png(pixels: npt.NDArray[np.uint8]) -> bytes:
    """PNG of (H, W) or (H, W, 3) uint8 pixels; the same pixels give the same bytes."""
    buffer = BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG", compress_level=3)
    return buffer.getvalue()


def _eight_bits(values: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    """Grey values of any depth stretched from their least to their greatest onto 0..255; 8 bits stay."""
    if values.dtype in (np.uint8, np.bool_):
        return values.astype(np.uint8) * (255 if values.dtype == np.bool_ else 1)
    wide = values.astype(np.float64)
    low, high = float(wide.min()), float(wide.max())
    return np.round((wide - low) * (255.0 / max(high - low, 1e-9))).astype(np.uint8)
