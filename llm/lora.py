"""LoRA: adapters for every family, and a faster training step for nano's.

peft computes ``base(x) + scale * B(A(x))`` as separate operations. On CPU each extra pass over a (tokens,
features) matrix costs as much as a small product, so the update is accumulated in place and the backward is
written by hand.
"""

from __future__ import annotations

from pathlib import Path
from types import MethodType
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model, prepare_model_for_kbit_training
from peft.tuners.lora import Linear
from torch import Tensor, nn
from transformers import PreTrainedModel

from .families import Family


def add_lora(
    model: PreTrainedModel,
    family: Family,
    *,
    rank: int,
    alpha: int,
    dropout: float = 0.0,
    projector: bool = False,
) -> PeftModel:
    """Wrap a model for training: LoRA on the language model's linear layers, everything else frozen.

    Args:
        model: Of a family, quantised by bitsandbytes or not.
        family: Names the layers.
        rank: Of the update.
        alpha: The update's scale is alpha / rank.
        dropout: On the update's input.
        projector: Adapt the layers between vision and language too.

    Raises:
        ValueError: The model has no layer of those names (from peft).
    """
    if getattr(model, "quantization_method", None) is not None:
        model = prepare_model_for_kbit_training(model)
    config = LoraConfig(
        r=rank,
        lora_alpha=alpha,
        lora_dropout=dropout,
        target_modules=family.lora_targets(projector=projector),
    )
    return get_peft_model(model, config)


def save_adapter(model: PeftModel, folder: Path) -> None:
    """Write what was trained, and no matrix of the base model."""
    model.save_pretrained(folder, save_embedding_layers=False)


class _LoRAProduct(torch.autograd.Function):
    """y = x W^T + (x A^T) (scale B)^T for a frozen W; x (M, in), W (out, in), A (rank, in), B (out, rank)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, a: Tensor, b: Tensor, scale: float) -> Tensor:
        hidden = x @ a.t()
        ctx.save_for_backward(x, weight, a, b, hidden)
        ctx.scale = scale
        return (x @ weight.t()).addmm_(hidden, b.t(), alpha=scale)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, Tensor, Tensor, None]:
        (grad,) = grads
        x, weight, a, b, hidden = ctx.saved_tensors
        grad_hidden = (grad @ b).mul_(ctx.scale)
        grad_x = (grad @ weight).addmm_(grad_hidden, a)
        return grad_x, None, grad_hidden.t() @ x, (grad.t() @ hidden).mul_(ctx.scale), None


def use_fast_lora(model: nn.Module) -> int:
    """Give every bias-free peft LoRA linear layer of a model the fast forward; return how many there are.

    Raises:
        ValueError: A LoRA layer has a bias, dropout or several adapters, which the fast form does not
        compute.
    """
    layers = [module for module in model.modules() if isinstance(module, Linear)]
    for layer in layers:
        plain = len(layer.lora_A) == 1 and isinstance(next(iter(layer.lora_dropout.values())), nn.Identity)
        if not plain or layer.get_base_layer().bias is not None:
            raise ValueError(
                "fast LoRA needs one adapter without dropout on layers without bias; train without it"
            )
        layer.forward = MethodType(_fast_forward, layer)
    return len(layers)


def _fast_forward(self: Linear, x: Tensor) -> Tensor:
    """Forward of a peft LoRA layer (..., in) -> (..., out) with its only adapter."""
    (name,) = self.lora_A
    y: Tensor = _LoRAProduct.apply(  # type: ignore[no-untyped-call]
        x.flatten(0, -2),
        self.get_base_layer().weight,
        self.lora_A[name].weight,
        self.lora_B[name].weight,
        self.scaling[name],
    )
    return y.view(*x.shape[:-1], y.shape[-1])
