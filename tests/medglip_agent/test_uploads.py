"""Uploads: what is refused before decoding, where accepted files lie, and that no path leads out."""

from __future__ import annotations

import gzip
import io
import os
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from grounding.images import ImageError
from grounding.probe import Limits, probe
from medglip_agent.uploads import UploadError, UploadJail, read_inside, sweep


def picture(kind: str = "PNG", size: tuple[int, int] = (30, 20), pages: int = 1) -> bytes:
    """A grey picture of `size` (width, height) as a file."""
    out = io.BytesIO()
    first, *others = [Image.new("L", size, 40 + page) for page in range(pages)]
    more = {"save_all": True, "append_images": others} if others else {}
    first.save(out, kind, **more)
    return out.getvalue()


def dicom(rows: int = 8, columns: int = 6, frames: int = 1) -> bytes:
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian, SecondaryCaptureImageStorage, generate_uid

    data = Dataset()
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data.SOPClassUID, data.SOPInstanceUID = SecondaryCaptureImageStorage, generate_uid()
    data.Rows, data.Columns, data.NumberOfFrames, data.SamplesPerPixel = rows, columns, frames, 1
    data.BitsAllocated = data.BitsStored = 8
    data.HighBit, data.PixelRepresentation, data.PhotometricInterpretation = 7, 0, "MONOCHROME2"
    data.PixelData = bytes(48)
    out = io.BytesIO()
    data.save_as(out, enforce_file_format=True)
    return out.getvalue()


def nifti(shape: tuple[int, ...], *, packed: bool = False) -> bytes:
    """A NIfTI-1 header that declares `shape` of int16, with few voxels behind it."""
    head = bytearray(352)
    struct.pack_into("<i", head, 0, 348)
    struct.pack_into("<8h", head, 40, len(shape), *shape, *[1] * (7 - len(shape)))
    struct.pack_into("<hh", head, 70, 4, 16)
    struct.pack_into("<f", head, 108, 352.0)
    head[344:348] = b"n+1\0"
    data = bytes(head) + bytes(64)
    return gzip.compress(data) if packed else data


def png_bomb(width: int, height: int) -> bytes:
    """A PNG whose header declares far more than its few bytes hold."""

    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (picture("PNG"), ("PNG", 20, 30, 1)),
        (picture("JPEG"), ("JPEG", 20, 30, 1)),
        (picture("BMP"), ("BMP", 20, 30, 1)),
        (picture("TIFF", pages=3), ("TIFF", 20, 30, 3)),
        (dicom(), ("DICOM", 8, 6, 1)),
        (nifti((5, 7, 3)), ("NIfTI", 7, 5, 3)),
        (nifti((5, 7, 3, 4), packed=True), ("NIfTI", 7, 5, 12)),
    ],
)
def test_probe_reads_headers(data: bytes, expected: tuple[str, int, int, int]) -> None:
    found = probe(data, "x", Limits())
    assert (found.kind, found.height, found.width, found.frames) == expected


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (b"", "empty"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "no known image format"),
        (b"MZ" + bytes(200), "no known image format"),
        (b"PK\x03\x04" + bytes(200), "no known image format"),
        (png_bomb(60_000, 60_000), "pixels"),
        (png_bomb(6000, 6000), "declares 6000 x 6000 pixels, at most 33554432"),
        (dicom(60_000, 60_000), "pixels"),
        (dicom(frames=10_001), "too many frames"),
        (picture("TIFF", (2, 2), pages=21), "too many frames"),
        (nifti((2000, 2000, 200), packed=True), "unpacks to too many bytes"),
        (nifti((2, 2, 32_000)), "too many frames"),
        (picture()[:20], "cannot be decoded|damaged"),
        (bytes(128) + b"DICM" + b"\xff" * 50, "cannot be decoded|without a picture"),
    ],
)
def test_probe_refuses_before_decoding(data: bytes, told: str) -> None:
    limits = Limits(max_frames=20) if data.startswith(b"II*") else Limits()
    with pytest.raises(ImageError, match=told):
        probe(data, "x", limits)


def test_a_deflated_bomb_is_refused() -> None:
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    body = packer.compress(bytes(1 << 22)) + packer.flush()
    uid = b"1.2.840.10008.1.2.1.99"
    element = struct.pack("<HH2sH", 2, 0x10, b"UI", len(uid)) + uid
    meta = struct.pack("<HH2sHI", 2, 0, b"UL", 4, len(element)) + element
    with pytest.raises(ImageError, match="unpacks to too many bytes"):
        probe(bytes(128) + b"DICM" + meta + body, "x", Limits(max_unpacked_bytes=1 << 20))


def test_a_session_has_private_files_with_random_names(tmp_path: Path) -> None:
    with UploadJail(tmp_path) as jail, UploadJail(tmp_path) as other:
        path = jail.add(picture())
        assert path.parent == jail.folder and len(path.name) == 32
        assert jail.folder.stat().st_mode & 0o777 == 0o700 and path.stat().st_mode & 0o777 == 0o600
        assert jail.open(path, modality="CR").render().size == (20, 30)
        with pytest.raises(UploadError, match="none of this session's"):
            other.open(path)
        with pytest.raises(UploadError, match="none of this session's"):
            jail.open(jail.folder / ".." / other.folder.name / "x")
        (jail.folder / "link").symlink_to(other.add(picture()))
        with pytest.raises(UploadError, match="none of this session's"):
            jail.open(jail.folder / "link")
    assert not list(tmp_path.iterdir())


def test_nothing_is_written_for_a_refused_file(tmp_path: Path) -> None:
    with UploadJail(tmp_path, Limits(max_bytes=100), max_total_bytes=150) as jail:
        small = picture("PNG", (2, 2))
        jail.add(small)
        with pytest.raises(UploadError, match="at most 100"):
            jail.add(bytes(101))
        with pytest.raises(UploadError, match="no room left"):
            jail.add(small + bytes(20))
        assert len(list(jail.folder.iterdir())) == 1


def test_what_a_decoder_says_is_not_passed_on(tmp_path: Path) -> None:
    damaged = picture("PNG", (300, 200))[:-80]
    with UploadJail(tmp_path) as jail:
        path = jail.add(damaged)
        with pytest.raises(UploadError) as told:
            jail.open(path)
        assert "the file: cannot be decoded" in str(told.value) and path.name not in str(told.value)
        assert told.value.__cause__ is None


def test_folders_of_killed_processes_are_swept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True)
    dead = tmp_path / f"medglip-uploads-{int(done.stdout)}-abc"
    dead.mkdir()
    (dead / "scan").write_bytes(b"x")
    outside = tmp_path / "outside"
    outside.mkdir()
    (tmp_path / f"medglip-uploads-{int(done.stdout)}-link").symlink_to(outside)
    with UploadJail(tmp_path) as alive:
        with monkeypatch.context() as patch:
            patch.setattr(os, "getuid", lambda: dead.stat().st_uid + 1)
            assert sweep(tmp_path) == 0, "somebody else's"
        assert sweep(tmp_path) == 1
        assert alive.folder.exists() and outside.exists() and not dead.exists()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    shared = tmp_path / "shared"
    (shared / "study").mkdir(parents=True)
    (shared / "study" / "a.png").write_bytes(b"inside")
    (tmp_path / "secret").write_bytes(b"outside")
    (tmp_path / "shared-too").mkdir()
    (tmp_path / "shared-too" / "secret").write_bytes(b"outside")
    (shared / "good").symlink_to(shared / "study")
    (shared / "bad").symlink_to(tmp_path)
    (shared / "bad-file").symlink_to(tmp_path / "secret")
    (shared / "loop").symlink_to(shared / "loop")
    os.mkfifo(shared / "pipe")
    return shared


@pytest.mark.parametrize("name", ["study/a.png", "./study/../study/a.png", "good/a.png"])
def test_files_inside_are_read(root: Path, name: str) -> None:
    assert read_inside(root, name, 100) == b"inside"
    assert read_inside(root, str(root / name), 100) == b"inside"


@pytest.mark.parametrize(
    "name",
    [
        *("", ".", "..", "study", "../secret", "study/../../secret", "../shared-too/secret", "bad/secret"),
        *("bad-file", "loop", "pipe", "/etc/passwd", "absent", "study/a.png/x", "a\0b", "~/x", "x" * 5000),
        *("\ud800", "file:///etc/passwd"),
    ],
)
def test_nothing_else_is(root: Path, name: str) -> None:
    with pytest.raises(UploadError, match="no such file in the shared folder"):
        read_inside(root, name, 100)


def test_a_large_file_is_refused_unread(root: Path) -> None:
    with pytest.raises(UploadError, match="6 bytes, at most 5"):
        read_inside(root, "study/a.png", 5)


def test_a_link_put_there_meanwhile_leads_nowhere(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The folder is swapped for a link after the path was resolved."""
    real = Path.resolve

    def resolve(path: Path, strict: bool = False) -> Path:
        found = real(path, strict=strict)
        if found.name == "a.png":
            (root / "study").rename(root / "moved")
            (root.parent / "a.png").write_bytes(b"outside")
            (root / "study").symlink_to(root.parent)
        return found

    monkeypatch.setattr(Path, "resolve", resolve)
    with pytest.raises(UploadError, match="no such file"):
        read_inside(root, "study/a.png", 100)


def test_pictures_are_never_mirrored(tmp_path: Path) -> None:
    grey = np.zeros((4, 6), dtype=np.uint8)
    grey[:, 0] = 255
    out = io.BytesIO()
    Image.fromarray(grey).save(out, "PNG")
    with UploadJail(tmp_path) as jail:
        pixels = jail.open(jail.add(out.getvalue())).render().pixels
    assert (pixels[:, 0] == 255).all() and not pixels[:, 1:].any()
