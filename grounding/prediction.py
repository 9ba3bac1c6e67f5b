"""What one forward says of an image: numbers by phrase, and the regions that are made of them.

Owns the floor, the limit and the thresholds; knows no network. Boxes leave the network's frame here, for
pixels of the original image.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from .boxes import clip_boxes, denormalize_boxes
from .calibration import Calibration
from .nms import nms_indices
from .outputs import GroundingOutput
from .packing import Packing
from .prompts import Prompt, phrase_probabilities, positive_map
from .types import MedicalImage, Regions

MAX_REGIONS = 100  # regions kept an image, best first: COCO's own limit
SCORE_FLOOR = 0.01  # a raw score below this carries no information and is never returned

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Prediction:
    """What the network says of one image for the C columns of one or more prompts; scores are raw.

    Attributes:
        scores: float32 (C, Q).
        boxes: float32 (C, Q, 4) cxcywh in [0, 1] of the image.
        presence: float32 (C,) that the phrase is to be seen at all.
    """

    scores: Floats
    boxes: Floats
    presence: Floats


def read_output(output: GroundingOutput, row: int, prompt: Prompt) -> Prediction:
    """The numbers of one row of a forward, a column a phrase.

    Presence is the network's own where it has one, else the greatest score of a box.
    """
    logits = output.logits[row].float().cpu()
    maps = positive_map(prompt, logits.shape[-1])
    scores = phrase_probabilities(logits, maps).T.numpy()
    boxes = output.pred_boxes[row].float().cpu().numpy()
    presence = scores.max(axis=1)
    if output.presence_logits is not None:
        tokens = output.presence_logits[row].float().cpu()
        presence = phrase_probabilities(tokens[None], maps)[0].numpy()
    return Prediction(scores, np.broadcast_to(boxes, (len(scores), *boxes.shape)), presence)


def concatenate(parts: Sequence[Prediction]) -> Prediction:
    """The columns of several passes, one after the other."""
    if not parts:
        none = np.zeros((0, 1), dtype=np.float32)
        return Prediction(none, none.reshape(0, 1, 1).repeat(4, axis=2), none[:, 0])
    return Prediction(
        np.concatenate([part.scores for part in parts]),
        np.concatenate([part.boxes for part in parts]),
        np.concatenate([part.presence for part in parts]),
    )


def default_thresholds(
    packing: Packing, prediction: Prediction, score: Callable[[str], float], presence: float
) -> Floats:
    """(C,) score from which on each column is shown by default; infinite where its presence is too low.

    Args:
        packing: The phrases, and which column answers each.
        prediction: Of the packing's prompts.
        score: Phrase -> the score from which on its boxes are shown.
        presence: Presence below which none of a phrase's boxes is shown.
    """
    least = np.zeros(len(packing.tokens), dtype=np.float32)
    for name, place in sorted(zip(packing.asked, packing.columns, strict=True)):
        least[place] = score(name)
    least[prediction.presence < np.float32(presence)] = np.inf
    return least


def to_regions(
    image: MedicalImage,
    packing: Packing,
    prediction: Prediction,
    *,
    least: npt.ArrayLike,
    calibration: Calibration | None,
    nms_iou: float,
) -> Regions:
    """The best regions of all columns, handed out to the phrases asked.

    Args:
        image: The original image.
        packing: The phrases, and which column answers each.
        prediction: Of the packing's prompts.
        least: Lowest score shown, as returned: one for all, or (C,).
        calibration: Of the scores; None leaves them raw.
        nms_iou: IoU above which a box repeats a surer one of its phrase; 1 drops none.
    """
    column, query = np.nonzero(prediction.scores >= np.float32(SCORE_FLOOR))
    scores = prediction.scores[column, query]
    if calibration is not None:
        scores = calibration.apply(scores)
    shown = scores >= np.broadcast_to(np.asarray(least, dtype=np.float32), len(prediction.scores))[column]
    column, query, scores = column[shown], query[shown], scores[shown]
    boxes = clip_boxes(denormalize_boxes(prediction.boxes[column, query], image.size), image.size)
    order = nms_indices(boxes, scores, column, nms_iou)[:MAX_REGIONS]
    which, phrase = packing.answer(column[order])
    return Regions(boxes[order][which], scores[order][which], phrase, packing.asked, image.size)
