"""A marked part of the picture: where it is, what known structures it overlaps, what the language model says.

Owns the geometry and the words; the regions and the model's reply are given.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from grounding.boxes import box_area
from grounding.types import MedicalImage, Regions

from .citations import cite, strip_citations
from .describe import Measurement, area_percent, measure_box, place, place_and_size, sentences
from .request import Box

MARKED: Final = "marked region"
"""What the marked box is called where a language model reads regions."""
QUESTION: Final = "What is shown in the marked region?"

_LEAST_SHARE: Final = 0.05  # less of either box is a touch, not an overlap


@dataclass(frozen=True)
class Overlap:
    """How a known structure and a marked box overlap.

    Attributes:
        region: index (0-based) of the structure in `MarkedRegion.regions`.
        of_box: share of the marked box that lies in the structure's box, in [0, 1].
        of_structure: share of the structure's box that lies in the marked box, in [0, 1].
    """

    region: int
    of_box: float
    of_structure: float


@dataclass(frozen=True, eq=False)
class MarkedRegion:
    """What is known about a marked box.

    Attributes:
        box: (4,) float32 xyxy, pixels of the image, inside it.
        place: third of the picture that its centre lies in; sides are the picture's.
        size: of the box.
        area_percent: its share of the picture, in percent.
        regions: the known structures that it overlaps, by falling share of the box.
        overlaps: one a region.
        answer: the language model's short answer, without citations; empty where there is no model.
        confidence: of the answer, None where there is none.
        image: the picture.
        calibrated: whether the confidence is a fitted probability.
    """

    box: Box
    place: str
    size: Measurement
    area_percent: float
    regions: Regions
    overlaps: tuple[Overlap, ...]
    answer: str
    confidence: float | None
    image: MedicalImage
    calibrated: bool = False

    @property
    def text(self) -> str:
        """Where it is, one line a structure, and what the language model says of it."""
        lines = [
            f"It holds {100 * o.of_structure:.0f} % of {self.regions.phrases[o.region]} {cite([o.region])}, "
            f"which covers {100 * o.of_box:.0f} % of it."
            for o in self.overlaps
        ]
        if not lines:
            lines = ["It overlaps no structure that was found."]
        unsure = "" if self.confidence is None else "The language model has no sure answer about it."
        said = f'The language model says of it: "{self.answer}"' if self.answer else unsure
        return sentences(f"The marked region lies {place_and_size(self.box, self.image)}.", *lines, said)


def describe_box(
    image: MedicalImage,
    box: Box,
    known: Regions,
    answer: str = "",
    confidence: float | None = None,
    *,
    calibrated: bool = False,
) -> MarkedRegion:
    """Put together what is known about `box`.

    Args:
        image: the picture.
        box: (4,) xyxy, pixels of `image`, inside it (see `describe.check_box`).
        known: the structures found in it.
        answer: what the language model says about the box; empty also where it is not sure enough.
        confidence: of that.
        calibrated: whether the confidence is a fitted probability.
    """
    overlaps = _overlaps(box, known)
    chosen = known[np.array([overlap.region for overlap in overlaps], dtype=np.int64)]
    numbered = tuple(Overlap(i, o.of_box, o.of_structure) for i, o in enumerate(overlaps))
    size, share = measure_box(box, image), area_percent(box, image)
    words = strip_citations(answer)
    return MarkedRegion(
        box, place(box, image), size, share, chosen, numbered, words, confidence, image, calibrated
    )


def with_marked(box: Box, known: Regions) -> Regions:
    """Return `known` with the marked box before them, as a language model is given it."""
    return Regions(
        np.concatenate([box[None], known.boxes]),
        np.concatenate([np.ones(1, dtype=np.float32), known.scores]),
        np.concatenate([np.zeros(1, dtype=np.int64), known.phrase_index + 1]),
        (MARKED, *known.asked),
        known.image_size,
    )


def _overlaps(box: Box, known: Regions) -> list[Overlap]:
    """The overlaps worth telling, by falling share of the box; `region` is the index in `known`."""
    top_left = np.maximum(known.boxes[:, :2], box[:2])
    sides = np.clip(np.minimum(known.boxes[:, 2:], box[2:]) - top_left, 0.0, None)
    shared = sides.prod(axis=1)
    of_box = shared / float(box_area(box[None])[0])
    of_structure = shared / np.maximum(box_area(known.boxes), 1e-6)
    order = np.argsort(-of_box, kind="stable").tolist()
    found = [Overlap(i, float(of_box[i]), float(of_structure[i])) for i in order]
    return [overlap for overlap in found if max(overlap.of_box, overlap.of_structure) >= _LEAST_SHARE]
