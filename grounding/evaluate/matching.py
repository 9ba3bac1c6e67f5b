"""Boxes matched to the truth once, by COCO's rule; average precision, recall and FROC from the matches.

Owns the matching and its curves, on numpy alone, as functions of image weights (see `resampling`). On the set
as it is they equal faster-coco-eval's and pycocotools' figures, which tests check. Sources: COCO evaluation
(cocoeval.py of pycocotools: greedy by score, each true box once, 101 recall points); FROC, Bunch et al. 1978,
read at 1/8 .. 8 false boxes an image as in LUNA16.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..boxes import box_iou, xywh_to_xyxy, xyxy_to_xywh
from .coco import MAX_DETECTIONS
from .detections import Detections
from .resampling import Floats, Ints, divide, mean_of_valid
from .targets import Target, TargetSet

Bools = npt.NDArray[np.bool_]

IOU_THRESHOLDS: Floats = np.linspace(0.5, 0.95, 10)
AT50, AT75 = 0, 5
"""Places of IoU .50 and .75 in `IOU_THRESHOLDS`."""
RECALL_POINTS: Floats = np.linspace(0.0, 1.0, 101)
FALSE_BOXES_AN_IMAGE = (0.125, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0)


@dataclass(frozen=True, eq=False)
class Matches:
    """All D boxes of a set by falling score, each with what it hit.

    Attributes:
        scores: (D,) falling; boxes of equal score stand in the order of image ids.
        image: (D,) index of the box's image in the set.
        label: (D,) index of its phrase in the set's labels.
        hits: bool (10, D), whether the box took a true box at each of `IOU_THRESHOLDS`.
        n_true: (I, P) true boxes by image and label.
    """

    scores: Floats
    image: Ints
    label: Ints
    hits: Bools
    n_true: Floats

    def average_precision(
        self, weights: Floats, labels: Sequence[int] | None = None, at: Sequence[int] | None = None
    ) -> Floats:
        """Average precision by label and IoU threshold; nan where a label has no true box in the sample.

        Args:
            weights: (B, I) image weights; an image drawn twice counts as two images.
            labels: L labels, None for all.
            at: K places in `IOU_THRESHOLDS`, None for all ten.

        Returns:
            (B, L, K).
        """
        labels, at = self._chosen(labels, at)
        out = np.full((len(weights), len(labels), len(at)), np.nan)
        for row, label in enumerate(labels):
            own = self.label == label
            drawn = weights[:, self.image[own]]
            kept = np.cumsum(drawn, axis=1)
            n_true = weights @ self.n_true[:, label]
            for column, hits in enumerate(self.hits[list(at)][:, own]):
                out[:, row, column] = _average_precision(drawn[:, hits], kept[:, hits], n_true)
        return out

    def average_recall(
        self, weights: Floats, labels: Sequence[int] | None = None, at: Sequence[int] | None = None
    ) -> Floats:
        """Recall with every box kept; arguments and result as for `average_precision`."""
        labels, at = self._chosen(labels, at)
        out = np.full((len(weights), len(labels), len(at)), np.nan)
        for row, label in enumerate(labels):
            own = self.label == label
            found = weights[:, self.image[own]] @ self.hits[list(at)][:, own].T.astype(np.float64)
            out[:, row] = divide(found, (weights @ self.n_true[:, label])[:, None])
        return out

    def _chosen(
        self, labels: Sequence[int] | None, at: Sequence[int] | None
    ) -> tuple[Sequence[int], Sequence[int]]:
        return (
            range(self.n_true.shape[1]) if labels is None else labels,
            range(len(IOU_THRESHOLDS)) if at is None else at,
        )

    def froc(self, weights: Floats, false_boxes: Sequence[float] = FALSE_BOXES_AN_IMAGE) -> Floats:
        """(B, I) image weights -> (B, F) share of true boxes found (IoU .5) at each false-box rate.

        All labels share one score threshold. The share at a rate is that of the lowest threshold at which no
        more than so many false boxes an image remain.
        """
        hits = self.hits[AT50]
        n_true, n_images = weights @ self.n_true.sum(axis=1), weights.sum(axis=1)
        out = np.empty((len(weights), len(false_boxes)))
        for b, row in enumerate(weights):
            drawn = row[self.image]
            false = np.concatenate([[0.0], np.cumsum(np.where(hits, 0.0, drawn))])
            found = np.concatenate([[0.0], np.cumsum(np.where(hits, drawn, 0.0))])
            last = np.searchsorted(false, np.asarray(false_boxes) * n_images[b], side="right") - 1
            out[b] = found[last]
        return divide(out, n_true[:, None])

    def precision_recall(self, label: int) -> tuple[Floats, Floats]:
        """Recall and precision (D + 1,) at IoU .5 down the ranking of one label, from recall 0 on."""
        hits = self.hits[AT50, self.label == label]
        found, kept = np.cumsum(hits), np.arange(1, len(hits) + 1)
        n_true = max(self.n_true[:, label].sum(), 1.0)
        start = found[:1] / kept[:1] if len(hits) else np.ones(1)
        return np.concatenate([[0.0], found / n_true]), np.concatenate([start, found / kept])


@dataclass(frozen=True)
class Figure:
    """AP, AP50, AP75 or AR100 as a metric: the mean of `Matches`' values over IoU thresholds and labels.

    Attributes:
        matches: of the set.
        recall: average recall instead of average precision.
        at: place in `IOU_THRESHOLDS`, or None for their mean.
        labels: the labels to average over, None for all; those without a true box are left out.
    """

    matches: Matches
    recall: bool = False
    at: int | None = None
    labels: tuple[int, ...] | None = None

    def __call__(self, weights: Floats) -> Floats:
        """(B, I) -> (B,); nan where no label has a true box."""
        figure = self.matches.average_recall if self.recall else self.matches.average_precision
        at = None if self.at is None else [self.at]
        return mean_of_valid(figure(weights, self.labels, at), axis=(1, 2))


def _average_precision(drawn: Floats, kept: Floats, n_true: Floats) -> Floats:
    """Average precision of B samples from the H boxes that hit, best first.

    Args:
        drawn: (B, H) times that each is drawn.
        kept: (B, H) boxes down to and with each of them, hit or not.
        n_true: (B,) true boxes.
    """
    found = np.cumsum(drawn, axis=1)
    precision = np.divide(found, kept, out=np.zeros_like(found), where=kept > 0)
    # Precision at a recall point is the best at that recall or any higher one (COCO's envelope); between two
    # hits it only falls, so the hits alone decide it.
    envelope = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    recall = np.divide(found, n_true[:, None], out=np.zeros_like(found), where=n_true[:, None] > 0)
    reached = np.searchsorted(RECALL_POINTS, recall, side="right")
    points = np.diff(reached, axis=1, prepend=0)
    area = (envelope * points).sum(axis=1) / len(RECALL_POINTS)
    return np.where(n_true > 0, area, np.nan)


def match(targets: TargetSet, detections: Sequence[Detections]) -> Matches:
    """Match the boxes of a set, at most the 100 best an image.

    Args:
        targets: the set.
        detections: of each image of the set, asked for the set's labels in their order.

    Raises:
        ValueError: another number of images, or other phrases than the set's labels.
    """
    check_answers(targets, detections)
    n_true = np.zeros((len(targets.targets), len(targets.labels)))
    parts: list[tuple[Floats, Ints, Ints, Bools]] = []
    for index in sorted(range(len(detections)), key=lambda i: targets.targets[i].image_id):
        target, regions = targets.targets[index], detections[index].regions.sorted()[:MAX_DETECTIONS]
        np.add.at(n_true[index], target.labels, 1)
        hits = np.zeros((len(IOU_THRESHOLDS), len(regions)), dtype=np.bool_)
        for label in np.unique(regions.phrase_index):
            own = regions.phrase_index == label
            hits[:, own] = take_greedily(_iou(regions.boxes[own], target, int(label)))
        image = np.full(len(regions), index, dtype=np.int64)
        parts.append((regions.scores.astype(np.float64), image, regions.phrase_index, hits))
    scores = np.concatenate([part[0] for part in parts])
    order = np.argsort(-scores, kind="stable")
    return Matches(
        scores=scores[order],
        image=np.concatenate([part[1] for part in parts])[order],
        label=np.concatenate([part[2] for part in parts])[order],
        hits=np.concatenate([part[3] for part in parts], axis=1)[:, order],
        n_true=n_true,
    )


def check_answers(targets: TargetSet, detections: Sequence[Detections]) -> None:
    """Refuse detections that do not answer a set image by image, label by label.

    Raises:
        ValueError: another number of images, or other phrases than the set's labels.
    """
    if len(detections) != len(targets.targets):
        raise ValueError(
            f"{targets.name}: expected detections of {len(targets.targets)} images, got {len(detections)}"
        )
    other = {d.regions.asked for d in detections} - {targets.labels}
    if other:
        raise ValueError(f"{targets.name}: expected {targets.labels} to be asked, got {sorted(other)[0]}")


def _iou(boxes: npt.NDArray[np.float32], target: Target, label: int) -> Floats:
    """(D, G) IoU with the true boxes of a label; by way of xywh, so that rounding is that of COCO's files."""
    exact: Floats = xywh_to_xyxy(xyxy_to_xywh(boxes).astype(np.float64))
    return box_iou(exact, target.boxes[target.labels == label])


def take_greedily(iou: Floats) -> Bools:
    """(D, G) IoU of boxes, best score first -> bool (10, D): which takes a true box that is still free.

    Each box takes the free one that it overlaps most (of equal ones the last, as COCO does).
    """
    n_boxes, n_true = iou.shape
    hits = np.zeros((len(IOU_THRESHOLDS), n_boxes), dtype=np.bool_)
    if not n_true:
        return hits
    free = np.ones((len(IOU_THRESHOLDS), n_true), dtype=np.bool_)
    rows = np.arange(len(IOU_THRESHOLDS))
    for box in range(n_boxes):
        open_iou = np.where(free, iou[box], -1.0)
        best = n_true - 1 - np.argmax(open_iou[:, ::-1], axis=1)
        hits[:, box] = open_iou[rows, best] >= IOU_THRESHOLDS
        free[rows[hits[:, box]], best[hits[:, box]]] = False
    return hits
