"""Checkpoints of our own models: ``config.json`` and ``model.safetensors``, without the frozen text encoder.

The text encoder is a base weight that the cache holds, so only what was trained is written. A checkpoint that does
not fit is refused with its keys.
"""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from .modeling import MedGLIPConfig, MedGLIPForGrounding, load_text_encoder

PACKAGED = Path(__file__).parent / "checkpoints"
TEXT_ENCODER = "model.text_backbone."


def save_checkpoint(config: MedGLIPConfig, state: dict[str, Tensor], folder: Path) -> None:
    """Write ``state`` without the text encoder, tied tensors once, in bfloat16."""
    folder.mkdir(parents=True, exist_ok=True)
    seen: set[int] = set()
    kept = {}
    for name, tensor in state.items():
        if name.startswith(TEXT_ENCODER) or tensor.data_ptr() in seen:
            continue
        seen.add(tensor.data_ptr())
        kept[name] = tensor.detach().to("cpu", torch.float32).contiguous()
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
        packaged = sorted(path.name for path in PACKAGED.glob("*") if path.is_dir())
        raise FileNotFoundError(
            f"expected config.json and model.safetensors in {folder}; packaged checkpoints are {packaged}"
        )
    model = MedGLIPForGrounding(MedGLIPConfig.from_pretrained(folder))
    tensors = load_file(folder / "model.safetensors")
    result = model.load_state_dict(tensors, strict=False)
    present = {model.state_dict()[name].data_ptr() for name in tensors if name in model.state_dict()}
    missing = [
        name
        for name in result.missing_keys
        if not name.startswith(TEXT_ENCODER) and model.state_dict()[name].data_ptr() not in present
    ]
    if missing or result.unexpected_keys:
        raise ValueError(
            f"{folder}: the checkpoint does not fit its configuration; missing {missing[:5]}, "
            f"left over {result.unexpected_keys[:5]}"
        )
    load_text_encoder(model, fetch("minilm-l6"))
    return model.eval()
