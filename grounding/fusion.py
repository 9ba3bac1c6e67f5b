"""The fusion of image and text without needless tables.

The library builds the table of all image x text scores, copies it for the other direction, and shifts, clamps
and masks both. Here the CPU shares one table between both directions; other devices have fused kernels that
need none. The numbers are the library's but for rounding.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers.models.mm_grounding_dino.modeling_mm_grounding_dino import (
    MMGroundingDinoBiMultiHeadAttention,
    MMGroundingDinoFusionLayer,
)

Padding = tuple[Tensor | None, Tensor | None]
"""True on padded keys, (B, 1, 1, T) of the text and (B, 1, 1, N) of the image."""


class FusedBiAttention(MMGroundingDinoBiMultiHeadAttention):
    """A drop-in for the library's module, with its parameters; it returns no attention weights."""

    def forward(
        self,
        vision_features: Tensor,
        text_features: Tensor,
        vision_attention_mask: Tensor | None = None,
        text_attention_mask: Tensor | None = None,
    ) -> tuple[tuple[Tensor, None], tuple[Tensor, None]]:
        """What image tokens (B, N, d) take from text tokens (B, T, d), and the other way round.

        The masks (B, N) and (B, T) are True on padding, as the library has it.
        """
        if torch.is_autocast_enabled(vision_features.device.type):  # once for two layers
            vision_features = vision_features.to(torch.get_autocast_dtype(vision_features.device.type))
        tokens = (self.vision_proj(vision_features), self.text_proj(text_features) * self.scale)
        values = (self.values_text_proj(text_features), self.values_vision_proj(vision_features))
        if tokens[0].device.type == "cpu" and torch.is_grad_enabled() and not self._drops():
            masks = (_needed(vision_attention_mask), _needed(text_attention_mask))
            to_vision, to_text = _BiAttention.apply(*tokens, *values, *masks, self.num_heads)  # type: ignore[no-untyped-call]
        else:
            heads = [self._heads(each) for each in (*tokens, *values)]
            attend = self._share if tokens[0].device.type == "cpu" else self._attend
            padding = (_keys(text_attention_mask), _keys(vision_attention_mask))
            taken = attend(heads[0], heads[1], (heads[2], heads[3]), padding)
            to_vision, to_text = (each.transpose(1, 2).flatten(2) for each in taken)
        return (self.out_vision_proj(to_vision), None), (self.out_text_proj(to_text), None)

    def _drops(self) -> bool:
        return self.training and self.dropout > 0

    def _heads(self, tensor: Tensor) -> Tensor:
        return tensor.unflatten(-1, (self.num_heads, self.head_dim)).transpose(1, 2)

    def _share(
        self, vision: Tensor, text: Tensor, values: tuple[Tensor, Tensor], padding: Padding
    ) -> tuple[Tensor, Tensor]:
        """Both directions from one table of scores (B, H, N, T)."""
        scores = vision @ text.transpose(-1, -2)
        results = []
        for table, value, padded in zip((scores, scores.transpose(-1, -2)), values, padding, strict=True):
            if padded is not None:
                table = table.masked_fill(padded, float("-inf"))
            shares = F.dropout(table.softmax(-1), self.dropout, self.training)
            results.append(shares.to(value.dtype) @ value)
        return results[0], results[1]

    def _attend(
        self, vision: Tensor, text: Tensor, values: tuple[Tensor, Tensor], padding: Padding
    ) -> tuple[Tensor, Tensor]:
        """Both directions by torch's fused kernels."""
        results = [
            F.scaled_dot_product_attention(
                query,
                key,
                value,
                attn_mask=None if padded is None else ~padded,
                dropout_p=self.dropout if self.training else 0.0,
                scale=1.0,
            )
            for query, key, value, padded in zip((vision, text), (text, vision), values, padding, strict=True)
        ]
        return results[0], results[1]


class _BiAttention(torch.autograd.Function):
    """Both directions from one table, on CPU, one image and head at a time: a table stays in the cache.

    Autograd would keep a table for each direction in float32 and copy every head to have it in one piece.
    """

    @staticmethod
    def forward(
        ctx: Any,
        vision: Tensor,
        text: Tensor,
        text_values: Tensor,
        vision_values: Tensor,
        vision_padding: Tensor | None,
        text_padding: Tensor | None,
        heads: int,
    ) -> tuple[Tensor, Tensor]:
        to_vision, to_text = torch.empty_like(vision), torch.empty_like(text)
        shares = vision.new_empty(len(vision), heads, 2, vision.shape[1], text.shape[1])
        for image, head, part in _parts(vision, heads):
            scores = (vision[part] @ text[part].T).float()
            by_text, by_vision = shares[image, head]
            kept = scores if vision_padding is None else _masked(scores, vision_padding[image, :, None])
            by_vision.copy_(kept.softmax(0))
            kept = scores if text_padding is None else _masked(scores, text_padding[image])
            by_text.copy_(kept.softmax(1))
            to_vision[part] = by_text @ text_values[part]
            to_text[part] = by_vision.T @ vision_values[part]
        ctx.save_for_backward(vision, text, text_values, vision_values, shares)
        return to_vision, to_text

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        *inputs, shares = ctx.saved_tensors
        vision, text, text_values, vision_values = inputs
        of_vision, of_text = (grad.to(shares.dtype) for grad in grads)
        result = [torch.empty_like(each) for each in inputs]
        for image, head, part in _parts(vision, shares.shape[1]):
            by_text, by_vision = shares[image, head]
            scores = _softmax_gradient(of_vision[part] @ text_values[part].T, by_text, 1)
            scores += _softmax_gradient(vision_values[part] @ of_text[part].T, by_vision, 0)
            scores = scores.to(shares.dtype)
            result[0][part] = scores @ text[part]
            result[1][part] = scores.T @ vision[part]
            result[2][part] = by_text.T @ of_vision[part]
            result[3][part] = by_vision @ of_text[part]
        return (*result, None, None, None)


Part = tuple[int, slice, slice]


def _parts(tokens: Tensor, heads: int) -> Iterator[tuple[int, int, Part]]:
    """Image, head, and where they lie in tensors (B, tokens, heads * width), as (B, N, H * D) ``tokens``."""
    width = tokens.shape[-1] // heads
    for image in range(len(tokens)):
        for head in range(heads):
            yield image, head, (image, slice(None), slice(head * width, (head + 1) * width))


def _needed(padding: Tensor | None) -> Tensor | None:
    """The mask, None where it masks nothing."""
    return padding if padding is not None and padding.any() else None


def _masked(scores: Tensor, padding: Tensor) -> Tensor:
    """Scores, -inf where ``padding`` is True."""
    return scores.masked_fill(padding, float("-inf"))


def _softmax_gradient(grad: Tensor, shares: Tensor, dim: int) -> Tensor:
    """The gradient, in float32, of what a softmax over ``dim`` made ``shares`` of."""
    return torch._softmax_backward_data(grad.float(), shares.float(), dim, torch.float32)


def _keys(padding: Tensor | None) -> Tensor | None:
    """(B, K) to (B, 1, 1, K), or None where there is no padding to mask."""
    return None if padding is None else padding[:, None, None]


def use_fused_attention(model: nn.Module) -> None:
    """Give every fusion layer of a model the fused attention, with the weights it has."""
    for module in model.modules():
        if isinstance(module, MMGroundingDinoFusionLayer):
            module.attn.__class__ = FusedBiAttention
