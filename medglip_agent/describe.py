"""Words for regions: where in the picture, how large. Plain geometry, no model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from grounding.boxes import clip_boxes
from grounding.ontology import Ontology
from grounding.types import GroundedRegion, MedicalImage


@dataclass(frozen=True)
class Measurement:
    """The size of a region's box.

    Attributes:
        width: horizontal extent, in `unit`.
        height: vertical extent, in `unit`.
        unit: "mm" where the image's pixel spacing is known, else "px" (pixels of the original image).
        at_detector: the spacing is that of the X-ray detector, so the structure itself is smaller.
    """

    width: float
    height: float
    unit: Literal["mm", "px"]
    at_detector: bool = False

    def __str__(self) -> str:
        """Write it out with its unit and, where needed, its caveat."""
        text = f"{self.width:.0f} x {self.height:.0f} {self.unit}"
        return f"{text} at the detector" if self.at_detector else text


def measure_region(region: GroundedRegion, image: MedicalImage) -> Measurement:
    """Return the width and height of the region's box (xyxy pixels of `image`)."""
    x1, y1, x2, y2 = _inside(region, image)
    if image.spacing is None:
        return Measurement(x2 - x1, y2 - y1, "px")
    width, height = (x2 - x1) * image.spacing.col_mm, (y2 - y1) * image.spacing.row_mm
    return Measurement(width, height, "mm", at_detector=image.spacing.kind == "detector")


def place(region: GroundedRegion, image: MedicalImage) -> str:
    """Return the third of the picture that the box's centre lies in, e.g. "upper left", "centre"."""
    x1, y1, x2, y2 = _inside(region, image)
    column = _third((x1 + x2) / 2 / image.width, ("left", "", "right"))
    row = _third((y1 + y2) / 2 / image.height, ("upper", "", "lower"))
    return " ".join(part for part in (row, column) if part) or "centre"


def area_percent(region: GroundedRegion, image: MedicalImage) -> float:
    """Return the box's share of the picture in percent."""
    x1, y1, x2, y2 = _inside(region, image)
    return 100.0 * (x2 - x1) * (y2 - y1) / (image.width * image.height)


def describe_region(region: GroundedRegion, image: MedicalImage) -> str:
    """Return one sentence: label, place in the picture, size. Sides of the place are the picture's."""
    known = region.phrase in Ontology.load().names
    lesion = known and Ontology.load().label(region.phrase).granularity == "lesion"
    verb = "is suspected" if lesion else "is seen"
    subject = sentence_case(region.phrase)
    size = f"{measure_region(region, image)}, {area_percent(region, image):.0f} % of the picture"
    return f"{subject} {verb} in the {place(region, image)} of the picture ({size})."


def sentence_case(phrase: str) -> str:
    """Return `phrase` with a capital first letter, the rest as it stands."""
    return phrase[:1].upper() + phrase[1:]


def _inside(region: GroundedRegion, image: MedicalImage) -> tuple[float, float, float, float]:
    """Return the part of the box inside the picture: x1, y1, x2, y2 in pixels."""
    x1, y1, x2, y2 = clip_boxes(region.box[None], image.size)[0].tolist()
    return x1, y1, x2, y2


def _third(fraction: float, names: tuple[str, str, str]) -> str:
    return names[min(2, max(0, int(fraction * 3)))]
