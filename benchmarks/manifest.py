"""What a figure was made with: versions, hashes, settings. Written beside every result."""

from __future__ import annotations

import hashlib
import json
import platform
import subprocess
import sys
from collections.abc import Iterable, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from benchmarks.whole_files import write_whole

PACKAGES = ("torch", "transformers", "peft", "numpy", "pillow", "evaluate", "faster-coco-eval")


def sha256_files(paths: Iterable[Path]) -> str:
    """One sha256 over names and contents of files, sorted by name."""
    digest = hashlib.sha256()
    for path in sorted(paths, key=lambda p: p.name):
        digest.update(path.name.encode() + b"\0")
        with path.open("rb") as file:
            for block in iter(lambda: file.read(1 << 20), b""):
                digest.update(block)
    return digest.hexdigest()


def checkpoint_hash(folder: Path | None) -> str | None:
    """sha256 of a checkpoint's configuration and weights; None for a model that is no local folder."""
    if folder is None:
        return None
    return sha256_files(p for p in folder.iterdir() if p.suffix in {".json", ".safetensors"})


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that decide results."""
    found = {"python": platform.python_version(), "machine": platform.machine()}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "absent"
    return found


def git_commit() -> str | None:
    """The commit of the source tree, with a + where it has changes; None outside a repository."""
    root = Path(__file__).parent
    try:
        command = ["git", "-C", str(root), "describe", "--always", "--dirty=+", "--exclude=*", "--abbrev=12"]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def write_manifest(path: Path, settings: Mapping[str, Any], **measured: float) -> None:
    """Write settings, versions, commit and the command; `measured` holds seconds and the like."""
    manifest = {
        "command": [Path(sys.argv[0]).name, *sys.argv[1:]],
        "commit": git_commit(),
        "versions": versions(),
        "settings": dict(settings),
        "measured": measured,
    }
    write_whole(path, json.dumps(manifest, indent=2))
