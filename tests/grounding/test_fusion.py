"""The fused attention against the library's, forward and backward."""

import copy

import pytest
import torch
from transformers.models.mm_grounding_dino.modeling_mm_grounding_dino import (
    MMGroundingDinoBiMultiHeadAttention,
    MMGroundingDinoFusionLayer,
)

from grounding.fusion import FusedBiAttention, use_fused_attention


@pytest.fixture
def layers(tiny_config, randomise):
    library = MMGroundingDinoFusionLayer(tiny_config())
    randomise(library, 1)
    ours = copy.deepcopy(library)
    use_fused_attention(ours)
    return library, ours


def test_equals_the_library(layers):
    library, ours = layers
    assert type(library.attn) is MMGroundingDinoBiMultiHeadAttention and type(ours.attn) is FusedBiAttention
    vision_padding = torch.zeros(2, 20, dtype=torch.bool)
    text_padding = torch.zeros(2, 5, dtype=torch.bool)
    vision_padding[0, 15:], text_padding[1, 3:] = True, True
    results = []
    for layer in layers:
        torch.manual_seed(2)
        vision, text = torch.randn(2, 20, 32, requires_grad=True), torch.randn(2, 5, 32, requires_grad=True)
        (seen, _), (read, _) = layer(vision, text, vision_padding, text_padding)
        (seen.square().sum() + read.square().sum()).backward()
        results.append([seen, read, vision.grad, text.grad, *(p.grad for p in layer.parameters())])
    for expected, got in zip(*results, strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-5)


def test_with_dropout_both_directions_drop(layers):
    _, ours = layers
    vision, text = torch.randn(2, 20, 32, requires_grad=True), torch.randn(2, 5, 32, requires_grad=True)
    sure = ours.attn(vision, text)
    ours.attn.dropout = 0.5
    torch.manual_seed(3)
    dropped = ours.train().attn(vision, text)
    for (expected, _), (got, _) in zip(sure, dropped, strict=True):
        assert not torch.allclose(expected, got)
    sum(each.sum() for each, _ in dropped).backward()
    assert vision.grad.abs().sum() > 0 and text.grad.abs().sum() > 0
    for (expected, _), (got, _) in zip(sure, ours.eval().attn(vision, text), strict=True):
        torch.testing.assert_close(got, expected)


def test_state_keeps_its_names(layers):
    library, ours = layers
    assert list(library.state_dict()) == list(ours.state_dict())
