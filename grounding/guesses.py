"""Where a phrase would most likely be, although it was not found.

A question may presume what a detector is not sure of ("in which half is the spleen?"): its best box, marked
as doubted, says more than nothing. Knows no network.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .types import Regions


def with_guesses(found: Regions, every: Regions, phrases: Sequence[str] | None = None) -> Regions:
    """Add the best box of each phrase that was not found, as a doubted region behind those found.

    Args:
        found: What a detector shows.
        every: What it would show with a threshold of 0; asked for the same phrases.
        phrases: Those that get a guess, None for all that were asked.

    Raises:
        ValueError: The two were not asked for the same.
    """
    if found.asked != every.asked:
        raise ValueError(f"expected the same phrases asked twice, got {found.asked} and {every.asked}")
    wanted = set(found.missing if phrases is None else phrases) & set(found.missing)
    best: dict[str, int] = {}
    phrases_of = every.phrases
    for index in np.argsort(-every.scores, kind="stable").tolist():
        if phrases_of[index] in wanted:
            best.setdefault(phrases_of[index], index)
    if not best:
        return found
    guessed = every[sorted(best.values(), key=lambda index: int(every.phrase_index[index]))]
    return Regions(
        np.concatenate([found.boxes, guessed.boxes]),
        np.concatenate([found.scores, guessed.scores]),
        np.concatenate([found.phrase_index, guessed.phrase_index]),
        found.asked,
        found.image_size,
        None,
        np.arange(len(found) + len(guessed)) >= len(found),
    )
