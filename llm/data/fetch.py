"""Fetching the openly licensed data sets: a pinned revision, resumable, every file hashed and checked again.

Owns the download from the hub, the unpacking and ``fetched.json``, the record of what was fetched
(repository, revision, sha256 of every file). `llm.data.sources` says what is fetched and what must be
applied for.
"""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath
from typing import Any, Final

from filelock import FileLock

from .reading import join_inside
from .sources import Source, find_source, how_to_get

RECORD: Final = "fetched.json"


class FetchError(OSError):
    """A data set could not be fetched or is not what it should be; the message says what to do."""


class ApplicationNeededError(FetchError):
    """The data set is not for the taking: the message says where to apply and which layout is expected."""


def fetch_dataset(name: str, folder: Path | str) -> Path:
    """Bring a data set into a folder, or check the one that is there.

    What is whole is not downloaded again; what is absent or damaged is. Several processes may call at once.

    Args:
        name: One of `llm.data.sources.SOURCES`.
        folder: Its own folder, made where it is absent.

    Returns:
        The folder.

    Raises:
        ApplicationNeededError: The set must be applied for, or comes from its own site.
        FetchError: The hub is out of reach, or a file is absent or another than the pinned or recorded one.
        ValueError: The name is unknown.
    """
    source, folder = find_source(name), Path(folder)
    if source.repository is None:
        raise ApplicationNeededError(f"{name} is not downloaded for you.\n{how_to_get(name)}")
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / ".fetch.lock"):
        recorded = _read_record(folder, source)
        damaged = damaged_files(folder, recorded)
        if recorded and not damaged:
            return folder
        for file in damaged:  # the hub's client takes what lies there for whole
            (folder / file).unlink(missing_ok=True)
        if not recorded or damaged & set(source.files):
            _download(name, source, folder)
        unpacked = [file for archive in source.archives for file in _unpack(folder / archive, folder)]
        hashes = _hashes(folder, [*source.files, *unpacked])
        _check(name, source, recorded, hashes)
        _write_record(folder, source, hashes)
    return folder


def damaged_files(folder: Path, recorded: Mapping[str, str]) -> set[str]:
    """The recorded files that are absent or have another sha256 (reads them all)."""
    return {
        file
        for file, sha256 in recorded.items()
        if not (folder / file).is_file() or _sha256(folder / file) != sha256
    }


def snapshot(repository: str, revision: str, files: Iterable[str], folder: Path) -> None:
    """Download files of a data set on the hub into a folder; continues what was broken off.

    No token is sent: the sets are public.
    """
    from huggingface_hub import snapshot_download

    snapshot_download(
        repository,
        repo_type="dataset",
        revision=revision,
        allow_patterns=list(files),
        local_dir=folder,
        token=False,
    )


def _download(name: str, source: Source, folder: Path) -> None:
    try:
        snapshot(str(source.repository), source.revision, source.files, folder)
    except Exception as error:  # the hub's client raises what its transport raises
        reason = " ".join(str(error).split())[:300]
        raise FetchError(
            f"could not download {name} ({type(error).__name__}: {reason});"
            f" what came stays in {folder}, and the next try goes on from there."
            f" Without the hub:\n{how_to_get(name)}"
        ) from error
    absent = [file for file in source.files if not (folder / file).is_file()]
    if absent:  # out of reach, the client may return what is there as if it were all
        raise FetchError(
            f"could not download {name}: {len(absent)} of {len(source.files)} files did not come, such as"
            f" {absent[0]}; is the hub out of reach? Try again, or by hand:\n{how_to_get(name)}"
        )


def _unpack(archive: Path, folder: Path) -> list[str]:
    """Unpack a zip file over what is there; returns the files' names in the folder.

    Raises:
        FetchError: It is damaged, or a name in it leads out of the folder.
    """
    try:
        with zipfile.ZipFile(archive) as packed:
            names = [info.filename for info in packed.infolist() if not info.is_dir()]
            outside = [name for name in names if PurePosixPath(name).is_absolute() or ".." in name.split("/")]
            if outside:
                raise FetchError(f"{archive} holds {outside[0]!r}, which leads out of {folder}; not unpacked")
            packed.extractall(folder)
    except zipfile.BadZipFile as error:
        archive.unlink()
        raise FetchError(f"{archive} was damaged ({error}) and is deleted; fetch again") from error
    return names


def _hashes(folder: Path, files: Iterable[str]) -> dict[str, str]:
    return {file: _sha256(folder / file) for file in sorted(files)}


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _check(name: str, source: Source, recorded: Mapping[str, str], hashes: Mapping[str, str]) -> None:
    """A pinned revision always gives the same bytes: compare with the pins and with the record."""
    for file, found in hashes.items():
        expected = source.files.get(file) or recorded.get(file)
        if expected and found != expected:
            raise FetchError(
                f"{name}: expected {file} with sha256 {expected}, got {found}; the hub served another file:"
                " delete it and fetch again, and tell us if it stays so"
            )


def _read_record(folder: Path, source: Source) -> dict[str, str]:
    """sha256 by file from the record; empty where there is none, or one of another revision."""
    path = folder / RECORD
    if not path.is_file():
        return {}
    try:
        record: Any = json.loads(path.read_text(encoding="utf-8"))
        same = (record["repository"], record["revision"]) == (source.repository, source.revision)
        files = {str(file): str(sha256) for file, sha256 in record["files"].items()}
        for file in files:
            join_inside(folder, file, RECORD)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise FetchError(f"{path} is no record of a fetch ({error!r}); delete it and fetch again") from error
    return files if same else {}


def _write_record(folder: Path, source: Source, hashes: Mapping[str, str]) -> None:
    """Write the record by one rename, so that it is there only when the set is whole."""
    record = {
        "repository": source.repository,
        "revision": source.revision,
        "licence": source.licence,
        "files": dict(hashes),
    }
    partial = folder / f".{RECORD}.partial"
    partial.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    partial.replace(folder / RECORD)
