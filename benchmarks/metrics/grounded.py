"""Whether the sentences of a report point at the right places: grounded precision and recall.

Knows phrases and boxes, no text and no model. A link is one sentence with one of its regions; it is right
where the region overlaps a true box of the same finding or structure enough.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from grounding.boxes import box_iou

MIN_IOU = 0.5


@dataclass(frozen=True, eq=False)
class PlacedPhrase:
    """A finding or structure with its boxes: what a sentence claims, or what is true of an image.

    Attributes:
        phrase: the finding or structure; compared without regard to case and spaces. Synonyms are the
            caller's.
        boxes: float (N, 4) xyxy in pixels of the original image; N = 0 for a sentence that points nowhere.
    """

    phrase: str
    boxes: npt.NDArray[np.float64]

    def __post_init__(self) -> None:
        """Check the shape of the boxes."""
        if self.boxes.ndim != 2 or self.boxes.shape[1] != 4:
            raise ValueError(f"boxes of {self.phrase!r} must be (N, 4) xyxy, got {self.boxes.shape}")

    @property
    def key(self) -> str:
        """The phrase in the form that is compared."""
        return " ".join(self.phrase.lower().split())


def grounded_scores(
    reports: Sequence[Sequence[PlacedPhrase]],
    truths: Sequence[Sequence[PlacedPhrase]],
    *,
    min_iou: float = MIN_IOU,
) -> dict[str, float]:
    """Pool all reports: "precision" of links, "recall" of true boxes, "f1", "grounded" share of sentences.

    Several sentences may point at one true box and all be right; the box counts once in recall. Precision is
    nan without any link, recall without any true box, so that a report that says nothing is not a perfect
    one: f1 is then 0 unless there was nothing to point at.

    Args:
        reports: the sentences of each report, one `PlacedPhrase` a sentence.
        truths: the true boxes of each image, in the same order.
        min_iou: least overlap (intersection over union) of a right region.

    Raises:
        ValueError: the lengths differ.
    """
    if len(reports) != len(truths):
        raise ValueError(
            f"expected the truth of every report, got {len(reports)} reports, {len(truths)} truths"
        )
    right = links = hit = 0
    for sentences, true in zip(reports, truths, strict=True):
        for key in {sentence.key for sentence in sentences}:
            said = _boxes(sentences, key)
            overlaps = box_iou(said, _boxes(true, key)) >= min_iou
            right, links, hit = (
                right + int(overlaps.any(axis=1).sum()),
                links + len(said),
                hit + int(overlaps.any(axis=0).sum()),
            )
    n_true = sum(len(placed.boxes) for true in truths for placed in true)
    said_flags = [len(sentence.boxes) > 0 for sentences in reports for sentence in sentences]
    return {
        "precision": right / links if links else math.nan,
        "recall": hit / n_true if n_true else math.nan,
        "f1": _f1(right, links, hit, n_true),
        "grounded": sum(said_flags) / len(said_flags) if said_flags else math.nan,
    }


def _boxes(placed: Sequence[PlacedPhrase], key: str) -> npt.NDArray[np.float64]:
    return np.concatenate([np.zeros((0, 4)), *(item.boxes for item in placed if item.key == key)])


def _f1(right: int, links: int, hit: int, n_true: int) -> float:
    if not links and not n_true:
        return math.nan
    if not right:
        return 0.0
    precision, recall = right / links, hit / n_true
    return 2 * precision * recall / (precision + recall)
