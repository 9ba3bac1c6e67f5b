"""Low-rank adapters (LoRA, Hu et al., 2022) on a grounding network, through peft.

The adapters live inside the network; what is saved is the plain network with the adapters added in, so that a
checkpoint looks the same whichever way it was trained.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

if TYPE_CHECKING:
    from .modeling import MedGLIPForGrounding

# Small parts that are trained whole beside the adapters: heads, and what Med-GLIP adds.
WHOLE = ("bbox_embed", "class_embed", "modality_", "presence_head", "denoising_projection")
_ADAPTER = "default"


def add_lora(model: MedGLIPForGrounding, rank: int) -> None:
    """Put adapters on every linear layer of encoder, decoder and backbone, and freeze the rest but heads.

    Adapters start at zero effect. What was frozen before stays frozen.
    """
    from peft import LoraConfig, inject_adapter_in_model

    trained = {name for name, p in model.named_parameters() if p.requires_grad and _whole(name)}
    targets = [
        name
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear)
        and name.startswith(("model.encoder.layers", "model.decoder.layers", "model.backbone"))
    ]
    config = LoraConfig(r=rank, lora_alpha=2 * rank, target_modules=targets)
    inject_adapter_in_model(config, model, _ADAPTER)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_("lora_" in name or name in trained)


def merged_state(model: nn.Module, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """``state`` under the plain network's names, each adapter added to the layer it sits on.

    A state without adapters comes back as it is.
    """
    merged = {}
    for name, tensor in state.items():
        if "lora_" in name:
            continue
        plain = name.replace(".base_layer.", ".")
        if plain != name and name.endswith(".weight"):
            layer = name.removesuffix(".base_layer.weight")
            down, up = (state[f"{layer}.lora_{part}.{_ADAPTER}.weight"] for part in "AB")
            adapted: Any = model.get_submodule(layer)
            tensor = tensor + adapted.scaling[_ADAPTER] * (up @ down)
        merged[plain] = tensor
    return merged


def _whole(name: str) -> bool:
    return any(part in name for part in WHOLE)
