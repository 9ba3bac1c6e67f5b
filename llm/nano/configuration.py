"""Configuration of the nano vision-language model."""

from __future__ import annotations

from typing import Any

from transformers import AutoConfig, PreTrainedConfig


class NanoVLMConfig(PreTrainedConfig):  # type: ignore[misc]
    """Shape of the nano model and the names of the base weights that it is assembled from.

    Attributes:
        text_config: The language model's configuration, its vocabulary already with the image and spatial
            tokens.
        image_size: Side of the square that an image is resized to, in pixels.
        vision_channels: Channels of the vision tower's stride-32 features.
        pixel_unshuffle: Side of the block of feature cells that becomes one image token.
        projector_hidden_size: Width of the projector's hidden layer.
        image_token_id: The placeholder token that image features replace; the spatial tokens follow it.
        base_language_model: Name in the base-weight cache, or a folder.
        base_vision_tower: Name in the base-weight cache, a folder, or ``grounder:`` and a grounder's name.
        vision_tower_sha256: Of the tensors of a grounder's backbone, None for another tower.
    """

    model_type = "medglip-nano-vlm"
    sub_configs = {"text_config": AutoConfig}  # noqa: RUF012 (transformers' own convention)

    def __init__(
        self,
        text_config: dict[str, Any] | PreTrainedConfig | None = None,
        image_size: int = 256,
        vision_channels: int = 320,
        pixel_unshuffle: int = 2,
        projector_hidden_size: int = 768,
        image_token_id: int = 49152,
        base_language_model: str = "smollm2-135m-instruct",
        base_vision_tower: str = "efficientnet-lite0",
        vision_tower_sha256: str | None = None,
        **kwargs: Any,
    ) -> None:
        """Fill in the language model's configuration where it came as a dictionary."""
        if text_config is None or isinstance(text_config, dict):
            fields = dict(text_config or {})
            text_config = AutoConfig.for_model(fields.pop("model_type", "llama"), **fields)
        self.text_config: PreTrainedConfig = text_config
        self.image_size = image_size
        self.vision_channels = vision_channels
        self.pixel_unshuffle = pixel_unshuffle
        self.projector_hidden_size = projector_hidden_size
        self.image_token_id = image_token_id
        self.base_language_model = base_language_model
        self.base_vision_tower = base_vision_tower
        self.vision_tower_sha256 = vision_tower_sha256
        kwargs.setdefault("tie_word_embeddings", bool(getattr(text_config, "tie_word_embeddings", True)))
        super().__init__(**kwargs)

    @property
    def num_image_tokens(self) -> int:
        """Image tokens of one image."""
        return (self.image_size // 32 // self.pixel_unshuffle) ** 2

    @property
    def vision_size(self) -> int:
        """Channels of one image token before the projector."""
        return self.vision_channels * self.pixel_unshuffle**2
