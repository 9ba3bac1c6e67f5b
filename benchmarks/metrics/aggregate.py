"""Means by answer type, shared by the VQA metrics."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

Score = Callable[[str, str, str], float]
"""(prediction, reference, answer type OPEN or CLOSED) -> score in [0, 1]."""


def by_answer_type(
    score: Score, predictions: Sequence[str], references: Sequence[str], answer_types: Sequence[str]
) -> dict[str, float]:
    """Mean score of the open, the closed and all questions; nan where there is none.

    Raises:
        ValueError: an answer type is neither OPEN nor CLOSED, or the lengths differ.
    """
    unknown = set(answer_types) - {"OPEN", "CLOSED"}
    if unknown:
        raise ValueError(f"expected answer types OPEN or CLOSED, got {sorted(unknown)}")
    scores = [score(p, r, t) for p, r, t in zip(predictions, references, answer_types, strict=True)]
    of_type = {
        name: [s for s, t in zip(scores, answer_types, strict=True) if t == name.upper()]
        for name in ("open", "closed")
    }
    return {name: _mean(values) for name, values in [*of_type.items(), ("overall", scores)]}


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else math.nan
