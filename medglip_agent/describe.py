"""Words for boxes: where in the picture, how large. Plain geometry, no model.

Boxes are (4,) float32 xyxy in pixels of the original image; what reaches past its edges is not counted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
import numpy.typing as npt

from grounding.boxes import clip_boxes
from grounding.ontology import Ontology
from grounding.types import GroundedRegion, MedicalImage

from .request import Box, RequestError

Unit = Literal["mm", "px"]

_NAMED: Final = 3


@dataclass(frozen=True)
class Scale:
    """What a pixel of an image is worth.

    Attributes:
        col: distance between columns, in `unit`.
        row: distance between rows, in `unit`.
        unit: "mm" where the image's pixel spacing is known, else "px" (pixels of the original image).
        at_detector: the spacing is that of the X-ray detector, so the structures themselves are smaller.
    """

    col: float
    row: float
    unit: Unit
    at_detector: bool = False

    @classmethod
    def of(cls, image: MedicalImage) -> Scale:
        """Return the scale of `image`."""
        if image.spacing is None:
            return cls(1.0, 1.0, "px")
        spacing = image.spacing
        return cls(spacing.col_mm, spacing.row_mm, "mm", at_detector=spacing.kind == "detector")

    @property
    def caveat(self) -> str:
        """What must be said beside a size; empty where it is a size in the patient."""
        if self.unit == "px":
            return "The pixel spacing of this image is unknown: sizes are in pixels."
        if self.at_detector:
            return "The spacing is that of the X-ray detector: the structures themselves are smaller."
        return ""


@dataclass(frozen=True)
class Measurement:
    """The size of a box.

    Attributes:
        width: horizontal extent, in `unit`.
        height: vertical extent, in `unit`.
        unit: see `Scale`.
        at_detector: see `Scale`.
    """

    width: float
    height: float
    unit: Unit
    at_detector: bool = False

    def __str__(self) -> str:
        """Write it out with its unit and, where needed, its caveat."""
        text = f"{self.width:.0f} x {self.height:.0f} {self.unit}"
        return f"{text} at the detector" if self.at_detector else text


def check_box(box: npt.ArrayLike, image: MedicalImage) -> Box:
    """Return a box that somebody drew or named as (4,) float32 xyxy, the part inside the picture.

    Raises:
        RequestError: it is no such box, or lies outside the picture; the message tells the frame.
    """
    given = np.asarray(box, dtype=np.float32)
    if given.shape == (4,) and np.isfinite(given).all():
        inside = inside_picture(given, image)
        if (given[:2] < given[2:]).all() and (inside[:2] < inside[2:]).all():
            return inside
    raise RequestError(
        f"expected a box [x1, y1, x2, y2] in pixels of the original image, x1 < x2 within 0..{image.width} "
        f"and y1 < y2 within 0..{image.height}, got {given.tolist()}"
    )


def inside_picture(box: Box, image: MedicalImage) -> Box:
    """Return the part of the box inside the picture."""
    return np.asarray(clip_boxes(box[None], image.size)[0], dtype=np.float32)


def measure_box(box: Box, image: MedicalImage) -> Measurement:
    """Return the width and height of a box."""
    x1, y1, x2, y2 = inside_picture(box, image).tolist()
    scale = Scale.of(image)
    width, height = (x2 - x1) * scale.col, (y2 - y1) * scale.row
    return Measurement(width, height, scale.unit, scale.at_detector)


def place(box: Box, image: MedicalImage) -> str:
    """Return the third of the picture that the box's centre lies in, e.g. "upper left", "centre"."""
    x1, y1, x2, y2 = inside_picture(box, image).tolist()
    column = _third((x1 + x2) / 2 / image.width, ("left", "", "right"))
    row = _third((y1 + y2) / 2 / image.height, ("upper", "", "lower"))
    return " ".join(part for part in (row, column) if part) or "centre"


def area_percent(box: Box, image: MedicalImage) -> float:
    """Return the box's share of the picture in percent."""
    x1, y1, x2, y2 = inside_picture(box, image).tolist()
    return float(100.0 * (x2 - x1) * (y2 - y1) / (image.width * image.height))


def place_and_size(box: Box, image: MedicalImage) -> str:
    """Return e.g. "in the upper left of the picture (20 x 80 mm, 7 % of the picture)"."""
    size = f"{measure_box(box, image)}, {area_percent(box, image):.0f} % of the picture"
    return f"in the {place(box, image)} of the picture ({size})"


def describe_region(region: GroundedRegion, image: MedicalImage) -> str:
    """Return one sentence: label, place in the picture, size. Sides of the place are the picture's."""
    known = region.phrase in Ontology.load().names
    lesion = known and Ontology.load().label(region.phrase).granularity == "lesion"
    verb = "is suspected" if lesion else "is seen"
    return f"{sentence_case(region.phrase)} {verb} {place_and_size(region.box, image)}."


def name_few(names: Sequence[str]) -> str:
    """Name the first of many: "a, b, c and 5 more"."""
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more


def sentence_case(phrase: str) -> str:
    """Return `phrase` with a capital first letter, the rest as it stands."""
    return phrase[:1].upper() + phrase[1:]


def sentences(*parts: str) -> str:
    """Join the parts that say something, one a line."""
    return "\n".join(part for part in parts if part)


def _third(fraction: float, names: tuple[str, str, str]) -> str:
    return names[min(2, max(0, int(fraction * 3)))]
