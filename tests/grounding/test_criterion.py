"""The criterion against hand-computed losses, and regressions for two faults of the library's loss.

Numbers used below: at logit 0 a token that should be on costs 0.25 * 0.5^2 * ln 2 = 0.0433217 and one that
should be off 0.75 * 0.5^2 * ln 2 = 0.1299651 (focal loss, alpha 0.25, gamma 2).
"""

import math
from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F

from grounding import criterion as criterion_module
from grounding.criterion import (
    CriterionConfig,
    GroundingCriterion,
    GroundingTarget,
    StepSize,
    _paired_giou,
    _repeats,
)
from grounding.outputs import GroundingOutput, LayerPredictions

ON, OFF = 0.25 * 0.25 * math.log(2), 0.75 * 0.25 * math.log(2)
INF = float("inf")


def token_map(*phrases, length):
    """(P, length) bool from the token positions of each phrase."""
    result = torch.zeros(len(phrases), length, dtype=torch.bool)
    for row, tokens in enumerate(phrases):
        result[row, list(tokens)] = True
    return result


def target(boxes, phrases, positive_map):
    return GroundingTarget(
        torch.tensor(boxes).reshape(-1, 4), torch.tensor(phrases, dtype=torch.long), positive_map
    )


def output(logits, boxes, layers=1, proposals=None):
    """Every layer, and the proposals unless given, predict the same."""
    proposal_logits, proposal_boxes = proposals or (logits, boxes)
    return GroundingOutput(
        logits=logits,
        pred_boxes=boxes,
        layer_logits=logits.expand(layers, *logits.shape),
        layer_boxes=boxes.expand(layers, *boxes.shape),
        proposal_logits=proposal_logits,
        proposal_boxes=proposal_boxes,
    )


def all_real(logits):
    return torch.ones(logits.shape[0], logits.shape[2], dtype=torch.bool)


@pytest.fixture
def seen_targets(monkeypatch):
    """The token targets (B, Q, T) that the criterion builds, in the order: layers, then proposals."""
    seen = []
    original = GroundingCriterion._focal_loss

    def spy(self, logits, class_target, mask):
        seen.extend(class_target.clone())  # layer by layer
        return original(self, logits, class_target, mask)

    monkeypatch.setattr(GroundingCriterion, "_focal_loss", spy)
    return seen


# --- one box by hand ----------------------------------------------------------------------------------------


@pytest.fixture
def one_box():
    """A query of twice too small a box, one phrase of token 0, token 1 belonging to none."""
    logits = torch.zeros(1, 1, 2)
    boxes = torch.tensor([[[0.5, 0.5, 0.2, 0.2]]])
    truth = target([[0.5, 0.5, 0.4, 0.4]], [0], token_map([0], length=2))
    return logits, boxes, truth


def test_focal_loss_by_hand(one_box):
    logits, boxes, truth = one_box
    losses = GroundingCriterion()(output(logits, boxes), [truth], all_real(logits))
    assert losses["class"].item() == pytest.approx(ON + OFF)
    assert losses["class_proposals"].item() == pytest.approx(ON + OFF)


def test_focal_loss_away_from_zero_by_hand():
    # p = 0.75 on the token that should be on, p = 0.75 on the one that should be off.
    logits = torch.full((1, 1, 2), math.log(3))
    class_target = torch.tensor([[[1.0, 0.0]]])
    mask = all_real(logits)[:, None]
    loss = GroundingCriterion()._focal_loss(logits[None], class_target[None], mask)[0]
    expected = 0.25 * 0.25**2 * -math.log(0.75) + 0.75 * 0.75**2 * -math.log(0.25)
    assert loss.tolist() == pytest.approx([expected])


@pytest.mark.parametrize("rows", [1, 5])
@pytest.mark.parametrize("whole", [False, True])  # as on a CPU, as elsewhere
def test_focal_loss_and_its_gradient_are_autograds(rows, whole, monkeypatch):
    if whole:
        monkeypatch.setattr(criterion_module, "_parts", lambda logits: [(slice(None), slice(None))])
    generator = torch.Generator().manual_seed(0)
    logits = (torch.randn(2, 3, 5, 4, generator=generator) * 6).double()
    logits[:, 1, :, 3:] = float("-inf")  # padding
    mask = torch.rand(3, rows, 4, generator=generator) < 0.8
    mask[1, :, 3] = False
    class_target = (torch.rand(2, 3, 5, 4, generator=generator) < 0.2).double()
    scale = torch.rand(2, 3, generator=generator)

    def by_autograd(logits):
        known = logits.masked_fill(~mask, 0.0)
        cost = F.binary_cross_entropy_with_logits(known, class_target, reduction="none")
        wrong = (class_target - known.sigmoid()).abs()
        return ((0.25 * class_target + 0.75 * (1 - class_target)) * mask * wrong**2 * cost).sum((-2, -1))

    results = []
    for loss in (by_autograd, lambda x: GroundingCriterion()._focal_loss(x, class_target, mask)):
        given = logits.clone().requires_grad_()
        value = loss(given)
        (value * scale).sum().backward()
        results.append((value.detach(), given.grad))
    torch.testing.assert_close(results[1], results[0])


def test_l1_by_hand(one_box):
    logits, boxes, truth = one_box
    losses = GroundingCriterion()(output(logits, boxes), [truth], all_real(logits))
    assert losses["box"].item() == pytest.approx(0.2 + 0.2)  # width and height


def test_giou_of_nested_boxes_by_hand(one_box):
    logits, boxes, truth = one_box
    losses = GroundingCriterion()(output(logits, boxes), [truth], all_real(logits))
    assert losses["giou"].item() == pytest.approx(1 - 0.04 / 0.16)


def test_giou_of_distant_boxes_by_hand():
    a, b = torch.tensor([[0.0, 0.0, 0.2, 0.2]]), torch.tensor([[0.8, 0.8, 1.0, 1.0]])
    assert _paired_giou(a, b).item() == pytest.approx(-(1 - 0.08))  # no overlap; the hull is the unit square


def test_total_is_the_weighted_sum_of_layers_and_proposals(one_box):
    logits, boxes, truth = one_box
    one = 2 * (ON + OFF) + 5 * 0.4 + 2 * 0.75
    losses = GroundingCriterion()(output(logits, boxes, layers=3), [truth], all_real(logits))
    assert losses["loss"].item() == pytest.approx(4 * one)  # three layers and the proposals
    config = CriterionConfig(class_weight=1.0, box_weight=0.0, giou_weight=3.0, proposal_weight=0.5)
    losses = GroundingCriterion(config)(output(logits, boxes, layers=3), [truth], all_real(logits))
    assert losses["loss"].item() == pytest.approx(3.5 * ((ON + OFF) + 3 * 0.75))


def test_losses_are_named_by_layer_and_the_last_bears_no_suffix(one_box):
    logits, boxes, truth = one_box
    names = set(GroundingCriterion()(output(logits, boxes, layers=2), [truth], all_real(logits)))
    parts = ("class", "box", "giou")
    assert names == {"loss", *parts, *(f"{p}_layer0" for p in parts), *(f"{p}_proposals" for p in parts)}


def test_losses_do_not_grow_with_the_batch(one_box):
    logits, boxes, truth = one_box
    pair = output(logits.repeat(2, 1, 1), boxes.repeat(2, 1, 1))
    losses = GroundingCriterion()(pair, [truth, truth], all_real(pair.logits))
    assert losses["class"].item() == pytest.approx(ON + OFF)
    assert losses["box"].item() == pytest.approx(0.4)
    assert losses["giou"].item() == pytest.approx(0.75)


def test_weights_of_images_by_hand():
    # 0, 1, 4 and 9 boxes weigh 1, 1, 1/2 and 1/3 each; divided by sqrt(1) + sqrt(1) + sqrt(4) + sqrt(9) = 7.
    targets = [target([[0.5] * 4] * count, [0] * count, token_map([0], length=1)) for count in (0, 1, 4, 9)]
    weights = StepSize.of(targets).image_weights(targets)
    assert weights.tolist() == pytest.approx([1 / 7, 1 / 7, 1 / 14, 1 / 21])


def test_an_image_with_four_boxes_counts_twice_one_with_one():
    # The first image's queries are all 0.4 (L1) and 0.75 (GIoU) off, the second image's are perfect.
    positive = token_map([0], length=1)
    truths = [target([[0.5, 0.5, 0.4, 0.4]] * 4, [0] * 4, positive), target([[0.5] * 4], [0], positive)]
    boxes = torch.tensor([[[0.5, 0.5, 0.2, 0.2]] * 4, [[0.5] * 4] * 4])
    losses = GroundingCriterion()(output(torch.zeros(2, 4, 1), boxes), truths, torch.ones(2, 1).bool())
    assert losses["box"].item() == pytest.approx(4 * 0.4 * (1 / 2) / 3)
    assert losses["giou"].item() == pytest.approx(4 * 0.75 * (1 / 2) / 3)
    assert losses["class"].item() == pytest.approx(4 * ON * (1 / 2) / 3 + (ON + 3 * OFF) / 3)


def test_perfect_predictions_cost_nothing():
    positive = token_map([1], [3, 4], length=6)
    truth = target([[0.3, 0.4, 0.2, 0.6], [0.7, 0.5, 0.1, 0.1]], [1, 0], positive)
    boxes = torch.cat([truth.boxes.flip(0), torch.rand(3, 4)])[None]  # queries 0 and 1 hold boxes 1 and 0
    logits = torch.full((1, 5, 6), -20.0)
    logits[0, 0, 1] = 20.0
    logits[0, 1, 3:5] = 20.0
    config = CriterionConfig(proposals_per_box=1)
    losses = GroundingCriterion(config)(output(logits, boxes, layers=2), [truth], all_real(logits))
    assert losses["loss"].item() == pytest.approx(0.0, abs=1e-5)


# --- fault A: prompts that differ within a batch ------------------------------------------------------------


def offset_by_own_length(labels_of_images, maps):
    """The library's faulty rule: labels of image i > 0 are offset by the length of image i's own map."""
    rows = torch.cat(list(maps))
    return [rows[labels + (len(maps[i]) if i else 0)] for i, labels in enumerate(labels_of_images)]


def two_prompts(first, second, labels):
    """A batch of two images with one box each, the prompts being lists of token positions."""
    maps = [token_map(*first, length=8), token_map(*second, length=8)]
    truths = [target([[0.5, 0.5, 0.2, 0.2]], [label], m) for label, m in zip(labels, maps, strict=True)]
    logits = torch.zeros(2, 1, 8)
    return output(logits, torch.full((2, 1, 4), 0.5)), truths, maps


def test_fault_a_wrong_target_is_absent(seen_targets):
    # Prompt 1: [CLS] a . b b . c . and prompt 2: [CLS] d d . e . [SEP] [PAD]; image 2 shows phrase 0.
    predictions, truths, maps = two_prompts([[1], [3, 4], [6]], [[1, 2], [4]], labels=[1, 0])
    GroundingCriterion()(predictions, truths, all_real(predictions.logits))
    expected = [[[0, 0, 0, 1, 1, 0, 0, 0]], [[0, 1, 1, 0, 0, 0, 0, 0]]]
    assert all(seen.int().tolist() == expected for seen in seen_targets)
    faulty = offset_by_own_length([truth.phrase_index for truth in truths], maps)
    assert faulty[0].int().tolist() == expected[0]
    assert faulty[1].int().tolist() == [
        [0, 0, 0, 0, 0, 0, 1, 0]
    ]  # the third phrase of the other image's prompt


def test_fault_a_index_error_is_absent(seen_targets):
    # Prompt 2 is the longer one: the faulty offset 3 + label 2 lies past all 1 + 3 rows.
    predictions, truths, maps = two_prompts([[1]], [[1], [3], [5, 6]], labels=[0, 2])
    GroundingCriterion()(predictions, truths, all_real(predictions.logits))
    assert seen_targets[0].int().tolist() == [[[0, 1, 0, 0, 0, 0, 0, 0]], [[0, 0, 0, 0, 0, 1, 1, 0]]]
    with pytest.raises(IndexError):
        offset_by_own_length([truth.phrase_index for truth in truths], maps)


def test_an_images_loss_does_not_depend_on_the_other_images_prompt():
    torch.manual_seed(0)
    logits, boxes = torch.randn(2, 6, 8), torch.rand(2, 6, 4) * 0.5 + 0.25
    _, truths, _ = two_prompts([[1], [3, 4], [6]], [[1, 2], [4]], labels=[1, 0])
    criterion = GroundingCriterion()
    both = criterion(output(logits, boxes), truths, all_real(logits))["loss"]
    alone = [
        criterion(output(logits[i : i + 1], boxes[i : i + 1]), [truths[i]], all_real(logits[i : i + 1]))[
            "loss"
        ]
        for i in range(2)
    ]
    assert both.item() == pytest.approx(sum(x.item() for x in alone) / 2, rel=1e-5)


# --- fault B: proposals learn -------------------------------------------------------------------------------


def test_fault_b_proposals_keep_their_gradient(one_box):
    logits, boxes, truth = one_box
    proposals = (torch.zeros(1, 3, 2, requires_grad=True), torch.full((1, 3, 4), 0.4, requires_grad=True))
    losses = GroundingCriterion()(output(logits, boxes, proposals=proposals), [truth], all_real(logits))
    losses["loss"].backward()
    assert proposals[0].grad.abs().min() > 0
    assert proposals[1].grad.abs().sum() > 0


# --- matching -----------------------------------------------------------------------------------------------


def match(logits, boxes, truth, repeats=1):
    rows, columns = GroundingCriterion()._match(logits[None], boxes[None], truth, repeats)
    return list(zip(rows[0].tolist(), columns[0].tolist(), strict=True))


def test_matching_cost_by_hand(monkeypatch):
    costs = []
    original = criterion_module.linear_sum_assignment
    monkeypatch.setattr(criterion_module, "linear_sum_assignment", lambda c: costs.append(c) or original(c))
    truth = target([[0.5, 0.5, 0.4, 0.4]], [1], token_map([0], [1, 2], length=3))
    # The phrase's tokens have p = 0.75 and p = 0.5; the box is nested in the truth: L1 0.4, GIoU 0.25.
    match(torch.tensor([[9.0, math.log(3), 0.0]]), torch.tensor([[0.5, 0.5, 0.2, 0.2]]), truth, repeats=3)
    on = (0.25 * 0.25**2 * -math.log(0.75) + ON) / 2
    off = (0.75 * 0.75**2 * -math.log(0.25) + OFF) / 2
    cost = 2 * (on - off) + 5 * 0.4 - 2 * 0.25
    assert costs[0].tolist() == [pytest.approx([cost] * 3, rel=1e-5)]


def test_boxes_decide_the_match_where_logits_tie():
    truth = target([[0.2, 0.2, 0.1, 0.1], [0.8, 0.8, 0.1, 0.1]], [0, 0], token_map([0], length=2))
    boxes = torch.tensor([[0.5, 0.5, 0.9, 0.9], [0.8, 0.8, 0.1, 0.1], [0.2, 0.2, 0.1, 0.1]])
    assert match(torch.zeros(3, 2), boxes, truth) == [(1, 1), (2, 0)]


def test_phrases_decide_the_match_where_boxes_tie():
    truth = target([[0.5, 0.5, 0.2, 0.2]] * 2, [0, 1], token_map([0], [1], length=2))
    logits = torch.tensor([[-2.0, 2.0], [2.0, -2.0]])
    assert match(logits, torch.full((2, 4), 0.5), truth) == [(0, 1), (1, 0)]


def test_overlap_decides_the_match_where_distances_tie():
    # Both are 0.2 away from the truth (L1); the first only touches it, the second encloses it.
    truth = target([[0.5, 0.5, 0.2, 0.2]], [0], token_map([0], length=1))
    boxes = torch.tensor([[0.7, 0.5, 0.2, 0.2], [0.5, 0.5, 0.3, 0.3]])
    assert match(torch.zeros(2, 1), boxes, truth) == [(1, 0)]


def test_matching_averages_over_the_tokens_of_a_phrase():
    # The phrase has tokens 1 and 2: query 0 is sure of one of them and of token 0, query 1 likes both.
    truth = target([[0.5, 0.5, 0.2, 0.2]], [1], token_map([0], [1, 2], length=3))
    logits = torch.tensor([[9.0, 3.0, -3.0], [-9.0, 2.0, 2.0]])
    assert match(logits, torch.full((2, 4), 0.5), truth) == [(1, 0)]


def test_more_boxes_than_predictions():
    truth = target([[0.2, 0.2, 0.1, 0.1], [0.8, 0.8, 0.1, 0.1]], [0, 0], token_map([0], length=1))
    logits, boxes = torch.zeros(1, 1, 1), torch.tensor([[[0.8, 0.8, 0.1, 0.1]]])
    losses = GroundingCriterion()(output(logits, boxes), [truth], all_real(logits))
    assert losses["box"].item() == pytest.approx(0.0, abs=1e-6)


# --- several predictions for one box ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("boxes", "predictions", "expected"),
    [
        (1, 100, 4),
        (12, 100, 4),
        (13, 100, 3),
        (25, 100, 2),
        (26, 100, 1),
        (90, 100, 1),
        (1, 2000, 4),
        (13, 2000, 3),
    ],
)
def test_a_box_is_repeated_into_at_most_half_of_100_predictions(boxes, predictions, expected):
    assert _repeats(boxes, predictions, 4) == expected


def test_decoder_is_one_to_one_and_proposals_are_not(seen_targets):
    truth = target([[0.5, 0.5, 0.2, 0.2]], [0], token_map([0], length=2))
    logits, boxes = torch.zeros(1, 20, 2), torch.full((1, 20, 4), 0.5)
    GroundingCriterion()(output(logits, boxes, layers=3), [truth], all_real(logits))
    assert [int(seen[..., 0].sum()) for seen in seen_targets] == [1, 1, 1, 2]  # three layers, proposals
    assert all(seen[..., 1].sum() == 0 for seen in seen_targets)


def test_repeated_boxes_share_one_boxs_weight():
    truth = target([[0.5, 0.5, 0.4, 0.4]], [0], token_map([0], length=2))
    logits, boxes = torch.zeros(1, 20, 2), torch.tensor([0.5, 0.5, 0.2, 0.2]).expand(1, 20, 4)
    losses = GroundingCriterion()(output(logits, boxes, layers=2), [truth], all_real(logits))
    for name in ("", "_layer0", "_proposals"):
        assert losses[f"box{name}"].item() == pytest.approx(0.4)
        assert losses[f"giou{name}"].item() == pytest.approx(0.75)


def test_one_to_many_branch_takes_a_box_several_times(seen_targets):
    truth = target([[0.5, 0.5, 0.4, 0.4]], [0], token_map([0], length=2))
    logits, boxes = torch.zeros(1, 1, 2), torch.tensor([[[0.5, 0.5, 0.2, 0.2]]])
    many = LayerPredictions(torch.zeros(2, 1, 20, 2), boxes.expand(2, 1, 20, 4))
    plain = output(logits, boxes)
    losses = GroundingCriterion()(replace(plain, many=many), [truth], all_real(logits))
    assert [int(seen[..., 0].sum()) for seen in seen_targets] == [1, 1, 4, 4]  # layer, proposal, branch
    assert losses["box_many"].item() == losses["box_many_layer0"].item() == pytest.approx(0.4)
    without = GroundingCriterion()(plain, [truth], all_real(logits))
    added = sum(
        weight * losses[f"{part}_many{layer}"]
        for part, weight in (("class", 2), ("box", 5), ("giou", 2))
        for layer in ("", "_layer0")
    )
    assert (losses["loss"] - without["loss"]).item() == pytest.approx(added.item())


def test_auxiliary_weight(one_box):
    logits, boxes, truth = one_box
    one = 2 * (ON + OFF) + 5 * 0.4 + 2 * 0.75
    config = CriterionConfig(auxiliary_weight=0.5, proposal_weight=0.0)
    losses = GroundingCriterion(config)(output(logits, boxes, layers=3), [truth], all_real(logits))
    assert losses["loss"].item() == pytest.approx(2 * one)


# --- nothing there, and padding -----------------------------------------------------------------------------


def test_image_without_boxes_learns_only_that_nothing_is_there():
    empty = target([], [], token_map([0], length=2))
    logits = torch.zeros(1, 3, 2, requires_grad=True)
    boxes = torch.full((1, 3, 4), 0.5, requires_grad=True)
    losses = GroundingCriterion()(output(logits, boxes, layers=2), [empty], all_real(logits))
    assert losses["class"].item() == pytest.approx(6 * OFF)
    assert losses["box"].item() == losses["giou"].item() == 0
    losses["loss"].backward()
    assert (logits.grad > 0).all()
    assert (boxes.grad == 0).all()


def test_image_without_boxes_beside_one_with(one_box):
    logits, boxes, truth = one_box
    empty = target([], [], token_map([0], [1], length=2))
    pair = output(logits.repeat(2, 1, 1), boxes.repeat(2, 1, 1))
    losses = GroundingCriterion()(pair, [empty, truth], all_real(pair.logits))
    assert losses["class"].item() == pytest.approx(
        (2 * OFF + ON + OFF) / 2
    )  # an image without boxes counts as one
    assert losses["box"].item() == pytest.approx(0.4 / 2)


def test_padding_of_minus_infinity_costs_nothing_and_gives_finite_gradients():
    values = torch.zeros(1, 2, 4, requires_grad=True)
    mask = torch.tensor([[True, True, True, False]])
    logits = values.masked_fill(~mask[:, None], -INF)
    boxes = torch.full((1, 2, 4), 0.5, requires_grad=True)
    truth = target([[0.5, 0.5, 0.4, 0.4]], [0], token_map([1], length=4))
    losses = GroundingCriterion()(output(logits, boxes, layers=2), [truth], mask)
    assert losses["class"].item() == pytest.approx(ON + 5 * OFF)
    losses["loss"].backward()
    assert values.grad.isfinite().all() and boxes.grad.isfinite().all()
    assert (values.grad[..., 3] == 0).all() and (values.grad[..., :3] != 0).all()


def test_invalid_proposals_do_not_spoil_the_gradient(one_box):
    # The encoder marks invalid positions with infinite coordinates: boxes at (1, 1, 1, 1) after the sigmoid.
    logits, boxes, truth = one_box
    coordinates = torch.tensor([[[INF] * 4, [0.0, 0.0, -1.0, -1.0]]], requires_grad=True)
    proposals = (torch.zeros(1, 2, 2, requires_grad=True), coordinates.sigmoid())
    losses = GroundingCriterion()(output(logits, boxes, proposals=proposals), [truth], all_real(logits))
    losses["loss"].backward()
    assert losses["loss"].isfinite()
    assert coordinates.grad.isfinite().all()
    assert (coordinates.grad[0, 0] == 0).all() and (coordinates.grad[0, 1] != 0).any()


def test_bfloat16_predictions_are_scored_in_float32(one_box):
    logits, boxes, truth = one_box
    losses = GroundingCriterion()(output(logits.bfloat16(), boxes), [truth], all_real(logits))
    assert losses["loss"].dtype == torch.float32
    assert losses["class"].item() == pytest.approx(ON + OFF)
