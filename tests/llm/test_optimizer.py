"""Small updates survive bfloat16, and the schedule runs as drawn."""

import pytest
import torch
from torch import nn

from llm.optimizer import Group, MasterAdamW, learning_rate_factor


def optimizer(parameter: nn.Parameter) -> MasterAdamW:
    return MasterAdamW([Group({"w": parameter}, learning_rate=1e-3, weight_decay=0.0)], clip_norm=1.0)


def test_updates_below_bfloat16_add_up() -> None:
    parameter = nn.Parameter(torch.full((4,), 8.0, dtype=torch.bfloat16))  # spacing of bfloat16 at 8: 1/16
    adam = optimizer(parameter)
    for _ in range(60):
        parameter.grad = torch.ones_like(parameter)
        adam.step(1.0)
    assert parameter.dtype == torch.bfloat16
    assert adam.masters["w"].tolist() == pytest.approx([7.94] * 4, abs=1e-3)
    assert parameter.tolist() == [7.9375] * 4


def test_norm_is_that_before_clipping_and_gradients_are_cleared() -> None:
    parameter = nn.Parameter(torch.zeros(2))
    adam = optimizer(parameter)
    parameter.grad = torch.tensor([3.0, 4.0])
    assert adam.step(1.0) == pytest.approx(5.0)
    assert parameter.grad is None


def test_state_continues_exactly() -> None:
    one, two = (nn.Parameter(torch.arange(4.0)) for _ in range(2))
    first, second = optimizer(one), optimizer(two)
    gradients = torch.randn(6, 4)
    for gradient in gradients[:3]:
        one.grad = gradient.clone()
        first.step(1.0)
    second.load_state({k: v.clone() for k, v in first.state().items()})
    for gradient in gradients[3:]:
        one.grad, two.grad = gradient.clone(), gradient.clone()
        first.step(0.5), second.step(0.5)
    assert torch.equal(one, two)


def test_state_of_another_model_is_refused() -> None:
    with pytest.raises(ValueError, match="other parameters"):
        optimizer(nn.Parameter(torch.zeros(2))).load_state({"master.v": torch.zeros(2)})


def test_schedule() -> None:
    factors = [learning_rate_factor(s, total=11, warmup=2, final=0.1) for s in range(11)]
    assert factors[:3] == pytest.approx([0.5, 1.0, 1.0])
    assert factors[6] == pytest.approx(0.55)
    assert factors[-1] == pytest.approx(0.1)
