"""What Med-GLIP adds to the architecture's heads: presence of a phrase, kind of image.

The last layer of each starts at zero, so that an untrained head says nothing: presence 0.5 everywhere, all
modalities alike. Knows nothing about losses.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

SURE = 8.0  # logits beyond this say no more to the presence head


class ZeroLinear(nn.Linear):
    """A linear layer that starts at zero: its branch takes part only once trained."""

    def reset_parameters(self) -> None:
        """Zero weight and bias."""
        nn.init.zeros_(self.weight)
        nn.init.zeros_(self.bias)


class PresenceHead(nn.Module):
    """Whether what a phrase names is in the image: each fused text token looks at the image once."""

    def __init__(self, width: int) -> None:
        """``width`` is the network's d_model."""
        super().__init__()
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width)
        self.hidden = nn.Linear(2 * width + 2, width)
        self.score = ZeroLinear(width, 1)

    def forward(
        self, text: Tensor, vision: Tensor, text_mask: Tensor, vision_mask: Tensor, evidence: Tensor
    ) -> Tensor:
        """Presence logits (B, T), -inf on padding; a phrase's score is the mean over its tokens.

        Args:
            text: (B, T, d) fused text tokens.
            vision: (B, N, d) fused image tokens.
            text_mask: (B, T) bool, True = real.
            vision_mask: (B, N) bool, True = real.
            evidence: (B, T, 2) the best logit of any query and of any proposal; no gradient flows back.
        """
        query, key = self.query(text), self.key(vision)
        by_table = query.device.type == "cpu" and torch.is_grad_enabled()
        attend = _attend_by_table if by_table else F.scaled_dot_product_attention
        seen = attend(
            query[:, None], key[:, None], vision[:, None].to(key.dtype), attn_mask=vision_mask[:, None, None]
        )[:, 0]
        evidence = evidence.detach().clamp(-SURE, SURE).to(text.dtype)
        hidden = F.relu(self.hidden(torch.cat([text, seen.to(text.dtype), evidence], -1)))
        logits: Tensor = self.score(hidden)[..., 0].float()
        return logits.masked_fill(~text_mask, float("-inf"))


def _attend_by_table(query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor) -> Tensor:
    """Scaled dot-product attention whose gradient is matrix products: a CPU's fused kernel's is slower."""
    scores = (query / query.shape[-1] ** 0.5) @ key.transpose(-1, -2)
    return scores.masked_fill(~attn_mask, float("-inf")).softmax(-1).to(value.dtype) @ value


class ModalityHead(ZeroLinear):
    """Kind of image from the backbone's coarsest map; it reads the backbone and does not steer it."""

    def forward(self, feature_map: Tensor) -> Tensor:
        """Logits (B, M) from (B, C, H, W)."""
        pooled = feature_map.detach().float().mean((2, 3))
        return super().forward(F.layer_norm(pooled, pooled.shape[-1:])).float()


def modality_rows(logits: Tensor) -> Tensor:
    """Rows (B,) of the modality embedding from (B, M) logits; 0 = unknown, unless one has over half."""
    probability, best = logits.softmax(-1).max(-1)
    return torch.where(probability > 0.5, best + 1, 0)
