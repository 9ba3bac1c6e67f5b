"""Where the checkpoints that ship with the project lie. Knows nothing of what is in them."""

from __future__ import annotations

from pathlib import Path

PACKAGED = Path(__file__).parent / "checkpoints"


def checkpoint_folder(name_or_path: str | Path) -> Path:
    """The folder that a name means here: a packaged checkpoint's, else the path itself, there or not."""
    packaged = PACKAGED / str(name_or_path)
    return packaged if packaged.is_dir() else Path(name_or_path)


def packaged_names() -> list[str]:
    """The names of the packaged checkpoints, in order."""
    return sorted(path.name for path in PACKAGED.glob("*") if path.is_dir())
