"""The training criterion: which prediction answers for which box, and what each mistake costs.

Two faults of the library's loss are absent here. Targets are built for each image from that image's own
prompt (the library offsets labels by the wrong image's prompt length), and the encoder proposals keep their
gradient (the library detaches them). Several proposals may answer for one box, which speeds up training; the
decoder is one-to-one, so that it learns to leave one box a structure.

Images with many boxes (a blood smear has 14, a nuclei picture 24) would drown those with one or two: a box of
an image with n boxes weighs 1 / sqrt(n).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor, nn
from torch.nn import functional as F

from .boxes import cxcywh_to_xyxy, generalized_box_iou
from .modeling import GroundingOutput


@dataclass(frozen=True)
class CriterionConfig:
    """Weights of the losses and of the matching cost (MM-Grounding-DINO's values).

    Attributes:
        focal_alpha: Weight of positive tokens in the focal loss.
        focal_gamma: Focusing exponent of the focal loss.
        class_weight: Weight of the token focal loss, in loss and matching.
        box_weight: Weight of the L1 distance of cxcywh boxes in [0, 1], in loss and matching.
        giou_weight: Weight of 1 - generalised IoU, in loss and matching.
        proposal_weight: Weight of the encoder proposals' losses.
        proposals_per_box: Most encoder proposals that may answer for one box.
    """

    focal_alpha: float = 0.25
    focal_gamma: float = 2.0
    class_weight: float = 2.0
    box_weight: float = 5.0
    giou_weight: float = 2.0
    proposal_weight: float = 1.0
    proposals_per_box: int = 2


@dataclass(frozen=True)
class GroundingTarget:
    """What is true of one image.

    Attributes:
        boxes: (n, 4) cxcywh in [0, 1] of the network input.
        phrase_index: (n,) which phrase of the image's prompt each box shows.
        positive_map: (P, T) bool, which tokens belong to which phrase of this image's prompt.
    """

    boxes: Tensor
    phrase_index: Tensor
    positive_map: Tensor


class GroundingCriterion(nn.Module):
    """Token focal loss, L1 and generalised IoU on every decoder layer and on the encoder proposals."""

    def __init__(self, config: CriterionConfig | None = None) -> None:
        """Nothing here is learned; ``config`` defaults to MM-Grounding-DINO's weights."""
        super().__init__()
        self.config = config or CriterionConfig()

    def forward(
        self, output: GroundingOutput, targets: list[GroundingTarget], token_mask: Tensor
    ) -> dict[str, Tensor]:
        """Losses by name; ``loss`` is their weighted sum.

        Args:
            output: Predictions for B images.
            targets: One for each image.
            token_mask: (B, T) bool, True = a real prompt token.
        """
        last = len(output.layer_logits) - 1
        total = output.logits.new_zeros((), dtype=torch.float32)
        losses: dict[str, Tensor] = {}
        for layer, (logits, boxes) in enumerate(zip(output.layer_logits, output.layer_boxes, strict=True)):
            parts = self._set_loss(logits.float(), boxes.float(), targets, token_mask, repeats=1)
            total = total + self._weighted(parts)
            suffix = "" if layer == last else f"_layer{layer}"
            losses |= {f"{name}{suffix}": value for name, value in parts.items()}
        proposals = output.proposal_logits.float(), output.proposal_boxes.float()
        parts = self._set_loss(*proposals, targets, token_mask, repeats=self.config.proposals_per_box)
        total = total + self.config.proposal_weight * self._weighted(parts)
        losses |= {f"{name}_proposals": value for name, value in parts.items()}
        return {"loss": total, **losses}

    def _weighted(self, parts: dict[str, Tensor]) -> Tensor:
        config = self.config
        return (
            config.class_weight * parts["class"]
            + config.box_weight * parts["box"]
            + config.giou_weight * parts["giou"]
        )

    def _set_loss(
        self, logits: Tensor, boxes: Tensor, targets: list[GroundingTarget], token_mask: Tensor, repeats: int
    ) -> dict[str, Tensor]:
        """Class, box and giou loss of one set of predictions: (B, Q, T) logits, (B, Q, 4) boxes."""
        image_weights = _image_weights(targets).to(boxes)
        class_target = torch.zeros_like(logits)
        matched_boxes, target_boxes, weights = [], [], []
        for index, target in enumerate(targets):
            if not len(target.boxes):
                continue
            count = _repeats(len(target.boxes), logits.shape[1], repeats)
            rows, columns = self._match(logits[index], boxes[index], target, count)
            token_targets = target.positive_map[target.phrase_index[columns]].to(class_target.dtype)
            class_target[index, rows, : token_targets.shape[1]] = token_targets
            matched_boxes.append(boxes[index, rows])
            target_boxes.append(target.boxes[columns])
            weights.append((image_weights[index] / count).expand(len(rows)))
        class_loss = (self._focal_loss(logits, class_target, token_mask) * image_weights).sum()
        if not matched_boxes:
            zero = boxes.sum() * 0.0
            return {"class": class_loss, "box": zero, "giou": zero}
        predicted, true, weight = torch.cat(matched_boxes), torch.cat(target_boxes), torch.cat(weights)
        box_loss = ((predicted - true).abs().sum(-1) * weight).sum()
        giou = _paired_giou(cxcywh_to_xyxy(predicted), cxcywh_to_xyxy(true))
        return {"class": class_loss, "box": box_loss, "giou": ((1 - giou) * weight).sum()}

    def _focal_loss(self, logits: Tensor, target: Tensor, token_mask: Tensor) -> Tensor:
        """Sigmoid focal loss (Lin et al., 2017), summed over queries and real tokens of each image: (B,)."""
        # Padding carries -inf, whose gradient is NaN.
        logits = logits.masked_fill(~token_mask[:, None], -30.0)
        probability = logits.sigmoid()
        cross_entropy = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
        distance = torch.where(target > 0.5, 1 - probability, probability)
        alpha = torch.where(target > 0.5, self.config.focal_alpha, 1 - self.config.focal_alpha)
        return (alpha * distance**self.config.focal_gamma * cross_entropy * token_mask[:, None]).sum((1, 2))

    @torch.no_grad()
    def _match(
        self, logits: Tensor, boxes: Tensor, target: GroundingTarget, repeats: int
    ) -> tuple[Tensor, Tensor]:
        """Hungarian assignment of predictions to boxes, each box taken ``repeats`` times: (rows, columns)."""
        config = self.config
        maps = target.positive_map.to(logits.dtype)
        weights = (maps / maps.sum(-1, keepdim=True))[target.phrase_index]
        logits = logits[:, : weights.shape[1]].clamp(min=-30.0)
        probability = logits.sigmoid()
        positive = config.focal_alpha * (1 - probability) ** config.focal_gamma * F.softplus(-logits)
        negative = (1 - config.focal_alpha) * probability**config.focal_gamma * F.softplus(logits)
        cost = config.class_weight * ((positive - negative) @ weights.T)
        cost = cost + config.box_weight * torch.cdist(boxes, target.boxes, p=1)
        giou = generalized_box_iou(cxcywh_to_xyxy(boxes), cxcywh_to_xyxy(target.boxes))
        cost = cost - config.giou_weight * giou
        rows, columns = linear_sum_assignment(cost.repeat(1, repeats).nan_to_num(1e4).cpu().numpy())
        columns = columns % len(target.boxes)
        return torch.as_tensor(rows, device=logits.device), torch.as_tensor(columns, device=logits.device)


def _image_weights(targets: list[GroundingTarget]) -> Tensor:
    """Weight of a box of each image (B,): 1 / sqrt(n), scaled so that the sum over all boxes is 1."""
    counts = torch.tensor([max(len(target.boxes), 1) for target in targets], dtype=torch.float32)
    return counts.rsqrt() / counts.sqrt().sum()


def _repeats(boxes: int, predictions: int, most: int) -> int:
    """How often a box may be taken: at most ``most``, and never more than half of 100 predictions in all."""
    return max(1, min(most, min(predictions, 100) // (2 * boxes)))


def _paired_giou(a: Tensor, b: Tensor) -> Tensor:
    """Generalised IoU (Rezatofighi et al., 2019) of (n, 4) xyxy boxes row by row: (n,)."""
    area_a, area_b = ((box[:, 2:] - box[:, :2]).prod(-1) for box in (a, b))
    inner = (torch.minimum(a[:, 2:], b[:, 2:]) - torch.maximum(a[:, :2], b[:, :2])).clamp(min=0).prod(-1)
    union = area_a + area_b - inner
    outer = (torch.maximum(a[:, 2:], b[:, 2:]) - torch.minimum(a[:, :2], b[:, :2])).prod(-1)
    return inner / union.clamp(min=1e-9) - (outer - union) / outer.clamp(min=1e-9)
