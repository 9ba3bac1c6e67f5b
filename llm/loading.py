"""Checkpoints from a folder or the hub: the network, quantised or not, its processor and a peft adapter.

Owns what makes every family load the same way: image processors always on PIL (so the pixels do not depend on
whether torchvision is installed), no video processors, safetensors only, greedy generation. Knows nothing of
prompts.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import (
    AutoConfig,
    AutoImageProcessor,
    AutoModelForImageTextToText,
    AutoProcessor,
    BitsAndBytesConfig,
    PreTrainedModel,
)
from transformers.image_processing_backends import PilBackend

from .config import ModelConfig
from .families import Family, family_of

ADAPTER_FILE = "adapter_config.json"


def device_of(name: str) -> torch.device:
    """The device to use; ``"auto"`` takes CUDA where it is."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(name)


def dtype_name(config: ModelConfig, *, nano: bool) -> str:
    """The dtype's name; ``"auto"`` stands for ``"mixed"`` for nano on a CPU, else for ``"bfloat16"``."""
    if config.dtype != "auto":
        return config.dtype
    return "mixed" if nano and device_of(config.device).type == "cpu" else "bfloat16"


def dtype_of(name: str) -> torch.dtype:
    """A dtype by its name.

    Raises:
        ValueError: Not a floating dtype of torch.
    """
    kind = getattr(torch, name, None)
    if not isinstance(kind, torch.dtype) or not kind.is_floating_point:
        raise ValueError(f"dtype must be auto, bfloat16, float16 or float32 (nano: or mixed), got {name!r}")
    return kind


def load_checkpoint(config: ModelConfig) -> tuple[PreTrainedModel, Any, Family]:
    """The network in evaluation mode on its device, its processor and its family; no adapter yet.

    Raises:
        OSError: The checkpoint cannot be found; transformers names what it looked for.
    """
    source = {"revision": config.revision} if config.revision else {}
    settings = AutoConfig.from_pretrained(config.model, **source)
    family = family_of(settings)
    kind, device = dtype_of(dtype_name(config, nano=False)), device_of(config.device)
    packed = _quantization(config, family, kind)
    model = AutoModelForImageTextToText.from_pretrained(
        config.model,
        dtype=kind,
        use_safetensors=True,
        quantization_config=packed,
        device_map=None if packed is None else {"": device},
        **source,
    )
    model = model.to(device) if packed is None else model
    for name in ("temperature", "top_p", "top_k"):  # of sampling, which is not done here
        setattr(model.generation_config, name, None)
    model.generation_config.do_sample = False
    model.generation_config.cache_implementation = None  # the plain one, which prompts can share
    return model.eval(), load_processor(config.model, family, source), family


def load_processor(name: str, family: Family, source: dict[str, str]) -> Any:
    """The processor of a checkpoint, for still pictures and on PIL.

    Args:
        name: Folder or hub id.
        family: Says which class to use where the published one would need more than stills do.
        source: ``{"revision": ...}`` or empty.
    """
    if not family.processor:
        processor = AutoProcessor.from_pretrained(name, **source)
    else:
        processor = _stills_only(getattr(transformers, family.processor)).from_pretrained(name, **source)
    if not isinstance(processor.image_processor, PilBackend):
        processor.image_processor = AutoImageProcessor.from_pretrained(name, backend="pil", **source)
    return processor


def load_adapter(model: PreTrainedModel, name: str, *, merge: bool) -> Any:
    """Put a peft adapter onto a model, folded into the weights or beside them.

    Args:
        model: The base model.
        name: Folder or hub id.
        merge: Fold it in.

    Raises:
        FileNotFoundError: The folder holds no adapter.
    """
    from peft import PeftModel

    adapter_settings(name)
    adapted = PeftModel.from_pretrained(model, name)
    if not merge:
        return adapted.eval()
    merged = adapted.merge_and_unload()
    merged.tie_weights()  # trained tokens enter a tied head too
    return merged.eval()


def adapter_settings(name: str) -> dict[str, Any]:
    """What a peft adapter (folder or hub id) says of itself.

    Raises:
        FileNotFoundError: The folder holds no adapter.
    """
    from peft import PeftConfig

    is_hub_id = not Path(name).exists() and name.count("/") == 1 and not name.startswith((".", "/"))
    if is_hub_id:
        return dict(PeftConfig.from_pretrained(name).to_dict())
    path = Path(name) / ADAPTER_FILE
    if not path.is_file():
        raise FileNotFoundError(
            f"no peft adapter in {name} (expected {ADAPTER_FILE}); name the folder that holds one"
        )
    return dict(json.loads(path.read_text(encoding="utf-8")))


def _quantization(config: ModelConfig, family: Family, kind: torch.dtype) -> BitsAndBytesConfig | None:
    """How bitsandbytes packs the language model's layers; the vision side and the head keep their weights."""
    if config.quantization == "none":
        return None
    keep = [rf"(.*\.)?{name}" for name in (*family.vision, "lm_head")]
    if config.quantization == "8bit":
        return BitsAndBytesConfig(load_in_8bit=True, llm_int8_skip_modules=keep)
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_compute_dtype=kind,
        llm_int8_skip_modules=keep,
    )


def _stills_only(published: Any) -> Any:
    """A processor class without its video part, which transformers cannot build where torchvision is absent.

    The new constructor names no video processor, and the library loads what the constructor names.
    """
    if "video_processor" not in published.get_attributes():
        return published

    def build(
        self: Any,
        image_processor: Any = None,
        tokenizer: Any = None,
        chat_template: str | None = None,
    ) -> None:
        published.__init__(self, image_processor, tokenizer, chat_template=chat_template)

    return type(published.__name__, (published,), {"__init__": build})
