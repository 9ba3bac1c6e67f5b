"""What differs between families of vision-language models: one `Family` each, in one dict.

Everything else (loading, batching, generation, LoRA) is the same code for all of them. A family is found by
``config.model_type``; one that is not listed is taken as `OTHER`, which asks for nothing special. How each
writes boxes is `llm.spatial`'s business. Knows no torch and loads no model.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from .spatial import STYLES, PromptStyle, Qwen25Boxes

# Turns for checkpoints without a chat template; IMAGE becomes the processor's image token.
_VICUNA = (
    "{% for m in messages %}{% if m.role == 'user' %}USER: {% for p in m.content %}"
    "{{ 'IMAGE\n' if p.type == 'image' else p.text }}{% endfor %} "
    "{% else %}ASSISTANT: {{ m.content[0].text }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}ASSISTANT:{% endif %}"
)
_MISTRAL = (
    "{% for m in messages %}{% if m.role == 'user' %}[INST] {% for p in m.content %}"
    "{{ 'IMAGE\n' if p.type == 'image' else p.text }}{% endfor %} [/INST]"
    "{% else %} {{ m.content[0].text }}{% endif %}{% endfor %}"
)
_PREFIX = (
    "{% for m in messages %}{% for p in m.content %}"
    "{{ 'IMAGE' if p.type == 'image' else p.text }}{% endfor %}{% endfor %}"
)


@dataclass(frozen=True)
class Family:
    """One family's particulars.

    Attributes:
        style: How regions are shown to it unless a configuration says otherwise: a key of
            `llm.spatial.STYLES`.
        language_model: Name of the module that holds the decoder layers; LoRA goes to its linear layers.
        vision: Names of the modules that see the image; they are never quantised.
        projector: Regular expression of the linear layers between vision and language, "" for none.
        chat_template: Jinja template of the turns where the checkpoint has none.
        processor: transformers' processor class to use for still pictures where the published one wants a
            video processor (which needs torchvision) or other extras; "" takes the published one.
        reply_token_type: Token type of the reply in training, for models that attend to the prompt in both
            directions and to the reply causally.
        shares_prefixes: Each token sees only what stands before it, so that a prompt's beginning may be kept
            for other prompts with the same one.
    """

    style: str = "text"
    language_model: str = "language_model"
    vision: tuple[str, ...] = ("vision_tower", "multi_modal_projector")
    projector: str = ""
    chat_template: str = _VICUNA
    processor: str = ""
    reply_token_type: int = 0
    shares_prefixes: bool = True

    def lora_targets(self, *, projector: bool = False) -> str:
        """Regular expression of the linear layers that LoRA adapts, matched against whole module names."""
        linear = "q_proj|k_proj|v_proj|o_proj|gate_proj|up_proj|down_proj"
        layers = rf"(.*\.)?{self.language_model}\.(model\.)?layers\.\d+\.\w+\.({linear})"
        return rf"({layers})|((.*\.)?{self.projector})" if projector and self.projector else layers


OTHER = Family(shares_prefixes=False)  # it is not known to be so
_QWEN3 = Family(
    style="qwen3_vl",
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

FAMILIES: dict[str, Family] = {
    "medglip-nano-vlm": Family(style="medglip-nano-vlm", vision=("vision_tower", "projector")),
    "qwen2_5_vl": Family(
        style="qwen2_5_vl",
        vision=("visual",),
        projector=r"visual\.merger\.mlp\.[02]",
        processor="Qwen2_5_VLProcessor",
    ),
    "qwen3_vl": _QWEN3,
    "qwen3_vl_moe": _QWEN3,
    "llava": _LLAVA,
    "llava_med": replace(_LLAVA, chat_template=_MISTRAL),
    "smolvlm": _IDEFICS,
    "idefics3": _IDEFICS,
    "paligemma": Family(
        style="paligemma",
        projector=r"multi_modal_projector\.linear",
        chat_template=_PREFIX,
        reply_token_type=1,
        shares_prefixes=False,
    ),
    "gemma3": Family(style="gemma3"),  # MedGemma too; its projector is a bare matrix, not a layer
}


def family_of(config: Any) -> Family:
    """The family of a transformers configuration.

    LLaVA-Med is a LLaVA on Mistral; every other family is named by ``model_type``.
    """
    name = config.model_type
    if name == "llava" and getattr(config.text_config, "model_type", "") == "mistral":
        name = "llava_med"
    return FAMILIES.get(name, OTHER)


def style_named(name: str, processor: Any = None) -> PromptStyle:
    """A way to show regions by its key in `llm.spatial.STYLES`.

    Args:
        name: The key.
        processor: Of the model; where boxes are pixels of the resized image, it says how it resizes.

    Raises:
        ValueError: No such style.
    """
    if name not in STYLES:
        raise ValueError(f"style must be one of {', '.join(STYLES)}, got {name!r}")
    style = STYLES[name]
    if isinstance(style.box_format, Qwen25Boxes) and processor is not None:
        return replace(style, box_format=Qwen25Boxes.from_processor(processor))
    return style
