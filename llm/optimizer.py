"""AdamW over float32 copies of bfloat16 parameters, and the learning-rate schedule."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Group:
    """Named parameters that share a peak learning rate; matrices get the weight decay, vectors none."""

    parameters: dict[str, nn.Parameter]
    learning_rate: float
    weight_decay: float


class MasterAdamW:
    """AdamW whose small updates are not lost to bfloat16: it steps float32 masters and copies them back."""

    def __init__(self, groups: Sequence[Group], *, clip_norm: float) -> None:
        """Copy the parameters; they stay in their own dtype in the model."""
        self.clip_norm = clip_norm
        self.parameters = {name: p for group in groups for name, p in group.parameters.items()}
        self.masters = {name: p.detach().float().clone() for name, p in self.parameters.items()}
        split = []
        for group in groups:
            for matrices, decay in ((True, group.weight_decay), (False, 0.0)):
                names = [name for name, p in group.parameters.items() if (p.ndim > 1) == matrices]
                if names:
                    masters = [self.masters[name] for name in names]
                    split.append({"params": masters, "peak": group.learning_rate, "weight_decay": decay})
        self.adam = torch.optim.AdamW(split, lr=0.0, betas=(0.9, 0.98), fused=True)

    @torch.no_grad()
    def step(self, rate: float) -> float:
        """One update with `rate` times the peak learning rates; clears the gradients, returns their norm."""
        for name, master in self.masters.items():
            gradient = self.parameters[name].grad
            master.grad = torch.zeros_like(master) if gradient is None else gradient.float()
        norm = float(nn.utils.clip_grad_norm_(list(self.masters.values()), self.clip_norm))
        for group in self.adam.param_groups:
            group["lr"] = rate * group["peak"]
        self.adam.step()
        torch._foreach_copy_(list(self.parameters.values()), list(self.masters.values()))
        for name, parameter in self.parameters.items():
            parameter.grad = self.masters[name].grad = None
        return norm

    def state(self) -> dict[str, Tensor]:
        """Masters and moments by name, for `load_state`."""
        tensors = {f"master.{name}": master for name, master in self.masters.items()}
        for name, master in self.masters.items():
            for key, value in self.adam.state[master].items():
                tensors[f"{key}.{name}"] = value
        return tensors

    @torch.no_grad()
    def load_state(self, tensors: dict[str, Tensor]) -> None:
        """Continue from `state`.

        Raises:
            ValueError: The parameters are not those of the state.
        """
        names = {key.removeprefix("master.") for key in tensors if key.startswith("master.")}
        if names != set(self.masters):
            differ = sorted(names ^ set(self.masters))[:5]
            raise ValueError(
                f"the saved state has other parameters, such as {differ}; start in an empty --out folder"
            )
        for name, master in self.masters.items():
            master.copy_(tensors[f"master.{name}"])
            keys = ("step", "exp_avg", "exp_avg_sq")
            self.adam.state[master] = {key: tensors[f"{key}.{name}"].clone() for key in keys}
        torch._foreach_copy_(list(self.parameters.values()), list(self.masters.values()))


def learning_rate_factor(step: int, *, total: int, warmup: int, final: float) -> float:
    """Factor of step 0..total-1: linear over `warmup` steps, then a cosine from 1 to `final`."""
    if step < warmup:
        return (step + 1) / warmup
    progress = (step - warmup) / max(1, total - 1 - warmup)
    return final + (1 - final) * (1 + math.cos(math.pi * min(1.0, progress))) / 2
