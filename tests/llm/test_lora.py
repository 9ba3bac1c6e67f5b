"""The fast LoRA step gives peft's own values and gradients."""

import copy

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import nn

from llm.lora import use_fast_lora


def adapted(bias: bool = False, dropout: float = 0.0) -> nn.Module:
    torch.manual_seed(0)
    model = get_peft_model(
        nn.Sequential(nn.Linear(6, 10, bias=bias), nn.Linear(10, 4, bias=bias)),
        LoraConfig(r=3, lora_alpha=6, target_modules=["0", "1"], lora_dropout=dropout),
    )
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            nn.init.normal_(parameter)
    return model


def test_values_and_gradients_are_those_of_peft() -> None:
    slow = adapted()
    fast = copy.deepcopy(slow)
    assert use_fast_lora(fast) == 2
    x = torch.randn(2, 5, 6)
    inputs = [x.clone().requires_grad_(), x.clone().requires_grad_()]
    for model, value in zip((slow, fast), inputs, strict=True):
        model(value).pow(2).sum().backward()
    torch.testing.assert_close(fast(x), slow(x))
    torch.testing.assert_close(inputs[0].grad, inputs[1].grad)
    for (name, a), (_, b) in zip(slow.named_parameters(), fast.named_parameters(), strict=True):
        assert (a.grad is None) == ("base_layer" in name)
        if a.grad is not None:
            torch.testing.assert_close(a.grad, b.grad)


@pytest.mark.parametrize("arguments", [{"bias": True}, {"dropout": 0.1}])
def test_what_it_does_not_compute_is_refused(arguments: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="fast LoRA"):
        use_fast_lora(adapted(**arguments))
