"""Mixed precision on a CPU: linear layers multiply in bfloat16, everything else computes in float32.

In bfloat16 throughout, a CPU loses its speed again in attention and norms, and answers differ from float32's
where two words are nearly as likely; float32 sums between the layers and float32 logits leave few of those
(docs/models.md has the figures). Knows no model but its linear layers.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class BFloat16Linear(nn.Linear):
    """A linear layer with bfloat16 weights between tensors of any dtype."""

    def forward(self, x: Tensor) -> Tensor:
        """(..., in) to (..., out), in the dtype of ``x``."""
        return F.linear(x.to(self.weight.dtype), self.weight, self.bias).to(x.dtype)


def use_bfloat16_products(model: nn.Module, *, but: nn.Module) -> None:
    """Turn every linear layer of a model for inference into a :class:`BFloat16Linear`, ``but`` one.

    That one is the head: the two best of its logits are often closer than bfloat16 tells apart.
    """
    for module in model.modules():
        if type(module) is nn.Linear and module is not but:
            module.to(torch.bfloat16)
            module.__class__ = BFloat16Linear
