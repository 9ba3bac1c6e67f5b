"""An image with its true boxes, and what follows from boxes alone: places, sides, sizes, counts.

Each fact has a doubtful form: where moving the edges by as much as writing them in spatial tokens moves them
could change it, it is None. So whatever is said here can be read from the boxes in a prompt too. Knows no
question and no file.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from grounding.boxes import clip_boxes
from grounding.types import Regions

from ..spatial import position
from .reports import patient_hash

MARGIN: Final = 0.01
"""A bin of the coarsest own tokens, as a fraction of the picture's side; edges are off by half of it."""
AREA_RATIO: Final = 1.2
"""Areas nearer than this are not called larger or smaller."""
APART: Final = 0.05
"""Centres nearer than this, as a fraction of the picture's side, have no order."""


class AnnotatedImage(Protocol):
    """One image of an `AnnotatedSet`; `grounding.data.coco.Sample` has these."""

    @property
    def image_path(self) -> Path:
        """The picture."""
        ...

    @property
    def size(self) -> tuple[int, int]:
        """(height, width)."""
        ...

    @property
    def boxes(self) -> NDArray[Any]:
        """(n, 4) xyxy pixels."""
        ...

    @property
    def labels(self) -> NDArray[Any]:
        """(n,) index into the set's labels."""
        ...

    @property
    def group(self) -> str:
        """What images of one patient share."""
        ...


class AnnotatedSet(Protocol):
    """A set whose images are annotated for all its labels; `grounding.data.coco.CocoSet` is one."""

    @property
    def name(self) -> str:
        """The set's name."""
        ...

    @property
    def labels(self) -> tuple[str, ...]:
        """The phrases that are annotated."""
        ...

    @property
    def samples(self) -> Sequence[AnnotatedImage]:
        """The images."""
        ...


@dataclass(frozen=True, eq=False)
class BoxedImage:
    """An image with its true boxes.

    Attributes:
        image_path: The picture.
        size: (height, width) in pixels.
        boxes: float32 (n, 4) xyxy pixels.
        phrases: The phrase of each box, (n,).
        annotated: Every phrase that the image was annotated for; one without a box is truly absent.
        source: Name of the set.
        group: Hash that the images of one patient share.
    """

    image_path: Path
    size: tuple[int, int]
    boxes: NDArray[np.float32]
    phrases: tuple[str, ...]
    annotated: tuple[str, ...]
    source: str
    group: str

    @property
    def key(self) -> str:
        """A name of the image that tells nothing of its file, whose name may hold a patient's number."""
        return patient_hash(self.source, self.image_path.name)

    @cached_property
    def relative(self) -> NDArray[np.float64]:
        """The boxes (n, 4) xyxy inside the picture, as fractions of its width and height."""
        height, width = self.size
        inside = np.asarray(clip_boxes(self.boxes, self.size), dtype=np.float64)
        return inside / np.array([width, height, width, height], dtype=np.float64)

    def of(self, phrase: str) -> NDArray[np.float64]:
        """The relative boxes (m, 4) of one phrase."""
        return self.relative[[own == phrase for own in self.phrases]]

    def regions(self, phrases: Sequence[str]) -> Regions:
        """The true regions of some phrases, in their order, each with score 1."""
        order = [k for phrase in phrases for k, own in enumerate(self.phrases) if own == phrase]
        return Regions(
            boxes=self.boxes[order],
            scores=np.ones(len(order), dtype=np.float32),
            phrase_index=np.array([list(phrases).index(self.phrases[k]) for k in order], dtype=np.int64),
            asked=tuple(phrases),
            image_size=self.size,
        )


def boxed_images(annotated: AnnotatedSet) -> tuple[BoxedImage, ...]:
    """The images of a set; the names of its patients and groups are hashed."""
    return tuple(
        BoxedImage(
            sample.image_path,
            sample.size,
            np.asarray(sample.boxes, dtype=np.float32).reshape(-1, 4),
            tuple(annotated.labels[index] for index in sample.labels),
            annotated.labels,
            annotated.name,
            patient_hash(annotated.name, sample.group),
        )
        for sample in annotated.samples
    )


def half(box: NDArray[np.float64], axis: int) -> str | None:
    """The half of the picture that a relative box's centre lies in.

    Args:
        box: (4,) xyxy, fractions of the picture.
        axis: 0 for left and right, 1 for upper and lower.

    Returns:
        None where the centre is within `MARGIN` of the middle.
    """
    if abs(_centre(box, axis) - 0.5) <= MARGIN:
        return None
    return position.halves(box, (1, 1))[axis]


def ninth(box: NDArray[np.float64]) -> str | None:
    """The ninth of the picture that a relative box's centre lies in, such as "upper left", "right", "centre".

    None where the centre is within `MARGIN` of a border between ninths.
    """
    column, row = _centre(box, 0), _centre(box, 1)
    if min(abs(value - border) for value in (column, row) for border in (1 / 3, 2 / 3)) <= MARGIN:
        return None
    return position.ninth(box, (1, 1))


def larger(first: NDArray[np.float64], second: NDArray[np.float64]) -> bool | None:
    """Whether the first of two relative boxes has the larger area; None where that is not certain."""
    areas = [float(np.prod(_sides(box))) for box in (first, second)]
    big, small = (first, second) if areas[0] > areas[1] else (second, first)
    surely = np.prod(np.maximum(_sides(big) - MARGIN, 0)) > np.prod(_sides(small) + MARGIN)
    if not surely or max(areas) < AREA_RATIO * min(areas):
        return None
    return areas[0] > areas[1]


def before(first: NDArray[np.float64], second: NDArray[np.float64], axis: int) -> bool | None:
    """Whether the first box's centre lies left of (axis 0) or above (axis 1) the second's; None in doubt."""
    distance = _centre(second, axis) - _centre(first, axis)
    return None if abs(distance) <= APART else distance > 0


def _centre(box: NDArray[np.float64], axis: int) -> float:
    return float(box[axis] + box[axis + 2]) / 2


def _sides(box: NDArray[np.float64]) -> NDArray[np.float64]:
    return box[2:] - box[:2]
