"""What an image file declares, read from its headers alone, and whether that is within limits.

Owns the caps that untrusted files must keep before anything of them is decoded. Knows no pixels: decoding is
`images.py`'s, which has its own, wider caps.
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from io import BytesIO
from typing import Final, Literal

from .images import RASTER_MAGIC, ImageError, inflate, open_raster, reading

Kind = Literal["PNG", "JPEG", "TIFF", "BMP", "DICOM", "NIfTI"]

_DEFLATED: Final = b"1.2.840.10008.1.2.1.99\0"  # the transfer syntax that packs the whole data set


@dataclass(frozen=True)
class Limits:
    """How large an untrusted file may be.

    Attributes:
        max_bytes: of the file.
        max_pixels: of one frame, page or slice.
        max_frames: frames, pages, or slices over all rounds of a volume.
        max_unpacked_bytes: of what reading unpacks as a whole: a volume, a deflated data set.
    """

    max_bytes: int = 64 << 20
    max_pixels: int = 1 << 25
    max_frames: int = 10_000
    max_unpacked_bytes: int = 512 << 20


@dataclass(frozen=True)
class Declared:
    """What the headers say.

    Attributes:
        kind: by content, whatever the name says.
        height: of the largest frame, in pixels.
        width: of the largest frame, in pixels.
        frames: at least 1.
        unpacked_bytes: what reading the file, without decoding a frame, puts into memory.
    """

    kind: Kind
    height: int
    width: int
    frames: int
    unpacked_bytes: int


def probe(data: bytes, name: str, limits: Limits) -> Declared:
    """Return what `data` declares, decoding no pixel.

    Args:
        data: the whole file.
        name: what to call it in messages.
        limits: what it must keep.

    Raises:
        ImageError: it is empty, of no known format, its header is damaged, or it exceeds a limit.
    """
    if not data:
        raise ImageError(f"{name}: is empty; copy or export it again")
    if len(data) > limits.max_bytes:
        raise _too_much(name, f"has {len(data)} bytes", limits.max_bytes)
    with reading(name):
        declared = _declared(data, name, limits)
    if declared.height * declared.width > limits.max_pixels:
        size = f"declares {declared.height} x {declared.width} pixels"
        raise _too_much(name, size, limits.max_pixels)
    if declared.frames > limits.max_frames:
        raise _too_much(name, "declares too many frames", limits.max_frames)
    if declared.unpacked_bytes > limits.max_unpacked_bytes:
        raise _too_much(name, "unpacks to too many bytes", limits.max_unpacked_bytes)
    return declared


def _too_much(name: str, what: str, limit: int) -> ImageError:
    return ImageError(f"{name}: {what}, at most {limit} are accepted; export a smaller version or a part")


def _declared(data: bytes, name: str, limits: Limits) -> Declared:
    from .dicom import is_dicom
    from .nifti import is_nifti

    if data[128:132] == b"DICM":  # first, as in images.py: some files hide a TIFF in the preamble
        return _dicom(data, name, limits)
    if data.startswith(RASTER_MAGIC):
        return _raster(data, name, limits)
    if is_nifti(data):
        return _nifti(data)
    if is_dicom(data):
        return _dicom(data, name, limits)
    raise ImageError(
        f"{name}: its content is of no known image format; give a PNG, JPEG, TIFF, BMP, DICOM or NIfTI file"
    )


def _raster(data: bytes, name: str, limits: Limits) -> Declared:
    """Pages are walked one by one: counting those of a crafted TIFF takes as long as it has pages."""
    with open_raster(data, name) as picture:
        kind, sizes = picture.format, [picture.size]
        if kind == "TIFF":
            for page in range(1, limits.max_frames + 1):
                try:
                    picture.seek(page)
                except EOFError:
                    break
                sizes.append(picture.size)
            frames = len(sizes)
        else:
            frames = int(getattr(picture, "n_frames", 1))
    width, height = max(sizes, key=math.prod)
    return Declared(kind, height, width, frames, len(data))  # type: ignore[arg-type]


def _dicom(data: bytes, name: str, limits: Limits) -> Declared:
    import pydicom

    unpacked = len(data)
    start = 144 + int.from_bytes(data[140:144], "little")  # the file meta group states its length first
    if _DEFLATED[:-1] in data[:start]:
        unpacked = len(inflate(data[start:], limits.max_unpacked_bytes + 1, wbits=-15))
        if unpacked > limits.max_unpacked_bytes:
            raise _too_much(name, "unpacks to too many bytes", limits.max_unpacked_bytes)
    wanted = ["Rows", "Columns", "NumberOfFrames"]
    header = pydicom.dcmread(BytesIO(data), force=True, stop_before_pixels=True, specific_tags=wanted)
    rows, columns, frames = (int(header.get(keyword) or 0) for keyword in wanted)
    if rows < 1 or columns < 1:
        raise ImageError(f"{name}: is DICOM without a picture in it; give a DICOM image")
    return Declared("DICOM", rows, columns, max(1, frames), unpacked)


def _nifti(data: bytes) -> Declared:
    """Sides and bits a voxel stand at fixed places: dim[8] and bitpix, in either byte order."""
    head = inflate(data, 540) if data[:2] == b"\x1f\x8b" else data[:540]
    second = head[4:8] in (b"n+2\0", b"ni2\0")
    size = 540 if second else 348
    order = "<" if struct.unpack_from("<i", head)[0] == size else ">"
    count, *sides = struct.unpack_from(f"{order}8q" if second else f"{order}8h", head, 16 if second else 40)
    bits = struct.unpack_from(f"{order}h", head, 14 if second else 72)[0]
    sides = [max(1, side) for side in sides[: max(0, count)]] + [1, 1, 1]
    _, width, height = sorted(sides[:3])  # of the largest slice across any axis
    return Declared("NIfTI", height, width, math.prod(sides[2:]), math.prod(sides) * max(8, bits) // 8)
