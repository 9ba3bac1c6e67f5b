"""64-bit perceptual hashes of pictures, and the search for near-duplicates among millions of them.

Owns the hash and the Hamming search. Knows no rows and no files. Everything is integer arithmetic, so that
two machines never disagree on a bit. A picture encoded once more mostly differs from itself by 0 to 2 bits.
"""

from __future__ import annotations

from collections.abc import Iterator
from io import BytesIO
from typing import Final

import numpy as np
import numpy.typing as npt
from PIL import Image

Hashes = npt.NDArray[np.uint64]
Indices = npt.NDArray[np.int64]

_SIDE: Final = 32
_CROWD: Final = 512
"""Up to so many hashes that share a band are compared pair by pair; more are cut once more."""


def _cosines() -> npt.NDArray[np.int64]:
    """(8, 32): the discrete cosine transform's frequencies 1 to 8 over 32 pixels, in units of 2**-12."""
    frequency = np.arange(1, 9)[:, None]
    position = 2 * np.arange(_SIDE)[None, :] + 1
    return np.round(np.cos(np.pi * position * frequency / (2 * _SIDE)) * 4096).astype(np.int64)


_COSINES: Final = _cosines()
_WEIGHTS: Final = np.uint64(1) << np.arange(63, -1, -1, dtype=np.uint64)


def perceptual_hash(picture: bytes) -> int:
    """Hash of an encoded picture (PNG, JPEG): 64 bits, alike for pictures that look alike.

    The grey picture is squeezed to 32 x 32; a bit says whether one of its 64 lowest frequencies (rows and
    columns 1 to 8, without the mean and the pure gradients) lies in the upper half of them (pHash).
    """
    with Image.open(BytesIO(picture)) as image:
        if image.mode in ("L", "RGB"):
            image.draft("L", (_SIDE * 4, _SIDE * 4))  # a JPEG is decoded at 1/2, 1/4 or 1/8, grey alone
        grey = image.convert("L").resize((_SIDE, _SIDE), Image.Resampling.BOX)
    waves = (_COSINES @ np.asarray(grey, dtype=np.int64) @ _COSINES.T).ravel()
    return int(_WEIGHTS[waves >= np.partition(waves, 32)[32]].sum())


def first_seen(hashes: Hashes, bits: int) -> Indices:
    """For each hash the place of the earlier one that it repeats, or its own place where it is to stay.

    A hash repeats the first kept one within `bits`; one that was itself found to repeat keeps nobody out.
    Memory is a few arrays as long as `hashes` and the near pairs of distinct ones.

    Args:
        hashes: (N,) uint64, in the order in which the first one stays.
        bits: greatest Hamming distance of two that count as one picture, 0 to 4.

    Returns:
        (N,) int64; ``result[i] <= i``.

    Raises:
        ValueError: `bits` is out of range.
    """
    if not 0 <= bits <= 4:
        raise ValueError(f"expected 0 to 4 bits of Hamming distance, got {bits}; 2 suits re-encoded pictures")
    values, first, inverse = np.unique(hashes, return_index=True, return_inverse=True)
    order = np.argsort(first)  # distinct hashes in the order of their first appearance
    rank = np.empty_like(order)
    rank[order] = np.arange(len(order))
    original = _greedy(values[order], bits)
    return first[order[original[rank[inverse]]]].astype(np.int64)


def _greedy(distinct: Hashes, bits: int) -> Indices:
    """:func:`first_seen` for hashes that all differ."""
    count = len(distinct)
    original = np.arange(count, dtype=np.int64)
    if bits and count > 1:
        places = np.arange(count, dtype=np.int64)
        codes = np.concatenate(list(_near(distinct, places, bits)))
        for code in np.unique(codes).tolist():
            later, earlier = divmod(code, count)
            if original[later] == later and original[earlier] == earlier:
                original[later] = earlier
    return original


def _near(distinct: Hashes, members: Indices, bits: int) -> Iterator[Indices]:
    """Pairs among `members` at most `bits` apart, each as later * N + earlier; one may come more than once.

    Cut the bits on which they differ into bits + 1 bands: two hashes at most `bits` apart agree on at least
    one band. Only such are compared; where many agree on a band, they are cut again along the other bits.
    """
    varied = int(np.bitwise_or.reduce(distinct[members] ^ distinct[members[0]]))
    free = [bit for bit in range(64) if varied >> bit & 1]
    for band in range(bits + 1):
        chosen = free[band :: bits + 1]
        keys = distinct[members] & np.uint64(sum(1 << bit for bit in chosen))
        by_key = np.argsort(keys, kind="stable")
        borders = np.flatnonzero(np.diff(keys[by_key])) + 1
        edges = np.concatenate([[0], borders, [len(members)]])
        starts, stops = np.repeat(edges[:-1], np.diff(edges)), np.repeat(edges[1:], np.diff(edges))
        crowded = (stops - starts > _CROWD) & (len(chosen) < len(free)) & (len(chosen) > 0)
        yield _compare(distinct, members[by_key], np.where(crowded, 0, stops), bits)
        for start in np.unique(starts[crowded]).tolist():
            yield from _near(distinct, members[by_key[start : stops[start]]], bits)


def _compare(distinct: Hashes, members: Indices, stops: Indices, bits: int) -> Indices:
    """Compare each member with those that follow it up to its stop, one step further at a time."""
    values = distinct[members]
    found = [np.empty(0, dtype=np.int64)]
    left = np.arange(len(members), dtype=np.int64)
    step = 1
    while (left := left[left + step < stops[left]]).size:
        near = left[np.bitwise_count(values[left] ^ values[left + step]) <= bits]
        one, other = members[near], members[near + step]
        found.append(np.maximum(one, other) * len(distinct) + np.minimum(one, other))
        step += 1
    return np.concatenate(found)
