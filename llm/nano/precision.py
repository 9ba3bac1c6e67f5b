"""Mixed precision on a CPU: most linear layers multiply in bfloat16, everything else computes in float32.

In bfloat16 throughout, a CPU loses its speed again in attention and norms, and answers differ from float32's
where two words are nearly as likely. Float32 sums between the layers and float32 logits leave few of those,
the last fifth of the layers in float32 fewer still (docs/models.md has the figures). Knows no model but its
linear layers.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class BFloat16Linear(nn.Linear):
    """A linear layer with bfloat16 weights between tensors of any dtype."""

    def forward(self, x: Tensor) -> Tensor:
        """(..., in) to (..., out), in the dtype of ``x``."""
        return F.linear(x.to(self.weight.dtype), self.weight, self.bias).to(x.dtype)


def use_bfloat16_products(model: nn.Module, *, but: Iterable[nn.Module]) -> None:
    """Turn a model's linear layers, for inference, into :class:`BFloat16Linear`, but those of some parts."""
    exact = {id(module) for part in but for module in part.modules()}
    for module in model.modules():
        if type(module) is nn.Linear and id(module) not in exact:
            module.to(torch.bfloat16)
            module.__class__ = BFloat16Linear


def parts_in_float32(head: nn.Module, layers: Sequence[nn.Module]) -> list[nn.Module]:
    """The last fifth of the layers, and the head: its two best logits are often closer than bfloat16."""
    return [head, *layers[len(layers) - len(layers) // 5 :]]
