"""The nano vision-language model's network: pixels and token ids to logits.

image (B, 3, 256, 256) -> vision tower (B, 320, 8, 8) -> pixel-unshuffle (B, 16, 1280) -> projector (B, 16,
576), which takes the place of the 16 image tokens among the language model's input embeddings. Knows no text,
no boxes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import AutoModelForCausalLM, GenerationMixin, PreTrainedModel
from transformers.cache_utils import Cache
from transformers.modeling_outputs import ModelOutput

from grounding.backbone import EfficientNetLite

from .configuration import NanoVLMConfig


@dataclass
class NanoVLMOutput(ModelOutput):  # type: ignore[misc]
    """Output of `NanoVLMForConditionalGeneration`: loss (with labels), logits (B, L, V), key-value cache."""

    loss: Tensor | None = None
    logits: Tensor | None = None
    past_key_values: Cache | None = None


class Projector(nn.Module):
    """Image tokens (B, N, vision size) to the language model's embeddings (B, N, hidden size)."""

    def __init__(self, config: NanoVLMConfig) -> None:
        """Layers with torch's own initialisation."""
        super().__init__()
        self.norm = nn.LayerNorm(config.vision_size)
        self.up = nn.Linear(config.vision_size, config.projector_hidden_size)
        self.down = nn.Linear(config.projector_hidden_size, config.text_config.hidden_size)

    def forward(self, tokens: Tensor) -> Tensor:
        """Normalise, widen, narrow."""
        projected: Tensor = self.down(F.gelu(self.up(self.norm(tokens))))
        return projected


class NanoVLMForConditionalGeneration(PreTrainedModel, GenerationMixin):  # type: ignore[misc]
    """EfficientNet-Lite0 + projector + a causal language model.

    The vision tower's weights stay in float32 whatever the dtype of the rest; it casts them to that of the
    pixels.
    """

    config_class = NanoVLMConfig
    config: NanoVLMConfig
    base_model_prefix = ""
    main_input_name = "input_ids"
    input_modalities = ("image", "text")
    _supports_sdpa = True
    _keep_in_fp32_modules_strict = ["vision_tower"]  # noqa: RUF012 (transformers' own convention)
    _no_split_modules = ["LlamaDecoderLayer"]  # noqa: RUF012
    _tied_weights_keys = {  # noqa: RUF012 (peft reads it: trained spatial tokens also enter the head)
        "language_model.lm_head.weight": "language_model.model.embed_tokens.weight"
    }

    def __init__(self, config: NanoVLMConfig) -> None:
        """Untrained; `llm.nano.checkpoint` assembles base weights and checkpoints."""
        super().__init__(config)
        self.vision_tower = EfficientNetLite()
        self.projector = Projector(config)
        self.language_model = AutoModelForCausalLM.from_config(config.text_config)
        self.post_init()

    def _init_weights(self, module: nn.Module) -> None:
        """Keep the initialisation of the layers' own constructors."""

    def get_input_embeddings(self) -> Any:
        """The token embeddings."""
        return self.language_model.get_input_embeddings()

    def set_input_embeddings(self, value: nn.Module) -> None:
        """Replace the token embeddings."""
        self.language_model.set_input_embeddings(value)

    def get_output_embeddings(self) -> Any:
        """The language model's head."""
        return self.language_model.get_output_embeddings()

    def vision_features(self, pixel_values: Tensor) -> Tensor:
        """Features (B, image tokens, vision size) of (B, 3, S, S) ImageNet-normalised pixels.

        They come before the projector and depend on no trained weight, so they can be computed once an image
        and kept. The tower computes in the dtype of the token embeddings: once an image, so that in mixed
        precision float32 costs little there, and bfloat16 would change answers.
        """
        dtype = self.get_input_embeddings().weight.dtype
        pixels = pixel_values.to(dtype, memory_format=torch.channels_last)
        features = self.vision_tower(pixels)[-1]
        cells: Tensor = F.pixel_unshuffle(features, self.config.pixel_unshuffle)
        return cells.flatten(2).transpose(1, 2)

    def embed(self, input_ids: Tensor, vision_features: Tensor | None) -> Tensor:
        """Input embeddings (B, L, hidden size), the image tokens replaced in order by the projected features.

        Raises:
            ValueError: The number of image tokens is not that of the features.
        """
        embeddings: Tensor = self.get_input_embeddings()(input_ids)
        if vision_features is None:
            return embeddings
        is_image = input_ids == self.config.image_token_id
        expected = vision_features.shape[0] * vision_features.shape[1]
        if int(is_image.sum()) != expected:
            raise ValueError(
                f"the text holds {int(is_image.sum())} image tokens, the images need {expected};"
                f" build the text with the processor, which writes {self.config.num_image_tokens} an image"
            )
        projected = self.projector(vision_features.to(self.projector.up.weight.dtype)).to(embeddings.dtype)
        return embeddings.masked_scatter(is_image[..., None], projected)

    def forward(
        self,
        input_ids: Tensor | None = None,
        pixel_values: Tensor | None = None,
        vision_features: Tensor | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        past_key_values: Cache | None = None,
        inputs_embeds: Tensor | None = None,
        labels: Tensor | None = None,
        use_cache: bool | None = None,
        logits_to_keep: int | Tensor = 0,
        **kwargs: Any,
    ) -> NanoVLMOutput:
        """Logits of token ids (B, L) with an image each, as pixels or `vision_features`."""
        if vision_features is None and pixel_values is not None:
            vision_features = self.vision_features(pixel_values)
        if inputs_embeds is None:
            if input_ids is None:
                raise ValueError("give input_ids or inputs_embeds, got neither")
            inputs_embeds = self.embed(input_ids, vision_features)
        outputs = self.language_model(
            inputs_embeds=inputs_embeds,
            attention_mask=attention_mask,
            position_ids=position_ids,
            past_key_values=past_key_values,
            use_cache=use_cache,
            logits_to_keep=logits_to_keep,
        )
        loss = None
        if labels is not None:
            loss = F.cross_entropy(outputs.logits[:, :-1].float().flatten(0, 1), labels[:, 1:].flatten())
        return NanoVLMOutput(loss=loss, logits=outputs.logits, past_key_values=outputs.past_key_values)

    def prepare_inputs_for_generation(
        self,
        input_ids: Tensor,
        past_key_values: Cache | None = None,
        pixel_values: Tensor | None = None,
        vision_features: Tensor | None = None,
        is_first_iteration: bool = False,
        **kwargs: Any,
    ) -> dict[str, Any]:
        """Give the image to the first step only; afterwards it is in the key-value cache."""
        inputs: dict[str, Any] = super().prepare_inputs_for_generation(
            input_ids, past_key_values=past_key_values, is_first_iteration=is_first_iteration, **kwargs
        )
        if is_first_iteration or not kwargs.get("use_cache", True):
            inputs["pixel_values"], inputs["vision_features"] = pixel_values, vision_features
        return inputs


def spatial_embeddings(table: Tensor, count: int, seed: int = 0) -> Tensor:
    """Starting embeddings (count, hidden size) of ordered bins: neighbours are close, distant bins apart.

    A random smooth curve (8 Fourier frequencies) around the mean of the embedding `table` (V, hidden size),
    with the table's own spread, so that what is learned for one bin carries over to the next.
    """
    generator = torch.Generator().manual_seed(seed)
    frequency = torch.arange(1, 9, dtype=torch.float32) * torch.pi / 2
    angle = torch.linspace(0, 1, count)[:, None] * frequency
    waves = torch.cat((angle.sin(), angle.cos()), dim=1)
    curve = waves @ torch.randn(waves.shape[1], table.shape[1], generator=generator) / waves.shape[1] ** 0.5
    start: Tensor = table.float().mean(0) + curve * table.float().std(0)
    return start
