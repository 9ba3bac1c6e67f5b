"""What must not be in two splits: patients, pictures, image ids. Keeps a few numbers an image.

Owns the comparison between rows; what a perceptual hash is, `perceptual_hash.py` knows.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np

from ..engine.perceptual_hash import first_seen
from ..schema import SPLITS
from .faults import Fault

NEAR_BITS: Final = 2
"""Bits of 64 in which the perceptual hashes of two encodings of a picture differ at most."""


class LeakFinder:
    """Takes rows one at a time, then tells what is in two splits."""

    def __init__(self) -> None:
        """Start with no rows."""
        self._ids: list[str] = []
        self._splits: list[int] = []
        self._hashes: list[int] = []
        self._patients: dict[str, tuple[str, str]] = {}  # patient -> the first split and image
        self._faults: list[Fault] = []
        self._seen: set[str] = set()
        self._leaked: set[tuple[str, str]] = set()

    def add(self, row: Mapping[str, Any]) -> None:
        """Take one native row."""
        image_id, split, patient = row["image_id"], row["split"], row["patient"]
        if image_id in self._seen:
            what = "two rows have this image id"
            self._faults.append(Fault("error", "image twice", image_id, what, "is a source listed twice?"))
        self._seen.add(image_id)
        if patient:
            first_split, first_image = self._patients.setdefault(patient, (split, image_id))
            if first_split != split and (patient, split) not in self._leaked:
                self._leaked.add((patient, split))
                what = f"patient {patient[:12]} is in {split} and, with {first_image}, in {first_split}"
                self._faults.append(Fault("error", "patient leak", image_id, what, "split by patient"))
        if row["perceptual_hash"] and split in SPLITS:
            self._ids.append(image_id)
            self._splits.append(SPLITS.index(split))
            self._hashes.append(int(row["perceptual_hash"], 16))

    def find(self) -> list[Fault]:
        """The faults of all rows taken so far; a picture that looks like several names one of them."""
        hashes = np.asarray(self._hashes, dtype=np.uint64)
        splits = np.asarray(self._splits, dtype=np.int64)
        train_first = np.argsort(splits, kind="stable")
        alike: dict[int, int] = {}
        # `first_seen` compares with those that stay, so both ways: a repeat within one split hides the next
        for order in (train_first, train_first[::-1]):
            for pair in zip(
                order.tolist(), order[first_seen(hashes[order], NEAR_BITS)].tolist(), strict=True
            ):
                other, index = sorted(pair, key=self._splits.__getitem__)
                if self._splits[index] != self._splits[other]:
                    alike.setdefault(index, other)
        return [*self._faults, *(self._picture_fault(*pair) for pair in sorted(alike.items()))]

    def _picture_fault(self, index: int, other: int) -> Fault:
        bits = (self._hashes[index] ^ self._hashes[other]).bit_count()
        what = (
            f"looks like {self._ids[other]} in {SPLITS[self._splits[other]]} "
            f"({bits} of 64 bits of the perceptual hash differ)"
        )
        return Fault(
            "warning", "picture leak", self._ids[index], what, "look at both; keep them in one split"
        )
