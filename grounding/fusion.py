"""The fusion of image and text as two fused attentions.

The library builds the table of all image x text scores, copies it for the other direction, shifts, clamps and
masks both and keeps them for the backward pass. Both directions are plain attention, so torch's fused kernel
computes them without the tables. The numbers are the library's but for rounding.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F
from transformers.models.mm_grounding_dino.modeling_mm_grounding_dino import (
    MMGroundingDinoBiMultiHeadAttention,
    MMGroundingDinoFusionLayer,
)


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
        vision = self._heads(self.vision_proj(vision_features))
        text = self._heads(self.text_proj(text_features))
        to_vision = self._attend(
            vision, text, self._heads(self.values_text_proj(text_features)), text_attention_mask
        )
        to_text = self._attend(
            text, vision, self._heads(self.values_vision_proj(vision_features)), vision_attention_mask
        )
        return (self.out_vision_proj(to_vision), None), (self.out_text_proj(to_text), None)

    def _heads(self, tensor: Tensor) -> Tensor:
        return tensor.unflatten(-1, (self.num_heads, self.head_dim)).transpose(1, 2)

    def _attend(self, query: Tensor, key: Tensor, value: Tensor, padding: Tensor | None) -> Tensor:
        attended: Tensor = F.scaled_dot_product_attention(
            query,
            key,
            value,
            attn_mask=None if padding is None else ~padding[:, None, None],
            dropout_p=self.dropout if self.training else 0.0,
            scale=self.scale,
        )
        return attended.transpose(1, 2).flatten(2)


def use_fused_attention(model: nn.Module) -> None:
    """Give every fusion layer of a model the fused attention, with the weights it has."""
    for module in model.modules():
        if isinstance(module, MMGroundingDinoFusionLayer):
            module.attn.__class__ = FusedBiAttention
