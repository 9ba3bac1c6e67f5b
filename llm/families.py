"""What differs between families of vision-language models: one `Family` each, in one dict.

Everything else (loading, batching, generation, LoRA) is the same code for all of them. A family is found by
``config.model_type``; one that is not listed is taken as `OTHER`, which asks for nothing special. Knows no
torch and loads no model.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from .prompt import NANO_STYLE, TEXT_STYLE, PromptStyle


@dataclass(frozen=True)
class Family:
    """One family's particulars.

    Attributes:
        style: How boxes are written, and how many.
        language_model: Name of the module that holds the decoder layers; LoRA goes to its linear layers.
        vision: Names of the modules that see the image; they are never quantised.
        projector: Regular expression of the linear layers between vision and language, "" for none.
        plain_prompt: The turn where the checkpoint has no chat template, with {image} and {text}.
        processor: transformers' processor class to use for still pictures where the published one wants a
            video processor (which needs torchvision) or other extras; "" takes the published one.
        reply_token_type: Token type of the reply in training, for models that attend to the prompt in both
            directions and to the reply causally.
    """

    style: PromptStyle = TEXT_STYLE
    language_model: str = "language_model"
    vision: tuple[str, ...] = ("vision_tower", "multi_modal_projector")
    projector: str = ""
    plain_prompt: str = "USER: {image}\n{text} ASSISTANT:"
    processor: str = ""
    reply_token_type: int = 0

    def lora_targets(self, *, projector: bool = False) -> str:
        """Regular expression of the linear layers that LoRA adapts, matched against whole module names."""
        linear = "q_proj|k_proj|v_proj|o_proj|gate_proj|up_proj|down_proj"
        layers = rf"(.*\.)?{self.language_model}\.(model\.)?layers\.\d+\.\w+\.({linear})"
        return rf"({layers})|((.*\.)?{self.projector})" if projector and self.projector else layers


OTHER = Family()
_QWEN2_5 = Family(vision=("visual",), projector=r"visual\.merger\.mlp\.[02]", processor="Qwen2_5_VLProcessor")
_QWEN3 = Family(
    vision=("visual",),
    projector=r"visual\.(merger|deepstack_merger_list\.\d+)\.linear_fc[12]",
    processor="Qwen3VLProcessor",
)
_LLAVA = Family(projector=r"multi_modal_projector\.linear_[12]")
_IDEFICS = Family(
    language_model="text_model",
    vision=("vision_model", "connector"),
    projector=r"connector\.modality_projection\.proj",
    processor="Idefics3Processor",  # SmolVLM's own is this one plus videos
)
_PALIGEMMA = Family(
    projector=r"multi_modal_projector\.linear", plain_prompt="{image}{text}", reply_token_type=1
)

FAMILIES: dict[str, Family] = {
    "medglip-nano-vlm": Family(style=NANO_STYLE, vision=("vision_tower", "projector")),
    "qwen2_5_vl": _QWEN2_5,
    "qwen3_vl": _QWEN3,
    "qwen3_vl_moe": _QWEN3,
    "llava": _LLAVA,
    "llava_med": Family(projector=_LLAVA.projector, plain_prompt="[INST] {image}\n{text} [/INST]"),
    "smolvlm": _IDEFICS,
    "idefics3": _IDEFICS,
    "paligemma": _PALIGEMMA,
    "gemma3": Family(),  # MedGemma too; its projector is a bare matrix, not a layer
}


def family_of(config: Any) -> Family:
    """The family of a transformers configuration.

    LLaVA-Med is a LLaVA on Mistral; the rest of the name is ``model_type``.
    """
    name = config.model_type
    if name == "llava" and getattr(config.text_config, "model_type", "") == "mistral":
        name = "llava_med"
    return FAMILIES.get(name, OTHER)


def family_named(name: str | None) -> Family:
    """A family by its key, `OTHER` for None.

    Raises:
        ValueError: No such family.
    """
    if name is None:
        return OTHER
    if name not in FAMILIES:
        raise ValueError(f"family must be one of {', '.join(FAMILIES)}, got {name!r}")
    return FAMILIES[name]
