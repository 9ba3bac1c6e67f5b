"""Where a phrase would most likely be, although it was not found.

A question may presume what a detector is not sure of ("in which half is the spleen?"): its best box, marked
as doubted, says more than nothing. Knows no network.
"""

from __future__ import annotations

import numpy as np

from .types import Regions


def with_guesses(found: Regions, every: Regions) -> Regions:
    """Add the best box of each phrase that was not found, as a doubted region behind those found.

    Args:
        found: What a detector shows.
        every: What it would show with a threshold of 0; asked for the same phrases.

    Raises:
        ValueError: The two were not asked for the same.
    """
    if found.asked != every.asked:
        raise ValueError(f"expected the same phrases asked twice, got {found.asked} and {every.asked}")
    missing, phrases = set(found.missing), every.phrases
    best: dict[str, int] = {}
    for index in np.argsort(-every.scores, kind="stable").tolist():
        if phrases[index] in missing:
            best.setdefault(phrases[index], index)
    guessed = every[sorted(best.values(), key=lambda index: int(every.phrase_index[index]))]
    return found.guessing(guessed.boxes, guessed.scores, guessed.phrase_index)
