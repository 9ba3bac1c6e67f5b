"""The fusion of image and text without needless tables.

The library builds the table of all image x text scores, copies it for the other direction, and shifts, clamps
and masks both. Here the CPU shares one table between both directions, or has one for each where a gradient is
kept; other devices have fused kernels that need none. The numbers are the library's but for rounding.
"""

from __future__ import annotations

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
        vision = self._heads(self.vision_proj(vision_features))
        text = self._heads(self.text_proj(text_features) * self.scale)
        values = (
            self._heads(self.values_text_proj(text_features)),
            self._heads(self.values_vision_proj(vision_features)),
        )
        padding = (_keys(text_attention_mask), _keys(vision_attention_mask))
        attend = self._attend
        if vision.device.type == "cpu":
            attend = self._separate if torch.is_grad_enabled() else self._share
        to_vision, to_text = attend(vision, text, values, padding)
        to_vision, to_text = (each.transpose(1, 2).flatten(2) for each in (to_vision, to_text))
        return (self.out_vision_proj(to_vision), None), (self.out_text_proj(to_text), None)

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

    def _separate(
        self, vision: Tensor, text: Tensor, values: tuple[Tensor, Tensor], padding: Padding
    ) -> tuple[Tensor, Tensor]:
        """Both directions from a table each: the gradients of a shared one meet across its transpose."""
        results = []
        for query, key, value, padded in zip((vision, text), (text, vision), values, padding, strict=True):
            table = query @ key.transpose(-1, -2)
            if padded is not None and padded.any():
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


def _keys(padding: Tensor | None) -> Tensor | None:
    """(B, K) to (B, 1, 1, K), or None where there is no padding to mask."""
    return None if padding is None else padding[:, None, None]


def use_fused_attention(model: nn.Module) -> None:
    """Give every fusion layer of a model the fused attention, with the weights it has."""
    for module in model.modules():
        if isinstance(module, MMGroundingDinoFusionLayer):
            module.attn.__class__ = FusedBiAttention
