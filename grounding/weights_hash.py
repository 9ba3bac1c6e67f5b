"""Which weights something was made for: a hash of them, written down beside it and checked.

Knows no model and no file but the weights themselves.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from torch import Tensor

WEIGHTS_KEY: Final = "weights_sha256"
"""Under which a file keeps the hash."""


def weights_sha256(folder: Path) -> str:
    """The sha256 of a folder's weight files (``*.safetensors``), names included; "" where there is none."""
    digest, files = hashlib.sha256(), sorted(folder.glob("*.safetensors"))
    for path in files:
        with path.open("rb") as file:
            digest.update(path.name.encode() + hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest() if files else ""


def tensors_sha256(tensors: Mapping[str, Tensor]) -> str:
    """The sha256 of some tensors' names and float32 values, whatever file and dtype they were kept in."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        digest.update(name.encode() + tensors[name].detach().float().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def check_weights(path: Path, fitted_on: str) -> None:
    """Refuse a calibration that was fitted on other weights than those beside it.

    Args:
        path: the calibration's file.
        fitted_on: what it says of its weights, "" where it says nothing.

    Raises:
        ValueError: the two differ.
    """
    if fitted_on != (present := weights_sha256(path.parent)):
        raise ValueError(
            f"{path} was fitted on weights of sha256 {fitted_on or 'unknown'}, but those beside it have "
            f"{present or 'none'}; fit it again into this folder, or delete it"
        )
