"""Denoising queries by hand, and that nothing of them leaks into the real predictions."""

import numpy as np
import pytest
import torch

from grounding.criterion import CriterionConfig, GroundingCriterion, GroundingTarget
from grounding.denoising import (
    PADDING,
    DenoisingConfig,
    DenoisingQueries,
    collate_denoising,
    noised_boxes,
    query_mask,
)
from grounding.outputs import GroundingOutput, LayerPredictions
from grounding.prompts import build_prompt, collate_prompts

BOXES = np.array([[0.5, 0.5, 0.2, 0.4], [0.3, 0.3, 0.1, 0.1]], dtype=np.float32)


def noised(boxes=BOXES, phrases=(1, 0), seed=0, **changes):
    config = DenoisingConfig(**{"queries": 20, "phrase_noise": 0.0, **changes})
    return noised_boxes(boxes, np.array(phrases, dtype=np.int64), 3, config, np.random.default_rng(seed))


def test_groups_hold_every_box_as_positive_and_negative():
    result = noised()
    assert result.group.tolist() == [g for g in range(5) for _ in range(4)]  # 20 queries, 4 a group
    assert result.target.tolist() == [0, 1, -1, -1] * 5
    assert result.phrase.tolist() == [1, 0, 1, 0] * 5  # a negative one asks for the same phrase


def test_positive_queries_start_near_and_negative_ones_farther():
    boxes = np.array([[0.5, 0.5, 0.2, 0.2]], dtype=np.float32)
    for seed in range(20):
        result = noised(boxes, (0,), seed, queries=10)
        half = result.boxes[:, 2:] / 2
        corners = np.concatenate([result.boxes[:, :2] - half, result.boxes[:, :2] + half], 1)
        sides = np.array([0.4, 0.4, 0.6, 0.6])
        far = np.abs(corners[result.target == -1] - sides)
        near = np.abs(corners[result.target == 0] - sides)
        assert near.max() <= 0.1 + 1e-6  # half a side
        assert (result.boxes >= 0).all() and (result.boxes <= 1).all()
        assert far.max() <= 0.3  # corners may change places, so no more can be said of one of them


def test_too_many_boxes_leave_a_random_part_and_no_boxes_none():
    boxes = np.tile(BOXES, (10, 1))
    result = noised(boxes, (0,) * 20, queries=6)
    assert len(result.boxes) == 6 and result.group.tolist() == [0] * 6
    assert len(set(result.target[:3].tolist())) == 3
    for empty in (noised(np.zeros((0, 4), np.float32), ()), noised(queries=0)):
        assert empty.boxes.shape == (0, 4) and len(empty.group) == len(empty.target) == 0


def test_phrase_noise_renames_some():
    renamed = noised(phrase_noise=1.0, queries=400, seed=1).phrase
    assert set(renamed.tolist()) == {0, 1, 2}
    assert noised(phrase_noise=0.0, queries=400).phrase.tolist() == [1, 0] * 200


def test_same_random_numbers_same_noise():
    assert np.array_equal(noised(seed=3).boxes, noised(seed=3).boxes)
    assert not np.array_equal(noised(seed=3).boxes, noised(seed=4).boxes)


def test_collate_by_hand():
    maps = [torch.tensor([[0, 1, 1, 0], [0, 0, 0, 1]]).bool()] * 2
    one = noised(BOXES[:1], (0,), queries=2)
    none = noised(np.zeros((0, 4), np.float32), ())
    boxes = [torch.from_numpy(BOXES[:1]), torch.zeros(0, 4)]
    index = [torch.tensor([0]), torch.zeros(0, dtype=torch.long)]
    queries = collate_denoising([one, none], boxes, index, maps)
    assert queries.group.tolist() == [[0, 0], [PADDING, PADDING]]
    assert queries.content.tolist() == [[[0, 0.5, 0.5, 0]] * 2, [[0] * 4] * 2]
    assert queries.positive.int().tolist() == [[[0, 1, 1, 0], [0] * 4], [[0] * 4] * 2]
    torch.testing.assert_close(queries.target_boxes[0, 0], boxes[0][0])
    assert collate_denoising([none], boxes[1:], index[1:], maps[1:]) is None


def queries_of(*groups):
    group = torch.tensor([list(groups)])
    shape = (1, len(groups))
    return DenoisingQueries(
        torch.full((*shape, 4), 0.5),
        torch.zeros(*shape, 3),
        torch.zeros(*shape, 3).bool(),
        torch.zeros(*shape, 4),
        group,
    )


def test_mask_by_hand():
    # One real query, groups 0, 1 and padding, one of the one-to-many branch.
    mask = query_mask(1, queries_of(0, 0, 1, PADDING), 1, 1)[0].int().tolist()
    assert mask == [
        [1, 0, 0, 0, 0, 0],  # the real query sees itself only
        [1, 1, 1, 0, 0, 0],
        [1, 1, 1, 0, 0, 0],
        [1, 0, 0, 1, 0, 0],
        [0, 0, 0, 0, 1, 0],
        [0, 0, 0, 0, 0, 1],
    ]
    assert query_mask(4, None, 0, 2) is None


# --- in the network -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def asked(tokenizer):
    prompts = [build_prompt(tokenizer, phrases) for phrases in (("left lung", "heart", "spleen"), ("polyp",))]
    return collate_prompts(prompts)


@pytest.fixture(scope="module")
def trained_model(make_tiny_model, randomise):
    model = make_tiny_model()
    randomise(model.denoising_projection, 5)
    return model


def ground(model, asked, denoising, many=0):
    ids, mask, _ = asked
    pixels = torch.randn(2, 3, 128, 128, generator=torch.Generator().manual_seed(3))
    return model.ground(model.encode_image(pixels), model.encode_text(ids, mask), None, denoising, many)


def denoising_of(asked, seed=0):
    noise = [noised(seed=seed), noised(BOXES[:1], (0,), seed, phrase_noise=0.0, queries=4)]
    noise[1] = noised_boxes(BOXES[:1], np.array([0]), 1, DenoisingConfig(queries=4), np.random.default_rng(0))
    boxes = [torch.from_numpy(BOXES), torch.from_numpy(BOXES[:1])]
    return collate_denoising(noise, boxes, [torch.tensor([1, 0]), torch.tensor([0])], asked[2])


@torch.no_grad()
def test_extra_queries_do_not_change_the_real_ones(trained_model, asked):
    plain = ground(trained_model, asked, None)
    extra = ground(trained_model, asked, denoising_of(asked), many=5)
    torch.testing.assert_close(extra.logits, plain.logits, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(extra.pred_boxes, plain.pred_boxes, rtol=1e-4, atol=1e-5)
    assert plain.denoising is None and plain.many is None
    assert extra.denoising.boxes.shape == (2, 2, 20, 4) and extra.many.boxes.shape == (2, 2, 5, 4)
    assert extra.denoising.logits.shape == (2, 2, 20, asked[0].shape[1])


@torch.no_grad()
def test_groups_do_not_see_each_other(trained_model, asked):
    one = denoising_of(asked)
    moved = DenoisingQueries(one.boxes.clone(), one.content, one.positive, one.target_boxes, one.group)
    moved.boxes[0, :4] = 0.7  # group 0 of the first image
    before, after = (ground(trained_model, asked, each).denoising.boxes for each in (one, moved))
    assert (before[-1, 0, :4] - after[-1, 0, :4]).abs().max() > 1e-3
    torch.testing.assert_close(before[:, 0, 4:], after[:, 0, 4:], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(before[:, 1], after[:, 1], rtol=1e-4, atol=1e-5)


def test_denoising_projection_learns(make_tiny_model, asked):
    model = make_tiny_model().train()
    denoising = denoising_of(asked)
    output = ground(model, asked, denoising)
    boxes = [torch.from_numpy(BOXES), torch.from_numpy(BOXES[:1])]
    targets = [
        GroundingTarget(b, i, m)
        for b, i, m in zip(boxes, [torch.tensor([1, 0]), torch.tensor([0])], asked[2], strict=True)
    ]
    losses = GroundingCriterion()(output, targets, asked[1].bool(), denoising)
    sum(value for name, value in losses.items() if "_denoising" in name).backward()
    assert model.denoising_projection.weight.grad.abs().sum() > 0


def test_denoising_loss_by_hand():
    """Two groups of one box: the positives are 0.4 (L1) off; one token, all logits 0."""
    positive = torch.tensor([[[1], [0], [1], [0], [0]]]).bool()  # the last one is padding
    denoising = DenoisingQueries(
        torch.full((1, 5, 4), 0.5),
        torch.ones(1, 5, 1),
        positive,
        torch.tensor([0.5, 0.5, 0.4, 0.4]).expand(1, 5, 4),
        torch.tensor([[0, 0, 1, 1, PADDING]]),
    )
    predictions = LayerPredictions(
        torch.zeros(1, 1, 5, 1), torch.tensor([0.5, 0.5, 0.2, 0.2]).expand(1, 1, 5, 4)
    )
    target = GroundingTarget(
        torch.tensor([[0.5, 0.5, 0.4, 0.4]]), torch.tensor([0]), torch.ones(1, 1, dtype=torch.bool)
    )
    logits, boxes = torch.zeros(1, 1, 1), target.boxes[None]
    output = GroundingOutput(logits, boxes, logits[None], boxes[None], logits, boxes, denoising=predictions)
    losses = GroundingCriterion()(output, [target], torch.ones(1, 1, dtype=torch.bool), denoising)
    on, off = 0.25 * 0.25 * np.log(2), 0.75 * 0.25 * np.log(2)
    assert losses["box_denoising"].item() == pytest.approx(0.4)
    assert losses["giou_denoising"].item() == pytest.approx(0.75)
    assert losses["class_denoising"].item() == pytest.approx(on + off)
    without = GroundingCriterion(CriterionConfig(denoising_weight=0.0))(
        output, [target], torch.ones(1, 1, dtype=torch.bool), denoising
    )
    assert losses["loss"].item() - without["loss"].item() == pytest.approx(
        2 * (on + off) + 5 * 0.4 + 2 * 0.75
    )
