"""Checkpoints: ours (``config.json``, ``model.safetensors``) and published ones of the same architecture.

The frozen text encoder is a base weight that the cache holds, so of ours only what was trained is written. A
checkpoint that does not fit is refused with its keys.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import MMGroundingDinoConfig

from .calibration import FILE_NAME as CALIBRATION_FILE
from .calibration import Calibration
from .modeling import ADDED_PARAMETERS, MedGLIPConfig, MedGLIPForGrounding, load_text_encoder
from .packaged import checkpoint_folder, packaged_names
from .preprocess import AspectInput, InputMaker, SquareInput
from .prompts import load_tokenizer

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

TEXT_ENCODER = "model.text_backbone."
TOKENIZER_FILES = ("tokenizer.json", "vocab.txt")
FINGERPRINTED = frozenset((".json", ".txt", ".safetensors"))
HUB_FILES = ("*.json", "*.txt", "*.safetensors")  # no code, no pickles


@dataclass(frozen=True)
class Checkpoint:
    """All that a checkpoint decides: the network, and how pictures, phrases and scores are read.

    ``calibration`` is None where there is no ``calibration.json`` beside it. ``folder`` is where it was read,
    None for a network that was made and not read.
    """

    model: MedGLIPForGrounding
    make_input: InputMaker
    tokenizer: PreTrainedTokenizerBase
    calibration: Calibration | None
    folder: Path | None = None


def open_checkpoint(name_or_path: str | Path) -> Checkpoint:
    """Read a packaged checkpoint by name, a folder (ours or a published one), or a published one of the hub.

    Raises:
        FileNotFoundError: If there is no such checkpoint.
        ValueError: If it does not fit (see :func:`load_checkpoint`, :func:`load_published`).
    """
    folder = checkpoint_folder(name_or_path)
    if not folder.is_dir() and str(name_or_path).count("/") == 1:
        folder = _download(str(name_or_path))
    if not is_published(folder):
        model = load_checkpoint(folder)
        make_input: InputMaker = SquareInput(model.config.image_size)
        return Checkpoint(model, make_input, load_tokenizer(), read_calibration(folder), folder)
    own = any((folder / name).is_file() for name in TOKENIZER_FILES)
    return Checkpoint(
        load_published(folder),
        AspectInput.read(folder),
        load_tokenizer(folder if own else None),
        read_calibration(folder),
        folder,
    )


def fingerprint(folder: Path, calibration: Calibration | None) -> str:
    """sha256 of a checkpoint's files and of the calibration in use: what was made with another is stale."""
    digest = hashlib.sha256(repr(calibration).encode())
    for path in sorted(folder.iterdir()):
        if path.suffix in FINGERPRINTED and path.name != CALIBRATION_FILE:
            with path.open("rb") as file:
                digest.update(path.name.encode() + hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()


def is_published(folder: Path) -> bool:
    """Whether a folder holds a checkpoint in the library's layout rather than one of ours."""
    if not (folder / "config.json").is_file():
        return False
    values, _ = MMGroundingDinoConfig.get_config_dict(folder)
    return values.get("model_type") != MedGLIPConfig.model_type


def read_calibration(folder: Path) -> Calibration | None:
    """The calibration that lies beside a checkpoint; None where there is none."""
    path = folder / CALIBRATION_FILE
    return Calibration.load(path) if path.is_file() else None


def _download(name: str) -> Path:
    """The folder of a hub checkpoint, fetched once into the hub's cache.

    Raises:
        FileNotFoundError: If it is no folder here, and the hub does not have it or cannot be reached.
    """
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(name, allow_patterns=list(HUB_FILES)))
    except (OSError, ValueError) as error:  # the hub's errors are OSErrors, a malformed name a ValueError
        raise FileNotFoundError(
            f"expected a packaged checkpoint, a folder with config.json and model.safetensors or a hub id, "
            f"got {name!r}, which is none that can be reached: {error}"
        ) from error


def save_checkpoint(
    config: MedGLIPConfig, state: dict[str, Tensor], folder: Path, *, text_encoder: bool = False
) -> None:
    """Write ``state``, tied tensors once, in float16 (11 bits of precision).

    The text encoder is left out unless it is asked for, as one that is not the base weights' must be.
    """
    folder.mkdir(parents=True, exist_ok=True)
    seen: set[int] = set()
    kept = {}
    for name, tensor in state.items():
        if (name.startswith(TEXT_ENCODER) and not text_encoder) or tensor.data_ptr() in seen:
            continue
        seen.add(tensor.data_ptr())
        kept[name] = tensor.detach().to("cpu", torch.float16).contiguous()
    save_file(kept, folder / "model.safetensors", metadata={"format": "pt"})
    config.save_pretrained(folder)


def load_checkpoint(folder: Path) -> MedGLIPForGrounding:
    """Read a checkpoint written by :func:`save_checkpoint`, with the text encoder from the base-weight cache.

    Raises:
        FileNotFoundError: If the folder holds no checkpoint.
        ValueError: If tensors are missing, left over or of another shape.
    """
    from .base_weights import fetch

    if not (folder / "model.safetensors").is_file():
        packaged = packaged_names()
        raise FileNotFoundError(
            f"expected config.json and model.safetensors in {folder}; packaged checkpoints are {packaged}"
        )
    model = MedGLIPForGrounding(MedGLIPConfig.from_pretrained(folder))
    tensors = load_file(folder / "model.safetensors")
    state = model.state_dict()
    present = {state[name].data_ptr() for name in tensors if name in state}
    misfits = [name for name in tensors if name in state and tensors[name].shape != state[name].shape]
    if misfits:
        raise ValueError(f"{folder}: tensors of another shape than the configuration's: {misfits[:5]}")
    result = model.load_state_dict(tensors, strict=False)
    missing = [
        name
        for name in result.missing_keys
        if not name.startswith(TEXT_ENCODER)
        and name not in ADDED_PARAMETERS
        and state[name].data_ptr() not in present
    ]
    if missing or result.unexpected_keys:
        raise ValueError(
            f"{folder}: the checkpoint does not fit its configuration; missing {missing[:5]}, "
            f"left over {result.unexpected_keys[:5]}"
        )
    if not any(name.startswith(TEXT_ENCODER) for name in tensors):
        load_text_encoder(model, fetch("minilm-l6"))
    return model.eval()


def load_published(folder: Path, *, library_kernels: bool = False) -> MedGLIPForGrounding:
    """Read a published MM-Grounding-DINO or LLMDet checkpoint (a folder as downloaded from the model hub).

    Outputs equal the library's, bit for bit with its kernels and but for rounding with ours: what Med-GLIP
    adds is zero until trained.

    Args:
        folder: The checkpoint.
        library_kernels: Use the library's deformable attention in place of the faster one of
            :mod:`grounding.deformable`.

    Raises:
        ValueError: If the checkpoint is of another architecture, or a tensor is missing (other than
            ``ADDED_PARAMETERS``), left over or of another shape.
    """
    values, _ = MMGroundingDinoConfig.get_config_dict(folder)
    if values.get("model_type") not in (MMGroundingDinoConfig.model_type, MedGLIPConfig.model_type):
        raise ValueError(
            f"{folder}: expected a checkpoint of type {MMGroundingDinoConfig.model_type!r}, "
            f"got {values.get('model_type')!r}"
        )
    config = MedGLIPConfig.from_dict({**values, "model_type": MedGLIPConfig.model_type})
    config.disable_custom_kernels = library_kernels
    model, report = MedGLIPForGrounding.from_pretrained(
        folder,
        config=config,
        output_loading_info=True,
        ignore_mismatched_sizes=True,
        use_safetensors=True,
        dtype=torch.float32,
    )
    faults = {
        "missing": set(report["missing_keys"]) - set(ADDED_PARAMETERS),
        "left over": set(report["unexpected_keys"]),
        "of another shape": {key[0] for key in report["mismatched_keys"]},
    }
    if any(faults.values()):
        listed = "; ".join(f"{kind} {sorted(keys)[:5]}" for kind, keys in faults.items() if keys)
        raise ValueError(f"{folder}: the checkpoint does not fit its configuration: {listed}")
    return model.eval()
