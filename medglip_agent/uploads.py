"""Files from outside: a folder of its own for each session, and a way into a shared folder without a way out.

Owns where untrusted files lie, what they are called and when they vanish; `grounding.probe` owns how large
they may be. What a decoder says about a damaged file is never passed on: it may quote the file.
"""

from __future__ import annotations

import os
import secrets
import shutil
import stat
import tempfile
import weakref
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from grounding.images import ImageError, ImageSource, open_source
from grounding.probe import Limits, probe
from grounding.types import MedicalImage, Window

_PREFIX: Final = "medglip-uploads-"
THE_FILE: Final = "the file"
"""What messages call a file; its name is its sender's."""


class UploadError(ValueError):
    """A file that is not accepted; the message may be shown to whoever sent it."""


class UploadJail:
    """The uploads of one session: random names in a private folder that is deleted with the session.

    Use it as a context, or call `close`; it also empties itself when it is collected or Python ends.
    """

    def __init__(
        self, parent: Path | None = None, limits: Limits | None = None, *, max_total_bytes: int = 1 << 30
    ) -> None:
        """Make the folder.

        Args:
            parent: where; None for the system's temporary folder.
            limits: of each file; None for the defaults.
            max_total_bytes: of all files together.
        """
        self.limits = limits or Limits()
        self.folder = Path(tempfile.mkdtemp(prefix=f"{_PREFIX}{os.getpid()}-", dir=parent))  # mode 0700
        self._room = max_total_bytes
        self._finalizer = weakref.finalize(self, shutil.rmtree, self.folder, ignore_errors=True)

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Delete everything."""
        self.close()

    def close(self) -> None:
        """Delete the folder with all that is in it; a second call does nothing."""
        self._finalizer()

    def add(self, data: bytes) -> Path:
        """Store a file under a random name, once its headers are within the limits; nothing is decoded.

        Raises:
            UploadError: it is no image, exceeds a limit, or the session has no room left.
        """
        try:
            probe(data, THE_FILE, self.limits)
        except ImageError as error:
            raise _told(error, THE_FILE) from None
        if len(data) > self._room:
            raise UploadError("this session has no room left for the file; start a new one")
        path = self.folder / secrets.token_hex(16)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
        self._room -= len(data)
        return path

    def open(self, path: Path, *, modality: str | None = None) -> ImageSource:
        """Open a file that `add` stored; its default frame is decoded.

        Args:
            path: what `add` returned.
            modality: DICOM code that overrides what the file says.

        Raises:
            UploadError: it is none of this session's files, or is damaged.
        """
        if path.parent != self.folder or not path.is_file() or path.is_symlink():
            raise UploadError("the file is none of this session's; upload it again")
        try:
            return open_source(path, modality=modality)
        except ImageError as error:
            raise _told(error, path.name) from None


def image_from(
    data: bytes,
    limits: Limits,
    *,
    modality: str | None = None,
    frame: int | None = None,
    window: Window | None = None,
) -> MedicalImage:
    """Return one frame of a file from outside; nothing of the file is left on the disk.

    Args:
        data: the file.
        limits: what it must keep.
        modality: DICOM code that overrides what the file says.
        frame: from 0; None for the file's default.
        window: in rescaled units; None for the file's own.

    Raises:
        UploadError: the file is not accepted or damaged, or has no such frame or window.
    """
    with UploadJail(limits=limits) as jail:
        path = jail.add(data)
        source = jail.open(path, modality=modality)
        try:
            return source.render(frame, window)
        except ImageError as error:
            raise _told(error, path.name) from None


def _told(error: ImageError, name: str) -> UploadError:
    """Our own words about a file pass; a decoder's may quote it, and are left out."""
    if error.__cause__ is not None:
        return UploadError(
            f"{THE_FILE}: cannot be decoded; it is damaged, truncated or of a kind that no decoder here "
            "reads: copy it again, or export it uncompressed"
        )
    return UploadError(str(error).replace(name, THE_FILE))


def sweep(parent: Path | None = None) -> int:
    """Delete the folders that killed processes of this user left behind; return how many."""
    swept = 0
    for folder in Path(parent or tempfile.gettempdir()).glob(f"{_PREFIX}*-*"):
        owner = folder.name.removeprefix(_PREFIX).partition("-")[0]
        if owner.isdecimal() and not _alive(int(owner)) and _ours(folder):
            shutil.rmtree(folder, ignore_errors=True)  # refuses a symlink
            swept += 1
    return swept


def _ours(folder: Path) -> bool:
    try:
        found = folder.lstat()
    except FileNotFoundError:  # another process swept it
        return False
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid()


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:  # somebody else's process, or a number that is none
        return True
    return True


def read_inside(root: Path, name: str, max_bytes: int) -> bytes:
    """Return the bytes of a regular file below `root`, whatever links and dots `name` holds.

    Links are followed only as far as they stay below `root`; the folders are then opened one in another, so
    that a link put there meanwhile leads nowhere.

    Args:
        root: the folder that is shared.
        name: a path relative to it, or an absolute one below it.
        max_bytes: larger files are refused unread.

    Raises:
        UploadError: there is no such file below `root`, or it is too large. What lies outside is not told.
    """
    nothing = UploadError("there is no such file in the shared folder; name one relative to that folder")
    try:
        base = root.resolve(strict=True)
        parts = (base / name).resolve(strict=True).relative_to(base).parts
        descriptor = _open_below(base, parts)
    except (OSError, ValueError, RuntimeError):  # absent, outside, a NUL, a loop of links
        raise nothing from None
    found = os.fstat(descriptor)
    if not stat.S_ISREG(found.st_mode):
        os.close(descriptor)
        raise nothing
    with os.fdopen(descriptor, "rb") as file:
        if found.st_size > max_bytes:
            raise UploadError(f"{THE_FILE} has {found.st_size} bytes, at most {max_bytes} are accepted")
        return file.read(max_bytes)


def _open_below(base: Path, parts: tuple[str, ...]) -> int:
    """Open base/part/part/... without following any link; a pipe does not block."""
    if not parts:
        raise FileNotFoundError(base)
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC
    folder = os.open(base, flags | os.O_DIRECTORY)
    try:
        for part in parts[:-1]:
            inner = os.open(part, flags | os.O_DIRECTORY, dir_fd=folder)
            os.close(folder)
            folder = inner
        opened = os.open(parts[-1], flags | os.O_NONBLOCK, dir_fd=folder)
    finally:
        os.close(folder)
    return opened
