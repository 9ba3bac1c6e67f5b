"""PathVQA (He et al. 2020) in the parquet form of the hub: ``data/train-*``, ``validation-*``, ``test-*``.

The original release keeps its questions in pickled Python objects, which run code when they are read: it is
refused here.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal, get_args

from .hub_vqa import read_hub_vqa
from .reading import Reading
from .vqa import VQAExample

PathSplit = Literal["train", "validation", "test"]
_REMEDY = "`medglip data fetch path-vqa` downloads them"


def read_path_vqa(root: Path | str, split: PathSplit, cache: Path | str) -> Reading[VQAExample]:
    """Read one split of PathVQA.

    Args:
        root: Folder that holds ``data/*.parquet``.
        split: One of `PathSplit`.
        cache: Folder that the images are written to, each once.

    Raises:
        FileNotFoundError: Files of the split are absent.
        ValueError: The split is unknown, a row is malformed, or only the pickled release is there.
    """
    root = Path(root)
    if split not in get_args(PathSplit):
        raise ValueError(f"unknown PathVQA split {split!r}; choose one of {', '.join(get_args(PathSplit))}")
    if not any(root.glob("data/*.parquet")):
        pickled = next(root.rglob("*.pkl"), None)
        if pickled is not None:
            raise ValueError(
                f"{pickled} is of the original PathVQA release, whose pickled files run code when read;"
                f" use the parquet files instead: {_REMEDY}"
            )
    return read_hub_vqa(root, split, Path(cache), _REMEDY)
