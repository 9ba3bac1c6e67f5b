"""The network prepared for inference gives what the plain one gives, in float32 and in bfloat16."""

import copy

import pytest
import torch
from transformers.models.mm_grounding_dino.modeling_mm_grounding_dino import (
    MMGroundingDinoMultiscaleDeformableAttention,
)

from grounding.inference import DROP_INS, PreparedGrounding, prepare_for_inference
from grounding.sampling import PointSampling

IDS = torch.tensor([[101, 2000, 2002, 1012, 2003, 1012, 102], [101, 2004, 1012, 102, 0, 0, 0]])
SIZE = 128


@pytest.fixture(scope="module")
def plain(make_tiny_model, randomise):
    """Two heads a fusion (the tiny configuration's four) and weights that reach every branch."""
    model = make_tiny_model(encoder_attention_heads=4, presence=True)
    randomise(model, 3)
    return model


def prepared(plain, dtype):
    model = copy.deepcopy(plain)
    prepare_for_inference(model, dtype)
    return model


def inputs(padded):
    pixels = torch.randn(2, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(1))
    mask = torch.ones(2, SIZE, SIZE)
    if padded:
        mask[1, :, 90:] = mask[1, 70:] = 0
        pixels = pixels * mask[:, None]
    return pixels, IDS, (IDS > 0).long(), mask if padded else None


def finite(tensor):
    return tensor.masked_fill(tensor.isinf(), 0.0)


@pytest.mark.parametrize("padded", [False, True], ids=["whole", "padded"])
@torch.inference_mode()
def test_float32_equals_the_plain_network(plain, padded):
    expected, got = (model(*inputs(padded)) for model in (plain, prepared(plain, torch.float32)))
    for name in ("logits", "pred_boxes", "presence_logits", "proposal_logits", "layer_boxes"):
        theirs, ours = getattr(expected, name), getattr(got, name)
        torch.testing.assert_close(finite(ours), finite(theirs), atol=1e-4, rtol=1e-4, msg=name)
        assert torch.equal(ours.isinf(), theirs.isinf())


@pytest.mark.parametrize("padded", [False, True], ids=["whole", "padded"])
@torch.inference_mode()
def test_bfloat16_drifts_no_more_than_the_plain_network_does_in_it(plain, padded):
    expected = plain(*inputs(padded))
    best = expected.proposal_logits.amax(-1).topk(plain.config.num_queries).indices[..., None]
    proposals = expected.proposal_boxes.gather(1, best.expand(-1, -1, 4))
    slow, fast = copy.deepcopy(plain), prepared(plain, torch.bfloat16)
    slow._select = fast._choose = lambda *scores: proposals
    with torch.autocast("cpu", torch.bfloat16):
        autocast = slow(*inputs(padded))
    got = fast(*inputs(padded))
    for name in ("pred_boxes", "logits"):
        theirs, ours = (
            (finite(getattr(output, name)) - finite(getattr(expected, name))).abs().mean()
            for output in (autocast, got)
        )
        assert ours < 1.2 * theirs, name
    assert got.pred_boxes.dtype == torch.float32  # positions are never rounded to 8 bits


def test_no_layer_that_has_a_drop_in_is_left_not_even_training_s(plain):
    expected = DROP_INS | {MMGroundingDinoMultiscaleDeformableAttention: PointSampling}
    parts = [
        (type(module), drop_in)
        for module in prepared(plain, torch.float32).modules()
        for replaced, drop_in in expected.items()
        if isinstance(module, replaced)
    ]
    assert {drop_in for _, drop_in in parts} == set(expected.values())
    assert all(found is drop_in for found, drop_in in parts)


def test_preparing_twice_changes_nothing_and_training_queries_are_refused(plain):
    model = prepared(plain, torch.bfloat16)
    prepare_for_inference(model, torch.float32)
    assert isinstance(model, PreparedGrounding)
    assert model.compute_dtype == torch.bfloat16
    with pytest.raises(ValueError, match="prepared for inference"):
        model.ground(None, None, many=3)


def test_matrices_are_kept_in_the_compute_dtype_and_box_heads_are_not(plain):
    model = prepared(plain, torch.bfloat16)
    assert model.model.decoder.layers[0].fc1.weight.dtype == torch.bfloat16
    assert model.bbox_embed[0].layers[0].weight.dtype == torch.float32
    assert not any(parameter.requires_grad for parameter in model.parameters())


@torch.inference_mode()
def test_a_small_backbone_computes_in_float32_whatever_the_rest_does(plain):
    pixels = inputs(False)[0]
    expected = plain.model.backbone.conv_encoder.model(pixels).feature_maps
    with torch.autocast("cpu", torch.bfloat16):
        got = prepared(plain, torch.bfloat16).model.backbone.conv_encoder.model(pixels).feature_maps
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-4)
