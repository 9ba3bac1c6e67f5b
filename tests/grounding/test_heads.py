"""Presence and modality: silent until trained, masked, and their losses by hand."""

import math

import pytest
import torch

from grounding.criterion import CriterionConfig, GroundingCriterion, modality_loss, presence_loss
from grounding.heads import PresenceHead, ZeroLinear, modality_rows
from grounding.prompts import build_prompt, collate_prompts
from grounding.targets import GroundingTarget, StepSize


@pytest.fixture(scope="module")
def asked(tokenizer):
    prompts = [build_prompt(tokenizer, phrases) for phrases in (("left lung", "heart"), ("polyp",))]
    return collate_prompts(prompts)


@pytest.fixture(scope="module")
def pixels():
    return torch.randn(2, 3, 128, 128, generator=torch.Generator().manual_seed(3))


def test_zero_linear_starts_at_zero():
    layer = ZeroLinear(3, 2)
    assert (layer(torch.randn(4, 3)) == 0).all()


def test_no_presence_without_training_and_zero_before_the_first_step(make_tiny_model, asked, pixels):
    ids, mask, _ = asked
    with torch.no_grad():
        assert make_tiny_model()(pixels, ids, mask).presence_logits is None
        logits = make_tiny_model(presence=True)(pixels, ids, mask).presence_logits
    assert logits.shape == ids.shape
    assert (logits[mask.bool()] == 0).all() and torch.isneginf(logits[~mask.bool()]).all()


def test_presence_changes_no_box(make_tiny_model, randomise, asked, pixels):
    ids, mask, _ = asked
    model = make_tiny_model(presence=True)
    with torch.no_grad():
        before = model(pixels, ids, mask)
        randomise(model.presence_head, 3)
        after = model(pixels, ids, mask)
    assert torch.equal(before.logits, after.logits) and torch.equal(before.pred_boxes, after.pred_boxes)
    assert after.presence_logits[mask.bool()].std() > 0


def test_padded_pixels_do_not_count(randomise):
    head = PresenceHead(8)
    randomise(head, 1)
    text, vision = torch.randn(1, 3, 8), torch.randn(1, 5, 8)
    evidence = torch.full((1, 3, 2), -math.inf)  # as on padding: clamped, never NaN
    mask = torch.tensor([[True, True, True, False, False]])
    some = torch.ones(1, 3, dtype=torch.bool)
    got = head(text, vision, some, mask, evidence)
    torch.testing.assert_close(got, head(text, vision[:, :3], some, mask[:, :3], evidence))
    assert got.isfinite().all()


def target(phrases, positive_map, unsure=None, modality_id=0):
    index = torch.tensor(phrases, dtype=torch.long)
    return GroundingTarget(torch.full((len(index), 4), 0.5), index, positive_map, unsure, modality_id)


def test_presence_loss_by_hand():
    positive = torch.tensor([[1, 1, 0, 0], [0, 0, 1, 0]]).bool()
    logits = torch.tensor([[math.log(3), 0.0, math.log(3), -math.inf]])
    present = (-math.log(0.75) - math.log(0.5)) / 2  # the first phrase: p = .75 and p = .5
    absent = -math.log(0.25)
    loss = presence_loss(logits, [target([0, 0], positive)])
    assert loss.item() == pytest.approx((present + absent) / 2)
    unsure = target([0], positive, torch.tensor([False, True]))
    assert presence_loss(logits, [unsure]).item() == pytest.approx(present)
    nothing_sure = target([], positive, torch.tensor([True, True]))
    assert presence_loss(logits, [nothing_sure]).item() == 0


def test_presence_loss_gradient_is_finite_beside_padding():
    values = torch.zeros(1, 3, requires_grad=True)
    mask = torch.tensor([[True, True, False]])
    positive = torch.tensor([[0, 1, 0]]).bool()
    presence_loss(values.masked_fill(~mask, -math.inf), [target([0], positive)]).backward()
    assert values.grad[0].tolist() == pytest.approx([0.0, -0.5, 0.0])


def test_modality_loss_counts_known_images_only():
    logits = torch.zeros(2, 4)
    known = target([], torch.ones(1, 1).bool(), modality_id=3)
    unknown = target([], torch.ones(1, 1).bool())
    assert modality_loss(logits, [known, unknown]).item() == pytest.approx(math.log(4))
    assert modality_loss(logits, [unknown, unknown]).item() == 0


def test_modality_is_unknown_unless_one_has_over_half():
    logits = torch.tensor([[0.0, 0.0, 0.0], [0.0, 3.0, 0.0], [0.0, 0.0, 0.6]])
    assert modality_rows(logits).tolist() == [0, 2, 0]


def test_inferred_modality(make_tiny_model, pixels):
    model = make_tiny_model()
    assert model.infer_modality(pixels).tolist() == [0, 0]  # untrained
    with torch.no_grad():
        model.modality_head.bias[4] = 9.0
    assert model.infer_modality(pixels).tolist() == [5, 5]


def test_heads_learn_and_the_backbone_does_not_feel_the_modality(make_tiny_model, asked, pixels):
    ids, mask, maps = asked
    model = make_tiny_model(presence=True).train()
    config = CriterionConfig(presence_weight=1.0, modality_weight=1.0)
    targets = [target([0], maps[0], modality_id=1), target([0], maps[1], modality_id=5)]
    output = model(pixels, ids, mask)
    losses = GroundingCriterion(config)(output, targets, mask.bool())
    plain = GroundingCriterion()(output, targets, mask.bool())
    extra = losses["loss"] - plain["loss"]
    assert extra.item() == pytest.approx((losses["presence"] + losses["modality"]).item(), rel=1e-4)
    losses["modality"].backward()
    trained = {name for name, p in model.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0}
    assert trained == {"modality_head.weight", "modality_head.bias"}


def test_losses_of_a_larger_step_are_divided_by_all_of_it(make_tiny_model, asked, pixels):
    ids, mask, maps = asked
    model = make_tiny_model(presence=True)
    targets = [target([0, 1, 0, 1], maps[0], modality_id=1), target([0], maps[1], modality_id=5)]
    criterion = GroundingCriterion(CriterionConfig(presence_weight=1.0, modality_weight=1.0))
    with torch.no_grad():
        whole = criterion(model(pixels, ids, mask), targets, mask.bool())
        size = StepSize.of(targets)
        assert size == StepSize(3.0, 2.0)  # sqrt(4) + sqrt(1)
        parts = [
            criterion(
                model(pixels[i : i + 1], ids[i : i + 1], mask[i : i + 1]),
                [targets[i]],
                mask[i : i + 1].bool(),
                None,
                size,
            )
            for i in range(2)
        ]
    for name, value in whole.items():
        assert (parts[0][name] + parts[1][name]).item() == pytest.approx(value.item(), rel=1e-3), name
