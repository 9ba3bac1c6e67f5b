"""Class-wise non-maximum suppression: of boxes that show one phrase at one place, the surest stays."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from .boxes import box_iou
from .types import Regions


def nms_indices(
    boxes: npt.NDArray[np.float32],
    scores: npt.NDArray[np.float32],
    classes: npt.NDArray[np.int64],
    iou_threshold: float,
) -> npt.NDArray[np.int64]:
    """Indices of the boxes that stay, by falling score (equal scores in the order given).

    Greedy: the surest box stays and drops every other of its class that overlaps it by MORE than
    ``iou_threshold``; then the next of those left.

    Args:
        boxes: (N, 4) xyxy, one frame and unit.
        scores: (N,).
        classes: (N,) boxes of different classes never meet.
        iou_threshold: In [0, 1]; 1 drops nothing.

    Raises:
        ValueError: If the threshold lies outside [0, 1].
    """
    if not 0 <= iou_threshold <= 1:
        raise ValueError(f"expected an IoU threshold in [0, 1], got {iou_threshold}")
    order = np.argsort(-scores, kind="stable")
    if iou_threshold == 1:
        return order
    stays = np.ones(len(boxes), dtype=bool)
    for name in np.unique(classes):
        members = order[classes[order] == name]
        overlaps = box_iou(boxes[members], boxes[members]) > iou_threshold
        left = np.ones(len(members), dtype=bool)
        for index in range(len(members)):
            if left[index]:
                left[index + 1 :] &= ~overlaps[index, index + 1 :]
        stays[members] = left
    return order[stays[order]]


def suppress(regions: Regions, iou_threshold: float) -> Regions:
    """Regions without those that repeat a surer one of the same phrase, by falling score.

    Raises:
        ValueError: If the threshold lies outside [0, 1].
    """
    return regions[nms_indices(regions.boxes, regions.scores, regions.phrase_index, iou_threshold)]
