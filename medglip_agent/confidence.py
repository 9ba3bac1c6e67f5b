"""What a confidence is, a probability of being right or a mere rank, and how that is said.

Everything that shows a confidence takes its words from here. Knows no model: `llm.confidence` owns the map,
and the model at hand says whether it has one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

from llm.confidence import Certainty

RAW: Final = Certainty()
_CALIBRATED: Final = "calibrated: of held-out answers or boxes with this number, about that share was right"
_UNCALIBRATED: Final = "uncalibrated: it ranks answers, it is no probability of being right"


def combine_confidence(generation: float, scores: Sequence[float]) -> float:
    """Return the raw confidence of a generated answer, in [0, 1]: it ranks, it is no probability.

    sqrt(g * s): the geometric mean of g, the generation's confidence (geometric mean token probability), and
    s, the mean score of the cited regions; g alone where nothing is cited.
    """
    if not scores:
        return generation
    return math.sqrt(generation * math.fsum(scores) / len(scores))


def answer_confidence(generation: float, scores: Sequence[float], certainty: Certainty) -> float:
    """Return how sure an answer is: calibrated where the model has a calibration, else raw.

    The calibration was fitted on the generation's confidence alone, so the regions' scores stay out of it.
    """
    if certainty.calibration is not None:
        return certainty.calibration(generation)
    return combine_confidence(generation, scores)


def confidence_text(confidence: float, *, calibrated: bool) -> str:
    """Return the number with what it is, such as "0.56 (uncalibrated)"."""
    return f"{confidence:.2f} ({'calibrated' if calibrated else 'uncalibrated'})"


def confidence_note(*, calibrated: bool) -> str:
    """Return what the number means, in a few words."""
    return _CALIBRATED if calibrated else _UNCALIBRATED
