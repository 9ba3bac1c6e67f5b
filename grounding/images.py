"""Image files in: what a file is follows from its content, and every bad file gives one `ImageError`.

`open_source` reads a file once; an `ImageSource` then renders any frame with any window. PNG, JPEG, TIFF and
BMP are read here, DICOM in `dicom.py`, NIfTI in `nifti.py`. Nothing that names a patient is kept.
"""

from __future__ import annotations

import functools
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps, UnidentifiedImageError

from .types import MedicalImage, PixelSpacing, Window
from .windowing import WindowFunction, apply_window, percentile_window

MAX_PIXELS = 1 << 26
"""Largest picture that is decoded, in pixels (8192 x 8192): larger declared sizes are refused unread."""
MAX_BYTES = 1 << 31
"""Largest file that is read, in bytes."""

_RASTER_FORMATS = ("PNG", "JPEG", "TIFF", "BMP")
RASTER_MAGIC = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"II*\0", b"MM\0*", b"II+\0", b"MM\0+", b"BM")
_ARCHIVE_MAGIC = (b"PK\x03\x04", b"\x1f\x8b", b"BZh", b"7z\xbc\xaf", b"Rar!", b"\xfd7zXZ")
_ACCEPTED = "give a PNG, JPEG, TIFF, BMP, DICOM or NIfTI (.nii, .nii.gz) file"


class ImageError(ValueError):
    """A file that cannot be shown; the message names the file, the problem and the remedy."""


@contextmanager
def reading(name: str) -> Iterator[None]:
    """Turn whatever a decoder raises on a damaged file (nearly everything) into an `ImageError`."""
    try:
        yield
    except ImageError:
        raise
    except Exception as error:
        detail = " ".join(str(error).split()) or type(error).__name__
        raise ImageError(
            f"{name}: cannot be decoded ({detail[:200]}); the file is damaged, truncated or of a kind that "
            "no decoder here reads: copy it again, or export it uncompressed"
        ) from error


def check_size(name: str, height: int, width: int) -> None:
    """Refuse a declared picture size before anything is decoded.

    Raises:
        ImageError: a side is below 1, or the picture has more than `MAX_PIXELS` pixels.
    """
    if height < 1 or width < 1:
        raise ImageError(f"{name}: declares {height} x {width} pixels; the file is damaged, export it again")
    if height * width > MAX_PIXELS:
        raise ImageError(
            f"{name}: declares {height} x {width} pixels, more than the {MAX_PIXELS} that are read; "
            "export a smaller version or a part of it"
        )


@dataclass(frozen=True, eq=False)
class Frame:
    """One decoded frame with its geometry.

    Args:
        values: grey (H, W) in rescaled units (HU for CT), or RGB uint8 (H, W, 3).
        windows: the windows that the file offers, the first is the default; empty = uint8 values shown as
            they are.
        function: how windows map values.
        inverted: low values are bright (DICOM MONOCHROME1).
        shown: uint8 (H, W), what the file's own look-up table makes of `values`; the default where present.
        spacing: see `MedicalImage`.
        orientation: see `MedicalImage`.
    """

    values: npt.NDArray[Any]
    windows: tuple[Window, ...] = ()
    function: WindowFunction = "LINEAR_EXACT"
    inverted: bool = False
    shown: npt.NDArray[np.uint8] | None = None
    spacing: PixelSpacing | None = None
    orientation: tuple[str, str] | None = None


@dataclass(frozen=True, eq=False)
class View:
    """A row of frames: the pages or frames of a file, or the slices of a volume along one axis."""

    count: int
    read: Callable[[int], Frame]
    default: int = 0


@dataclass(frozen=True, eq=False)
class ImageSource:
    """What a file holds, read once: render any frame with any window.

    Args:
        name: the file's name, for error messages only.
        views: the ways to step through it, the first is the default; "frames", or "axial", "coronal",
            "sagittal".
        modality: DICOM code, None = unknown.
    """

    name: str
    views: Mapping[str, View]
    modality: str | None = None

    def __post_init__(self) -> None:
        """Keep the last frames of each view, so that a new window does not decode again."""
        views = {
            key: View(v.count, functools.lru_cache(2)(v.read), v.default) for key, v in self.views.items()
        }
        object.__setattr__(self, "views", views)

    @property
    def frame_count(self) -> int:
        """Frames of the default view."""
        return self._view(None).count

    def frame(self, frame: int | None = None, *, view: str | None = None) -> Frame:
        """The decoded values and geometry of one frame.

        Args:
            frame: index from 0, negative counts from the end; None = the first, or the middle slice of a
                volume.
            view: a key of `views`; None = the first.

        Raises:
            ImageError: there is no such view or frame, or it cannot be decoded.
        """
        chosen = self._view(view)
        index = chosen.default if frame is None else frame
        if not -chosen.count <= index < chosen.count:
            raise ImageError(f"{self.name}: has no frame {index}; choose one from 0 to {chosen.count - 1}")
        with reading(self.name):
            return chosen.read(index % chosen.count)

    def render(
        self, frame: int | None = None, window: Window | None = None, *, view: str | None = None
    ) -> MedicalImage:
        """One frame as 8-bit RGB.

        Args:
            frame: index from 0, negative counts from the end; None = the first, or the middle slice of a
                volume.
            window: in rescaled units; None = the file's own table or first window, or one from the data.
            view: a key of `views`; None = the first.

        Raises:
            ImageError: there is no such view or frame, it cannot be decoded, or a window is asked of a colour
                picture.
        """
        raw = self.frame(frame, view=view)
        if raw.values.ndim == 3:
            if window is not None:
                raise ImageError(
                    f"{self.name}: is a colour picture, which has no grey window; leave the window out"
                )
            return MedicalImage(raw.values, self.modality, raw.spacing, raw.orientation)
        if window is None and raw.shown is None and raw.windows:
            window = raw.windows[0]
        if window is not None:
            grey = apply_window(raw.values, window, raw.function)
        else:
            grey = raw.values if raw.shown is None else raw.shown
        grey = 255 - grey if raw.inverted else grey
        pixels = np.repeat(grey[:, :, None], 3, axis=2)
        return MedicalImage(pixels, self.modality, raw.spacing, raw.orientation, window)

    def _view(self, view: str | None) -> View:
        if view is None:
            return next(iter(self.views.values()))
        if view not in self.views:
            raise ImageError(f"{self.name}: has no view {view!r}; choose one of {', '.join(self.views)}")
        return self.views[view]


def open_source(path: str | Path, *, modality: str | None = None) -> ImageSource:
    """Read a PNG, JPEG, TIFF, BMP, DICOM or NIfTI file; its content decides which, not its name.

    Args:
        path: the file. It is read whole, and its default frame is decoded, so that a bad file fails here.
        modality: DICOM code that overrides what the file says.

    Raises:
        ImageError: the file is missing, empty, damaged, too large, or not such an image.
    """
    path = Path(path)
    data = _bytes_of(path)
    source = _source_of(data, path.name, modality)
    source.frame()
    return source


def _bytes_of(path: Path) -> bytes:
    name = path.name or str(path)
    if path.is_dir():
        raise ImageError(f"{name}: is a directory; give one image file of it")
    if not path.exists():
        raise ImageError(f"{name}: does not exist; check the path ({path})")
    if not path.is_file():
        raise ImageError(f"{name}: is not a regular file; {_ACCEPTED}")
    size = path.stat().st_size
    if size == 0:
        raise ImageError(f"{name}: is empty; copy or export it again")
    if size > MAX_BYTES:
        raise ImageError(
            f"{name}: has {size} bytes, more than the {MAX_BYTES} that are read; export a part of it"
        )
    try:
        return path.read_bytes()
    except OSError as error:
        raise ImageError(f"{name}: cannot be opened ({error.strerror}); check its permissions") from error


def _source_of(data: bytes, name: str, modality: str | None) -> ImageSource:
    from .dicom import is_dicom, read_dicom
    from .nifti import is_nifti, read_nifti

    if (
        data[128:132] == b"DICM"
    ):  # before the others: the first 128 bytes are free, some files hide a TIFF in them
        return read_dicom(data, name, modality)
    if data.startswith(RASTER_MAGIC):
        return ImageSource(name, {"frames": _read_raster(data, name)}, modality)
    if is_nifti(data):
        return read_nifti(data, name, modality)
    if data.startswith(_ARCHIVE_MAGIC):
        raise ImageError(
            f"{name}: is an archive without a NIfTI volume; unpack it and give one image file of it"
        )
    if is_dicom(data):
        return read_dicom(data, name, modality)
    suffix = Path(name).suffix.lower()
    what = f"is no {suffix[1:].upper()} file whatever its name says" if suffix else "is no image"
    if not data.strip(b"\0"):
        what = "holds only zeros"
    raise ImageError(f"{name}: {what}, its content is of no known image format; {_ACCEPTED}")


def _read_raster(data: bytes, name: str) -> View:
    with reading(name), open_raster(data, name) as picture:
        count = int(getattr(picture, "n_frames", 1))
    return View(count, lambda index: _decode_raster(data, name, index))


def open_raster(data: bytes, name: str) -> Image.Image:
    """The picture with only its header read, its size checked."""
    try:
        picture = Image.open(BytesIO(data), formats=_RASTER_FORMATS)
    except UnidentifiedImageError as error:
        raise ImageError(f"{name}: its header is damaged or truncated; copy or export it again") from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ImageError(f"{name}: declares too many pixels ({error}); export a smaller version") from error
    check_size(name, picture.height, picture.width)
    return picture


def _decode_raster(data: bytes, name: str, index: int) -> Frame:
    with open_raster(data, name) as picture:
        picture.seek(index)
        check_size(name, picture.height, picture.width)  # pages of a TIFF differ in size
        # Pillow turns white-is-zero TIFFs (PhotometricInterpretation 0) for up to 8 bits only
        inverted = picture.mode.startswith(("I", "F")) and getattr(picture, "tag_v2", {}).get(262) == 0
        upright = ImageOps.exif_transpose(picture)
    values = _raster_values(upright)
    if values.dtype == np.uint8:
        return Frame(values)
    return Frame(values, (percentile_window(values),), inverted=inverted)


def _raster_values(picture: Image.Image) -> npt.NDArray[Any]:
    """Grey (H, W) in the file's depth, or RGB uint8 (H, W, 3); what is transparent becomes black."""
    if picture.mode.startswith(("I", "F")):
        values = np.asarray(picture)
        return values.astype(values.dtype.newbyteorder("="))
    if picture.mode in ("1", "L") and not picture.has_transparency_data:
        return np.asarray(picture.convert("L"))
    if picture.has_transparency_data:
        rgba = picture.convert("RGBA")
        black = Image.new("RGBA", rgba.size, (0, 0, 0, 255))
        return np.asarray(Image.alpha_composite(black, rgba).convert("RGB"))
    return np.asarray(picture.convert("RGB"))


def inflate(data: bytes, limit: int, wbits: int = 31) -> bytes:
    """Decompress at most `limit` bytes: all members of a gzip stream, or raw deflate with `wbits=-15`."""
    pieces: list[bytes] = []
    while data and limit > 0:
        stream = zlib.decompressobj(wbits)
        piece = stream.decompress(data, limit)
        pieces.append(piece)
        limit -= len(piece)
        data = stream.unused_data if stream.unused_data.startswith(b"\x1f\x8b") else b""  # not padding
    return b"".join(pieces)
