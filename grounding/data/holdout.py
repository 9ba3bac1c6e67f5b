"""Which part of a training split is kept from training, to fit what must not be fitted on training data.

Whoever asks for the same part of the same set gets the same groups. Knows nothing about files.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable


def held_out_groups(set_name: str, groups: Iterable[str], fraction: float) -> frozenset[str]:
    """About ``fraction`` of the groups of a set, chosen by a hash of their names.

    Whole groups (patients, where they are known), so that none is on both sides; at least one, where
    ``fraction`` is above 0 and there are two or more.

    Args:
        set_name: Name of the set.
        groups: Group of each image; repeats count once.
        fraction: In [0, 1].

    Raises:
        ValueError: If ``fraction`` is not in [0, 1].
    """
    if not 0 <= fraction <= 1:
        raise ValueError(f"expected a fraction in [0, 1], got {fraction}")
    ordered = sorted(set(groups), key=lambda group: hashlib.sha256(f"{set_name}/{group}".encode()).digest())
    count = round(fraction * len(ordered))
    if fraction and len(ordered) > 1:
        count = max(count, 1)
    return frozenset(ordered[:count])
