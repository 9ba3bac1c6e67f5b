"""Which split an image belongs to, and which slices stay: rules without memory.

The side of a patient follows from a hash alone, so every process finds the same one, whatever it has seen
before. Knows no rows and no files.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import Final, Literal

Split = Literal["train", "val", "test"]

OFFICIAL_NAMES: Final[dict[str, Split]] = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validate": "val",
    "validation": "val",
    "dev": "val",
    "test": "test",
    "testing": "test",
}


def stable_hash(*parts: str | int) -> str:
    """16 hexadecimal digits that depend on the parts alone, not on process or platform."""
    text = "\0".join(str(part) for part in parts)
    return blake2b(text.encode("utf-8", "surrogateescape"), digest_size=8).hexdigest()


def stable_fraction(*parts: str | int) -> float:
    """A number in [0, 1) that depends on the parts alone."""
    return int(stable_hash(*parts)[:13], 16) / 16**13


def patient_split(group: str, seed: int, val_fraction: float, test_fraction: float) -> Split:
    """The side of a patient (or of whatever images must not be parted).

    Args:
        group: what the images share.
        seed: another seed draws other sides.
        val_fraction: expected share of the groups in val.
        test_fraction: the same in test.
    """
    place = stable_fraction("split", seed, group)
    if place < test_fraction:
        return "test"
    return "val" if place < test_fraction + val_fraction else "train"


def official_split(name: str) -> Split:
    """Our name of a source's own split.

    Raises:
        ValueError: the name is of no known kind.
    """
    try:
        return OFFICIAL_NAMES[name.strip().lower()]
    except KeyError:
        raise ValueError(
            f"expected a split named {', '.join(OFFICIAL_NAMES)}, got {name!r}; "
            "rename it, or set `splits: patient` for this source"
        ) from None


def is_thinned(series: str | None, slice_index: int | None, keep_every: int) -> bool:
    """Whether a slice goes, where of each series only every `keep_every`-th index is to stay.

    A picture that is no slice of a series always stays.
    """
    return series is not None and slice_index is not None and slice_index % keep_every != 0
