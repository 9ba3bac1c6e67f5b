"""Phrase grounding: figures whose unit is one phrase asked of one image.

Owns the localisation of phrases that are present, and the referring-expression score that counts absent ones
too. Sources: accuracy at an IoU as in Flickr30k Entities and MS-CXR; any-box and merged-box recall as in
MDETR (Kamath et al. 2021); pointing game, Zhang et al. 2016, here without its 15 pixels of tolerance; F1=1 at
IoU .5 and no-target accuracy as in GREC (He et al. 2023).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.optimize import linear_sum_assignment

from ..boxes import box_iou
from .detections import Detections, Threshold
from .matching import check_answers
from .resampling import Floats, Metric, Ratio
from .targets import TargetSet

RECALL_AT = (1, 5, 10)
ACCURACY_AT = (0.25, 0.5, 0.75)


def phrase_metrics(
    targets: TargetSet, detections: Sequence[Detections], threshold: Threshold
) -> dict[str, Metric]:
    """Metrics over the (image, label) pairs of a set, each a mean over pairs.

    Over pairs with at least one true box, by rank alone: `acc25`, `acc50`, `acc75` and `miou` of the
    best-scored box (0 where there is none) with whichever true box it overlaps most; `recall1`, `recall5`,
    `recall10` = one of so many boxes has IoU .5 with any true box; `merged1` and so on, the same with the
    hull of the true boxes; `pointing` = the centre of the best-scored box lies in a true box.

    At the threshold: `f1_is_1` over all pairs = the boxes shown and the true boxes match one to one at
    IoU .5, and nothing is shown where nothing is; `no_target` over pairs without a true box = nothing is
    shown.

    Raises:
        ValueError: the detections do not answer the set.
    """
    check_answers(targets, detections)
    units: dict[str, list[float]] = {}
    images: dict[str, list[int]] = {}

    def add(index: int, figures: dict[str, float]) -> None:
        for name, figure in figures.items():
            units.setdefault(name, []).append(figure)
            images.setdefault(name, []).append(index)

    for index, (target, answer) in enumerate(zip(targets.targets, detections, strict=True)):
        regions, visible = answer.regions.sorted(), answer.regions[answer.shown(threshold)]
        for label in range(len(targets.labels)):
            own = regions.phrase_index == label
            boxes = regions.boxes[own].astype(np.float64)
            shown = visible.boxes[visible.phrase_index == label].astype(np.float64)
            truth = target.boxes[target.labels == label]
            add(index, {"f1_is_1": float(_matches_exactly(shown, truth))})
            add(index, localisation(boxes, truth) if len(truth) else {"no_target": float(len(shown) == 0)})
    n_images = len(targets.targets)
    return {name: Ratio.of_units(values, np.array(images[name]), n_images) for name, values in units.items()}


def localisation(boxes: Floats, truth: Floats) -> dict[str, float]:
    """Figures of one phrase that is present; see `phrase_metrics`.

    Args:
        boxes: (D, 4) xyxy pixels, best score first.
        truth: (G, 4) xyxy pixels, at least one.
    """
    hull = np.concatenate([truth[:, :2].min(axis=0), truth[:, 2:].max(axis=0)])[None]
    overlap = box_iou(boxes, truth).max(axis=1)
    merged = box_iou(boxes, hull)[:, 0]
    first = float(overlap[0]) if len(boxes) else 0.0
    figures = {f"acc{at * 100:.0f}": float(first >= at) for at in ACCURACY_AT}
    for k in RECALL_AT:
        figures[f"recall{k}"] = float((overlap[:k] >= 0.5).any())
        figures[f"merged{k}"] = float((merged[:k] >= 0.5).any())
    return {**figures, "miou": first, "pointing": float(len(boxes) > 0 and _centre_inside(boxes[0], truth))}


def _centre_inside(box: Floats, truth: Floats) -> bool:
    centre = (box[:2] + box[2:]) / 2
    return bool(((truth[:, :2] <= centre) & (centre <= truth[:, 2:])).all(axis=1).any())


def _matches_exactly(shown: Floats, truth: Floats) -> bool:
    """Whether boxes and true boxes can be paired one to one at IoU .5, with none left over."""
    if len(shown) != len(truth):
        return False
    if not len(truth):
        return True
    fits = box_iou(shown, truth) >= 0.5
    rows, columns = linear_sum_assignment(fits, maximize=True)
    return bool(fits[rows, columns].all())
