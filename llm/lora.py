"""LoRA: adapters for every family, and a faster training step for nano's.

peft computes ``base(x) + scale * B(A(x))`` as separate operations. On CPU each extra pass over a (tokens,
features) matrix costs as much as a small product, so the update is accumulated in place and the backward is
written by hand.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from types import MethodType
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model, prepare_model_for_kbit_training
from peft.tuners.lora import Linear
from tokenizers import AddedToken
from torch import Tensor, nn
from transformers import PreTrainedModel

from .families import Family
from .nano.modeling import spatial_embeddings

STYLE_FILE = "prompt_style.json"
_EMBEDDINGS = "embed_tokens"


def add_lora(
    model: PreTrainedModel,
    family: Family,
    *,
    rank: int,
    alpha: int,
    dropout: float = 0.0,
    projector: bool = False,
    tokens: Sequence[int] = (),
) -> PeftModel:
    """Wrap a model for training: LoRA on the language model's linear layers, everything else frozen.

    Args:
        model: Of a family, quantised by bitsandbytes or not.
        family: Names the layers.
        rank: Of the update.
        alpha: The update's scale is alpha / rank.
        dropout: On the update's input.
        projector: Adapt the layers between vision and language too.
        tokens: Ids whose embeddings learn as well, such as those that `add_spatial_tokens` gives.

    Raises:
        ValueError: The model has no layer of those names (from peft).
    """
    if getattr(model, "quantization_method", None) is not None:
        model.state_dict()  # bitsandbytes lays 4-bit weights out anew for answering on CPU; this undoes it
        model = prepare_model_for_kbit_training(model, gradient_checkpointing_kwargs={"use_reentrant": False})
    config = LoraConfig(
        r=rank,
        lora_alpha=alpha,
        lora_dropout=dropout,
        target_modules=family.lora_targets(projector=projector),
        trainable_token_indices={name: list(tokens) for name in _tables(model)} if tokens else None,
    )
    return get_peft_model(model, config)


def add_spatial_tokens(model: PreTrainedModel, tokenizer: Any, tokens: Sequence[str]) -> list[int]:
    """Add those tokens that a tokenizer lacks to it and to the model; return their ids, [] where it has all.

    Their embeddings start on a smooth curve, so that neighbouring bins are alike; they mean nothing until
    they are trained or an adapter brings them.
    """
    known = tokenizer.get_vocab()
    absent = [token for token in tokens if token not in known]
    if not absent:
        return []
    tokenizer.add_tokens([AddedToken(t, special=True, normalized=False) for t in absent], special_tokens=True)
    ids: list[int] = tokenizer.convert_tokens_to_ids(absent)
    if max(ids) >= model.get_input_embeddings().weight.shape[0]:  # some tables are longer than the vocabulary
        model.resize_token_embeddings(max(ids) + 1, mean_resizing=False)
    with torch.no_grad():
        for name in _tables(model):
            table = (
                model.get_input_embeddings() if name == _EMBEDDINGS else model.get_output_embeddings()
            ).weight
            table[ids] = spatial_embeddings(table[: ids[0]], len(ids)).to(table)
    return ids


def _tables(model: PreTrainedModel) -> tuple[str, ...]:
    """Names of the matrices with a row a token: the embeddings and, where it is another matrix, the head."""
    head = model.get_output_embeddings()
    tied = head is None or head.weight is model.get_input_embeddings().weight
    return (_EMBEDDINGS,) if tied else (_EMBEDDINGS, "lm_head")


def save_adapter(model: PeftModel, folder: Path, *, style: str | None = None) -> None:
    """Write what was trained, and no matrix of the base model.

    Args:
        model: From `add_lora`.
        folder: To write to.
        style: The style of prompts that it was trained on (a key of `llm.spatial.STYLES`), so that loading
            takes the same; None for the family's own.
    """
    model.save_pretrained(folder, save_embedding_layers=False)
    if style is not None:
        (folder / STYLE_FILE).write_text(json.dumps({"style": style}) + "\n", encoding="utf-8")


def saved_style(adapter: str) -> str | None:
    """The style that an adapter in a folder was trained on, None where it does not say."""
    path = Path(adapter) / STYLE_FILE
    return str(json.loads(path.read_text(encoding="utf-8"))["style"]) if path.is_file() else None


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
