"""The words that pages for people share: of the picture, a region, the answer. Plain text, unescaped."""

from __future__ import annotations

from typing import Final

from grounding.types import MODALITIES, GroundedRegion, MedicalImage
from llm.types import Answer, Report

from ..confidence import confidence_text
from .result import Result

UNGROUNDED: Final = "not grounded"
COORDINATES: Final = (
    "Boxes are x1, y1, x2, y2 in pixels of the original image; the origin is its top-left corner."
)


def image_facts(image: MedicalImage) -> list[str]:
    """Return size, kind, spacing and sides of the picture, and the start of its hash."""
    facts = [f"{image.width} x {image.height} px"]
    facts.append(MODALITIES.get(image.modality, image.modality) if image.modality else "kind not known")
    if image.spacing is not None:
        where = " at the detector" if image.spacing.kind == "detector" else ""
        facts.append(f"{image.spacing.col_mm:.3g} x {image.spacing.row_mm:.3g} mm a pixel{where}")
    if image.orientation is None:
        facts.append("left and right as in the picture")
    else:
        facts.append(f"columns run towards {image.orientation[0]}, rows towards {image.orientation[1]}")
    return [*facts, f"pixels sha256 {image.source_id[:16]}"]


def box_text(region: GroundedRegion) -> str:
    """Return "x1, y1, x2, y2" in pixels."""
    return ", ".join(f"{float(value):.1f}" for value in region.box)


def extent_text(region: GroundedRegion, image: MedicalImage) -> str:
    """Return width x height in pixels, and in mm where the spacing is known."""
    width, height = (float(region.box[i + 2] - region.box[i]) for i in (0, 1))
    pixels = f"{width:.0f} x {height:.0f} px"
    if image.spacing is None:
        return pixels
    where = " at the detector" if image.spacing.kind == "detector" else ""
    return f"{pixels}, {width * image.spacing.col_mm:.1f} x {height * image.spacing.row_mm:.1f} mm{where}"


def remarks(result: Result) -> list[str]:
    """Return what qualifies the content: confidence, the reason of an abstention, the impression."""
    content = result.content
    if isinstance(content, Report):
        return [f"Impression: {content.impression}"]
    if not isinstance(content, Answer):
        return []
    found = []
    if content.confidence is not None:
        found = [f"Confidence {confidence_text(content.confidence, calibrated=content.calibrated)}."]
    reason = "" if content.reason in content.text else content.reason
    if content.abstained:
        return [*found, f"Not answered: {reason}" if reason else "Not answered."]
    return [*found, reason] if reason else found
