"""Mixed precision: what is rounded and what is not."""

from __future__ import annotations

import torch
from torch import nn

from llm.nano.precision import BFloat16Linear, parts_in_float32, use_bfloat16_products


def test_products_are_rounded_and_the_dtype_around_them_stays() -> None:
    layer = nn.Linear(2, 1)
    with torch.no_grad():
        layer.weight[:] = torch.tensor([[1.0, 1 + 2**-9]])  # bfloat16 has 8 bits: the second becomes 1
        layer.bias.zero_()
    use_bfloat16_products(layer, but=())
    result = layer(torch.tensor([[3.0, 1.0]]))
    assert (result.tolist(), result.dtype) == ([[4.0]], torch.float32)


def test_every_linear_layer_but_the_head_and_nothing_else() -> None:
    model = nn.ModuleDict({"up": nn.Linear(2, 2), "norm": nn.LayerNorm(2), "head": nn.Linear(2, 3)})
    use_bfloat16_products(model, but=[model["head"]])
    assert [type(module) for module in model.values()] == [BFloat16Linear, nn.LayerNorm, nn.Linear]
    assert [p.dtype for p in model["up"].parameters()] == [torch.bfloat16] * 2
    assert {p.dtype for name in ("norm", "head") for p in model[name].parameters()} == {torch.float32}


def test_the_head_and_the_last_fifth_of_the_layers_stay_in_float32() -> None:
    head, layers = nn.Linear(2, 3), nn.ModuleList(nn.Sequential(nn.Linear(2, 2)) for _ in range(7))
    model = nn.ModuleList([layers, head])
    use_bfloat16_products(model, but=parts_in_float32(head, layers))
    assert [type(layer[0]) for layer in layers] == [BFloat16Linear] * 6 + [nn.Linear]
    assert head.weight.dtype == layers[-1][0].weight.dtype == torch.float32
