"""Adapters: what is trained, and that the saved network is the adapted one without adapters."""

import pytest
import torch

from grounding.lora import add_lora, merged_state


@pytest.fixture
def adapted(make_tiny_model):
    model = make_tiny_model()
    model.model.text_backbone.requires_grad_(False)
    add_lora(model, 2)
    return model


def test_adapters_and_heads_are_trained_and_nothing_else(adapted):
    trained = {name for name, p in adapted.named_parameters() if p.requires_grad}
    assert any("lora_A" in name for name in trained) and any("bbox_embed" in name for name in trained)
    rest = {name for name in trained if "lora_" not in name}
    assert all(
        any(part in name for part in ("bbox_embed", "class_embed", "modality_", "presence_", "denoising_"))
        for name in rest
    )
    assert not any(name.startswith("model.text_backbone") for name in trained)


def test_merged_state_is_the_adapted_network(adapted, make_tiny_model, randomise, tokenizer):
    from grounding.prompts import build_prompt, collate_prompts

    with torch.no_grad():
        for name, parameter in adapted.named_parameters():
            if "lora_" in name:
                parameter.normal_(std=0.1)
    plain = make_tiny_model(seed=1)
    plain.load_state_dict(merged_state(adapted, adapted.state_dict()))
    ids, mask, _ = collate_prompts([build_prompt(tokenizer, ["left lung", "heart"])])
    pixels = torch.randn(1, 3, 128, 128, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected, got = adapted.eval()(pixels, ids, mask), plain(pixels, ids, mask)
        untouched = make_tiny_model()(pixels, ids, mask)
    torch.testing.assert_close(got.proposal_boxes, expected.proposal_boxes, rtol=1e-4, atol=1e-4)
    assert (untouched.proposal_boxes - expected.proposal_boxes).abs().max() > 1e-4


def test_state_without_adapters_is_left_alone(tiny_model):
    state = tiny_model.state_dict()
    merged = merged_state(tiny_model, state)
    assert set(merged) == set(state) and all(merged[name] is state[name] for name in state)
