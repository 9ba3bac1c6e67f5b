"""What evaluation needs from a detector, and what it gets: every box with its score, and presence by phrase.

Owns the protocol that our grounder and its peers share, and what our grounder answers. Knows no model;
adapters of others live in benchmarks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from ..types import MedicalImage, Regions


@dataclass(frozen=True)
class Threshold:
    """What a detector shows by default.

    Attributes:
        score: phrase -> score from which on its boxes are shown.
        presence: presence below which none of a phrase's boxes is shown.
    """

    score: Callable[[str], float]
    presence: float = 0.0


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

    def least(self, threshold: Threshold) -> npt.NDArray[np.float32]:
        """(P,) score from which on a phrase's boxes are shown; infinite where its presence is too low."""
        least = np.array([threshold.score(phrase) for phrase in self.regions.asked], dtype=np.float32)
        least[self.presence < np.float32(threshold.presence)] = np.inf
        return least

    def shown(self, threshold: Threshold) -> npt.NDArray[np.bool_]:
        """(N,) whether each box is shown at a threshold."""
        return np.asarray(self.regions.scores >= self.least(threshold)[self.regions.phrase_index])

    def claimed(self, threshold: Threshold) -> npt.NDArray[np.bool_]:
        """(P,) whether a phrase has a box that is shown at a threshold."""
        index = self.regions.phrase_index[self.shown(threshold)]
        return np.isin(np.arange(len(self.regions.asked)), index)

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
        threshold: what it shows by default.
    """

    name: str
    fingerprint: str
    threshold: Threshold

    def detect(
        self, images: Sequence[MedicalImage], phrases_per_image: Sequence[Sequence[str]]
    ) -> list[Detections]:
        """Answer each image for its own phrases; every box is kept, at most 100 an image."""
        ...


class AskedImage(Protocol):
    """One image that was asked for phrases; `grounding.predictor.GroundedImage` is one."""

    def ground(
        self, phrases: Sequence[str], *, box_threshold: float | None = None, nms_iou: float | None = None
    ) -> Regions:
        """Return the regions of `phrases`."""
        ...

    def presence(self, phrases: Sequence[str]) -> npt.NDArray[np.float32]:
        """Return the presence (P,) of `phrases`."""
        ...


class AskedGrounder(Protocol):
    """What evaluation needs from our grounder; `grounding.Grounder` has it."""

    def ask_batch(
        self, images: Sequence[MedicalImage], phrases_per_image: Sequence[Sequence[str]]
    ) -> Iterable[AskedImage]:
        """Ask each image for its own phrases."""
        ...


def detect(
    grounder: AskedGrounder, images: Sequence[MedicalImage], phrases_per_image: Sequence[Sequence[str]]
) -> list[Detections]:
    """Our grounder's answers to images, each asked for its own phrases."""
    asked = grounder.ask_batch(images, phrases_per_image)
    return [answer_of(image, phrases) for image, phrases in zip(asked, phrases_per_image, strict=True)]


def answer_of(image: AskedImage, phrases: Sequence[str], nms_iou: float | None = None) -> Detections:
    """Every box above the grounder's low floor, at most 100, and its own presence.

    Args:
        image: asked for the phrases.
        phrases: what is looked for.
        nms_iou: IoU above which a box repeats a surer one of its phrase; None = the calibration's.
    """
    return Detections(image.ground(phrases, box_threshold=0.0, nms_iou=nms_iou), image.presence(phrases))
