"""The training criterion: which prediction answers for which box, and what each mistake costs.

Two faults of the library's loss are absent here. Targets are built for each image from that image's own
prompt (the library offsets labels by the wrong image's prompt length), and the encoder proposals keep their
gradient (the library detaches them). Several proposals may answer for one box, which speeds up training; the
decoder is one-to-one, so that it learns to leave one box a structure. Denoising queries know their box and
are not matched.

Images with many boxes (a blood smear has 14, a nuclei picture 24) would drown those with one or two: a box of
an image with n boxes weighs 1 / sqrt(n).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor, nn
from torch.nn import functional as F

from .boxes import cxcywh_to_xyxy, generalized_box_iou
from .denoising import DenoisingQueries
from .outputs import GroundingOutput, LayerPredictions
from .targets import GroundingTarget, StepSize

__all__ = ["CriterionConfig", "GroundingCriterion", "GroundingTarget", "StepSize"]


@dataclass(frozen=True)
class CriterionConfig:
    """Weights of the losses and of the matching cost (MM-Grounding-DINO's values).

    Attributes:
        focal_alpha: Weight of positive tokens in the focal loss.
        focal_gamma: Focusing exponent of the focal loss.
        class_weight: Weight of the token focal loss, in loss and matching.
        box_weight: Weight of the L1 distance of cxcywh boxes in [0, 1], in loss and matching.
        giou_weight: Weight of 1 - generalised IoU, in loss and matching.
        auxiliary_weight: Weight of the losses of every decoder layer but the last.
        proposal_weight: Weight of the encoder proposals' losses.
        proposals_per_box: Most encoder proposals that may answer for one box.
        denoising_weight: Weight of the denoising queries' losses, where there are such queries.
        many_weight: Weight of the one-to-many queries' losses, where there are such queries.
        many_per_box: Most one-to-many queries that may answer for one box.
        presence_weight: Weight of the presence loss; 0 = the presence score is not trained.
        modality_weight: Weight of the modality head's loss; 0 = the head is not trained.
    """

    focal_alpha: float = 0.25
    focal_gamma: float = 2.0
    class_weight: float = 2.0
    box_weight: float = 5.0
    giou_weight: float = 2.0
    auxiliary_weight: float = 1.0
    proposal_weight: float = 1.0
    proposals_per_box: int = 2
    denoising_weight: float = 1.0
    many_weight: float = 1.0
    many_per_box: int = 4
    presence_weight: float = 0.0
    modality_weight: float = 0.0


class GroundingCriterion(nn.Module):
    """Token focal loss, L1 and generalised IoU on every kind of query; presence and modality."""

    def __init__(self, config: CriterionConfig | None = None) -> None:
        """Nothing here is learned; ``config`` defaults to MM-Grounding-DINO's weights."""
        super().__init__()
        self.config = config or CriterionConfig()

    def forward(
        self,
        output: GroundingOutput,
        targets: list[GroundingTarget],
        token_mask: Tensor,
        denoising: DenoisingQueries | None = None,
        size: StepSize | None = None,
    ) -> dict[str, Tensor]:
        """Losses by name; ``loss`` is their weighted sum.

        Args:
            output: Predictions for B images.
            targets: One for each image.
            token_mask: (B, T) bool, True = a real prompt token.
            denoising: The denoising queries that ``output`` was made with.
            size: Of the whole step, where it has more than this batch.
        """
        config = self.config
        size = size or StepSize.of(targets)
        layers = LayerPredictions(output.layer_logits, output.layer_boxes)
        proposals = LayerPredictions(output.proposal_logits[None], output.proposal_boxes[None])
        branches = [
            ("", 1.0, self._matched_losses(layers, targets, token_mask, size, 1)),
            (
                "_proposals",
                config.proposal_weight,
                self._matched_losses(proposals, targets, token_mask, size, config.proposals_per_box),
            ),
        ]
        if output.denoising is not None and denoising is not None:
            parts = self._denoising_losses(output.denoising, targets, token_mask, denoising, size)
            branches.append(("_denoising", config.denoising_weight, parts))
        if output.many is not None:
            parts = self._matched_losses(output.many, targets, token_mask, size, config.many_per_box)
            branches.append(("_many", config.many_weight, parts))
        losses: dict[str, Tensor] = {}
        total = output.logits.new_zeros((), dtype=torch.float32)
        for suffix, weight, parts in branches:
            total = total + weight * self._weighted(parts)
            losses |= _named(parts, suffix)
        if config.presence_weight and output.presence_logits is not None:
            losses["presence"] = presence_loss(output.presence_logits, targets) / size.images
            total = total + config.presence_weight * losses["presence"]
        if config.modality_weight and output.modality_logits is not None:
            losses["modality"] = modality_loss(output.modality_logits, targets) / size.images
            total = total + config.modality_weight * losses["modality"]
        return {"loss": total, **losses}

    def _weighted(self, parts: dict[str, Tensor]) -> Tensor:
        """Weighted sum over kinds of loss and layers, each (L,)."""
        config = self.config
        layers = (
            config.class_weight * parts["class"]
            + config.box_weight * parts["box"]
            + config.giou_weight * parts["giou"]
        )
        return layers[-1] + config.auxiliary_weight * layers[:-1].sum()

    def _matched_losses(
        self,
        predictions: LayerPredictions,
        targets: list[GroundingTarget],
        token_mask: Tensor,
        size: StepSize,
        repeats: int,
    ) -> dict[str, Tensor]:
        """Losses (L,) of predictions that are matched to boxes, each box taken up to ``repeats`` times."""
        logits, boxes = predictions.logits.float(), predictions.boxes.float()
        image_weights = size.image_weights(targets).to(boxes)
        class_target = torch.zeros_like(logits)
        layer = torch.arange(len(logits), device=logits.device)[:, None]
        matched_boxes, target_boxes, weights = [], [], []
        for index, target in enumerate(targets):
            if not len(target.boxes):
                continue
            count = _repeats(len(target.boxes), logits.shape[2], repeats)
            rows, columns = self._match(logits[:, index], boxes[:, index], target, count)
            tokens = self._token_targets(targets, index, columns).to(class_target.dtype)
            class_target[layer, index, rows, : tokens.shape[-1]] = tokens
            matched_boxes.append(boxes[layer, index, rows])
            target_boxes.append(target.boxes[columns])
            weights.append((image_weights[index] / count).expand(rows.shape[1]))
        mask = token_mask[:, None]
        parts = {"class": (self._focal_loss(logits, class_target, mask) * image_weights).sum(-1)}
        if not matched_boxes:
            zero = boxes.sum((1, 2, 3)) * 0.0
            return parts | {"box": zero, "giou": zero}
        return parts | _box_losses(
            torch.cat(matched_boxes, 1), torch.cat(target_boxes, 1), torch.cat(weights)
        )

    def _token_targets(self, targets: list[GroundingTarget], index: int, columns: Tensor) -> Tensor:
        """Tokens (L, m, T) that name boxes ``columns`` (L, m) of image ``index``: of its own prompt."""
        target = targets[index]
        return target.positive_map[target.phrase_index[columns]]

    def _denoising_losses(
        self,
        predictions: LayerPredictions,
        targets: list[GroundingTarget],
        token_mask: Tensor,
        denoising: DenoisingQueries,
        size: StepSize,
    ) -> dict[str, Tensor]:
        """Losses (L,) of the denoising queries: all groups of an image together weigh as its boxes once."""
        logits, boxes = predictions.logits.float(), predictions.boxes.float()
        weights = size.image_weights(targets).to(boxes) / (denoising.group.amax(1) + 1).clamp(min=1)
        mask = token_mask[:, None] & (denoising.group >= 0)[..., None]
        class_target = denoising.positive.to(logits.dtype).expand_as(logits)
        parts = {"class": (self._focal_loss(logits, class_target, mask) * weights).sum(-1)}
        image, query = torch.nonzero(denoising.positive.any(-1), as_tuple=True)
        true = denoising.target_boxes[image, query].expand(len(boxes), -1, -1)
        return parts | _box_losses(boxes[:, image, query], true, weights[image])

    def _focal_loss(self, logits: Tensor, target: Tensor, mask: Tensor) -> Tensor:
        """Sigmoid focal loss (Lin et al., 2017), summed over queries and tokens of each image: (L, B).

        Args:
            logits: (L, B, Q, T).
            target: (L, B, Q, T), 0 or 1.
            mask: (B, Q or 1, T) bool, True = counts.
        """
        loss: Tensor = _FocalLoss.apply(
            logits, target, mask, self.config.focal_alpha, self.config.focal_gamma
        )  # type: ignore[no-untyped-call]
        return loss

    @torch.no_grad()
    def _match(
        self, logits: Tensor, boxes: Tensor, target: GroundingTarget, repeats: int
    ) -> tuple[Tensor, Tensor]:
        """Hungarian assignment of one image's predictions to its boxes, each taken ``repeats`` times.

        Args:
            logits: (L, Q, T) of every layer; their costs are computed together.
            boxes: (L, Q, 4) cxcywh.
            target: The image's n boxes.
            repeats: How often a box may be taken.

        Returns:
            Rows (L, m) of the predictions and columns (L, m) of the boxes they take.
        """
        config = self.config
        maps = target.positive_map.to(logits.dtype)
        weights = (maps / maps.sum(-1, keepdim=True))[target.phrase_index]
        logits = logits[..., : weights.shape[1]].clamp(min=-30.0)
        probability = logits.sigmoid()
        positive = config.focal_alpha * (1 - probability) ** config.focal_gamma * F.softplus(-logits)
        negative = (1 - config.focal_alpha) * probability**config.focal_gamma * F.softplus(logits)
        flat, shape = boxes.flatten(0, 1), (*boxes.shape[:2], len(target.boxes))
        giou = generalized_box_iou(cxcywh_to_xyxy(flat), cxcywh_to_xyxy(target.boxes))
        distance = torch.cdist(flat, target.boxes, p=1)
        cost = (config.box_weight * distance - config.giou_weight * giou).view(shape)
        cost = cost + config.class_weight * ((positive - negative) @ weights.T)
        costs = cost.repeat(1, 1, repeats).nan_to_num(1e4).cpu().numpy()
        pairs = torch.from_numpy(np.array([linear_sum_assignment(each) for each in costs])).to(logits.device)
        return pairs[:, 0], pairs[:, 1] % len(target.boxes)


class _FocalLoss(torch.autograd.Function):
    """Sigmoid focal loss with its gradient in closed form: a tenth of the passes that autograd makes.

    Nearly all targets are 0: every element is first counted as such, then the few others are corrected.
    """

    @staticmethod
    def forward(ctx: Any, logits: Tensor, target: Tensor, mask: Tensor, alpha: float, gamma: float) -> Tensor:
        images = mask.expand(logits.shape[1:])
        gradient = torch.empty_like(logits)
        loss = logits.new_empty(logits.shape[:2])
        for layer, image in _parts(logits):
            x = logits[layer, image]
            cost, gradient[layer, image] = _focal(x, 1 - alpha, gamma, images[image])
            loss[layer, image] = cost.sum((-2, -1))
        where = torch.nonzero(target * images, as_tuple=True)
        x = logits[where]
        positive, slope = _focal(-x, alpha, gamma, torch.ones_like(x, dtype=torch.bool))
        negative, _ = _focal(x, 1 - alpha, gamma, torch.ones_like(x, dtype=torch.bool))
        loss = loss.index_put(where[:2], positive - negative, accumulate=True)
        gradient[where] = -slope
        ctx.save_for_backward(gradient)
        return loss

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (gradient,) = ctx.saved_tensors
        return gradient * grads[0][..., None, None], None, None, None, None


def _parts(logits: Tensor) -> list[tuple[Any, Any]]:
    """Layers and images (L, B, ...) to compute together: one by one they stay in a CPU's cache."""
    if logits.device.type != "cpu":
        return [(slice(None), slice(None))]
    return [(layer, image) for layer in range(len(logits)) for image in range(logits.shape[1])]


def _focal(x: Tensor, weight: float, gamma: float, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Cost and its derivative of logits ``x`` that should be low; 0 for -inf and where ``mask`` is False.

    The cost is weight * p**gamma * -log(1 - p), p the sigmoid.
    """
    probability, surprise = x.sigmoid(), F.softplus(x)
    focus = probability.pow(gamma).mul_(weight).mul_(mask)
    cost = focus * surprise
    return cost, focus.mul_(surprise.mul_(1 - probability).mul_(gamma).add_(probability))


def presence_loss(logits: Tensor, targets: list[GroundingTarget]) -> Tensor:
    """Binary cross-entropy of (B, T) presence logits: the mean over each image's phrases, summed over images.

    A phrase with boxes is present; every other phrase of the prompt is absent, whether its set annotates it
    or it belongs to another modality. Phrases of which it is unsure do not count.
    """
    total = logits.new_zeros(())
    for values, target in zip(logits, targets, strict=True):
        maps = target.positive_map.to(logits.dtype)
        present = logits.new_zeros(len(maps))
        present[target.phrase_index] = 1.0
        tokens = values[: maps.shape[1]].masked_fill(~target.positive_map.any(0), 0.0)
        costs = F.binary_cross_entropy_with_logits(
            tokens.expand_as(maps), present[:, None].expand_as(maps), reduction="none"
        )
        cost = (costs * maps).sum(-1) / maps.sum(-1)
        if target.unsure is not None:
            cost = cost[~target.unsure]
        total = total + cost.sum() / max(len(cost), 1)
    return total


def modality_loss(logits: Tensor, targets: list[GroundingTarget]) -> Tensor:
    """Cross-entropy of (B, M) modality logits, summed over the images whose modality is known."""
    rows = torch.tensor([target.modality_id for target in targets], device=logits.device)
    return F.cross_entropy(logits.float(), rows - 1, ignore_index=-1, reduction="sum")


def _box_losses(predicted: Tensor, true: Tensor, weights: Tensor) -> dict[str, Tensor]:
    """L1 and generalised IoU loss (L,) of (L, m, 4) cxcywh boxes that weigh (m,)."""
    distance = (predicted - true).abs().sum(-1)
    giou = _paired_giou(cxcywh_to_xyxy(predicted), cxcywh_to_xyxy(true))
    return {"box": (distance * weights).sum(-1), "giou": ((1 - giou) * weights).sum(-1)}


def _named(parts: dict[str, Tensor], suffix: str) -> dict[str, Tensor]:
    """Losses (L,) by name and layer; the last layer bears no number."""
    return {
        f"{name}{suffix}" + ("" if layer == len(values) - 1 else f"_layer{layer}"): value
        for name, values in parts.items()
        for layer, value in enumerate(values)
    }


def _repeats(boxes: int, predictions: int, most: int) -> int:
    """How often a box may be taken: at most ``most``, and never more than half of 100 predictions in all."""
    return max(1, min(most, min(predictions, 100) // (2 * boxes)))


def _paired_giou(a: Tensor, b: Tensor) -> Tensor:
    """Generalised IoU (Rezatofighi et al., 2019) of (..., 4) xyxy boxes one by one: (...)."""
    area_a, area_b = ((box[..., 2:] - box[..., :2]).prod(-1) for box in (a, b))
    inner = (
        (torch.minimum(a[..., 2:], b[..., 2:]) - torch.maximum(a[..., :2], b[..., :2])).clamp(min=0).prod(-1)
    )
    union = area_a + area_b - inner
    outer = (torch.maximum(a[..., 2:], b[..., 2:]) - torch.minimum(a[..., :2], b[..., :2])).prod(-1)
    return inner / union.clamp(min=1e-9) - (outer - union) / outer.clamp(min=1e-9)
