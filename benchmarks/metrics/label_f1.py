"""F1 of report labels: micro and macro over CheXpert's 14 observations and over its 5 of the competition.

Knows labels, no text. An observation counts as positive where it is present, and where it is uncertain unless
the policy says otherwise; absent and not mentioned are both negative, as in CheXbert's F1.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from .chexpert_rules import FIVE, OBSERVATIONS
from .labeller import Labels

Uncertain = Literal["positive", "negative"]
"""What an uncertain mention counts as, in predictions and references alike."""


def label_f1(
    predicted: Sequence[Labels], true: Sequence[Labels], *, uncertain: Uncertain = "positive"
) -> dict[str, float]:
    """F1 by observation ("f1/Edema", ...) and "micro_14", "macro_14", "micro_5", "macro_5", all in [0, 1].

    An observation that is positive nowhere has F1 0 and counts in the macro mean, as scikit-learn's report
    has
    it: small sets score low by it. Micro figures pool the counts.

    Raises:
        ValueError: the lengths differ, or the policy is neither positive nor negative.
    """
    if uncertain not in ("positive", "negative"):
        raise ValueError(f"expected uncertain to be positive or negative, got {uncertain!r}")
    counts = {name: _counts(name, predicted, true, uncertain) for name in OBSERVATIONS}
    scores = {f"f1/{name}": _f1(*counts[name]) for name in OBSERVATIONS}
    for names in (OBSERVATIONS, FIVE):
        right, said, real = (sum(counts[name][k] for name in names) for k in range(3))
        scores[f"micro_{len(names)}"] = _f1(right, said, real)
        scores[f"macro_{len(names)}"] = sum(scores[f"f1/{name}"] for name in names) / len(names)
    return scores


def _counts(
    name: str, predicted: Sequence[Labels], true: Sequence[Labels], uncertain: Uncertain
) -> tuple[int, int, int]:
    """Reports where both are positive, the prediction is, the reference is."""
    positive = {"present", "uncertain"} if uncertain == "positive" else {"present"}
    pairs = [(p.get(name) in positive, t.get(name) in positive) for p, t in zip(predicted, true, strict=True)]
    return sum(p and t for p, t in pairs), sum(p for p, _ in pairs), sum(t for _, t in pairs)


def _f1(right: int, said: int, real: int) -> float:
    return 2 * right / (said + real) if right else 0.0
