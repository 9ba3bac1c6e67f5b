"""Pixels and text to the nano model's inputs: PIL and numpy only, no torchvision."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image
from tokenizers import AddedToken
from transformers import BatchFeature, PreTrainedTokenizerBase, ProcessorMixin
from transformers.image_processing_backends import PilBackend
from transformers.image_utils import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD, PILImageResampling

from ..spatial import LocTokens

IMAGE_TOKEN = "<image>"

# SmolLM2's own turns without its default system text; the image stands where the message has it.
CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n"
    "{% if message['content'] is string %}{{ message['content'] }}{% else %}"
    "{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}" + IMAGE_TOKEN + "\n{% else %}{{ part['text'] }}{% endif %}"
    "{% endfor %}{% endif %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


class NanoVLMImageProcessor(PilBackend):  # type: ignore[misc]
    """Resize to a square (the aspect is not kept, so relative boxes stay valid) and normalise as ImageNet."""

    model_input_names = ["pixel_values"]  # noqa: RUF012 (transformers' own convention)
    resample = PILImageResampling.BICUBIC
    image_mean = IMAGENET_DEFAULT_MEAN
    image_std = IMAGENET_DEFAULT_STD
    size = {"height": 256, "width": 256}  # noqa: RUF012
    do_resize = True
    do_rescale = True
    do_normalize = True
    do_convert_rgb = True


class NanoVLMProcessor(ProcessorMixin):  # type: ignore[misc]
    """Image processor and tokenizer in one; every ``<image>`` in a text becomes the image's tokens."""

    def __init__(
        self,
        image_processor: NanoVLMImageProcessor,
        tokenizer: PreTrainedTokenizerBase,
        num_image_tokens: int = 16,
        chat_template: str | None = None,
    ) -> None:
        """Build from parts; `prepare_tokenizer` must have been applied to the tokenizer."""
        self.num_image_tokens = num_image_tokens
        self.image_token = IMAGE_TOKEN
        self.image_token_id = tokenizer.convert_tokens_to_ids(IMAGE_TOKEN)
        super().__init__(image_processor, tokenizer, chat_template=chat_template or CHAT_TEMPLATE)

    def __call__(
        self,
        images: Image.Image | np.ndarray | Sequence[Image.Image | np.ndarray] | None = None,
        text: str | Sequence[str] | None = None,
        padding: bool | str = False,
        return_tensors: str | None = None,
        **kwargs: Any,
    ) -> BatchFeature:
        """Token ids (B, L) with attention mask, and pixel values (B, 3, S, S) where images are given."""
        data: dict[str, Any] = {}
        if text is not None:
            texts = [text] if isinstance(text, str) else list(text)
            data |= self.tokenizer(
                [self.expand(t) for t in texts],
                padding=padding,
                return_tensors=return_tensors,
                add_special_tokens=False,
            )
        if images is not None:
            data |= self.image_processor(images, return_tensors=return_tensors)
        return BatchFeature(data)

    def expand(self, text: str) -> str:
        """Write each image placeholder as often as an image has tokens."""
        return text.replace(IMAGE_TOKEN, IMAGE_TOKEN * self.num_image_tokens)

    @property
    def model_input_names(self) -> list[str]:
        """Names of the inputs that the model takes."""
        return ["input_ids", "attention_mask", "pixel_values"]


def prepare_tokenizer(tokenizer: PreTrainedTokenizerBase) -> int:
    """Add the image token and the spatial tokens to a tokenizer that lacks them; return the image token's id.

    The ids are consecutive: the image token, then the spatial tokens in the order of their bins.

    Raises:
        ValueError: The tokenizer already holds some of them in another order.
    """
    tokens = (IMAGE_TOKEN, *LocTokens().tokens)
    tokenizer.add_tokens([AddedToken(t, special=True, normalized=False) for t in tokens], special_tokens=True)
    ids: list[int] = tokenizer.convert_tokens_to_ids(list(tokens))
    if ids != list(range(ids[0], ids[0] + len(ids))):
        raise ValueError(
            f"expected consecutive ids for {IMAGE_TOKEN} and the spatial tokens, got {ids[:3]}..;"
            " use a clean base tokenizer"
        )
    tokenizer.padding_side = "left"
    return ids[0]
