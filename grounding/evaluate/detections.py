"""What evaluation needs from a detector, and what it gets: every box with its score, and presence by phrase.

Owns the protocol that our grounder and its peers share. Knows no model; adapters live in benchmarks.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from ..types import MedicalImage, Regions

Threshold = Callable[[str], float]
"""Phrase -> the score from which on its boxes are shown."""


@dataclass(frozen=True, eq=False)
class Detections:
    """A detector's answer for one image.

    Attributes:
        regions: every box with its score, none cut by a threshold; `asked` holds the P phrases.
        presence: float32 (P,) in [0, 1], how sure the detector is that each phrase is in the image at all.

    Raises:
        ValueError: `presence` has another length than `regions.asked`.
    """

    regions: Regions
    presence: npt.NDArray[np.float32]

    def __post_init__(self) -> None:
        """Check that every phrase has a presence."""
        if self.presence.shape != (len(self.regions.asked),):
            raise ValueError(
                f"expected one presence a phrase ({len(self.regions.asked)}), got {self.presence.shape}"
            )

    @classmethod
    def by_best_box(cls, regions: Regions) -> Detections:
        """Take each phrase's greatest box score as its presence; 0 where it has no box."""
        presence = np.zeros(len(regions.asked), dtype=np.float32)
        np.maximum.at(presence, regions.phrase_index, regions.scores)
        return cls(regions, presence)

    def claimed(self, threshold: Threshold) -> npt.NDArray[np.bool_]:
        """(P,) whether a phrase has a box that is shown, that is, with at least its threshold's score."""
        best = Detections.by_best_box(self.regions).presence
        least = np.array([threshold(phrase) for phrase in self.regions.asked], dtype=np.float64)
        found = np.isin(np.arange(len(best)), self.regions.phrase_index)
        return np.asarray(found & (best >= least), dtype=np.bool_)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types, read back exactly by `from_dict`."""
        return {"regions": self.regions.to_dict(), "presence": self.presence.tolist()}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Detections:
        """Read what `to_dict` wrote."""
        return cls(Regions.from_dict(data["regions"]), np.array(data["presence"], dtype=np.float32))


class Detector(Protocol):
    """Anything that boxes phrases in images.

    Attributes:
        name: what a table calls it.
        fingerprint: changes whenever its answers may; cached detections are kept under it.
    """

    name: str
    fingerprint: str

    def threshold(self, phrase: str) -> float:
        """The score from which on the detector shows boxes of a phrase by default."""
        ...

    def detect(
        self, images: Sequence[MedicalImage], phrases_per_image: Sequence[Sequence[str]]
    ) -> list[Detections]:
        """Answer each image for its own phrases; every box is kept, at most 100 an image."""
        ...
