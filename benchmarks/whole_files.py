"""Files that appear whole or not at all, whenever the process that writes them is killed."""

from __future__ import annotations

import os
from pathlib import Path


def write_whole(path: Path, text: str) -> None:
    """Write a text file through a neighbour, `<name>.tmp`, that takes its place when it is on disk.

    One process at a time writes a file: whoever is killed leaves a neighbour that the next one overwrites.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.tmp")
    with partial.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)
