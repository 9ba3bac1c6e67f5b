"""Sizes of structures and the distance between two, from their boxes. Geometry only; finds nothing itself."""

from __future__ import annotations

import math
from dataclasses import dataclass

from grounding.types import MedicalImage, Regions

from .citations import cite
from .describe import Measurement, Scale, Unit, inside_picture, measure_box, sentences
from .request import RequestError


@dataclass(frozen=True)
class Distance:
    """How far two boxes lie apart.

    Attributes:
        first: index (0-based) of the first region.
        second: index (0-based) of the second region.
        centres: between the centres of the boxes, in `unit`.
        gap: between their nearest edges, in `unit`; 0 where they touch or overlap.
        unit: "mm" or "px", see `describe.Scale`.
        at_detector: see `describe.Scale`.
    """

    first: int
    second: int
    centres: float
    gap: float
    unit: Unit
    at_detector: bool = False

    def __str__(self) -> str:
        """Write it out with its unit and, where needed, its caveat."""
        where = " at the detector" if self.at_detector else ""
        return (
            f"{self.centres:.0f} {self.unit}{where} between centres, {self.gap:.0f} {self.unit} between edges"
        )


@dataclass(frozen=True, eq=False)
class Measurements:
    """Sizes, and perhaps a distance.

    Attributes:
        regions: what was measured, boxes xyxy in pixels of the image.
        sizes: of each region's box.
        distance: between the surest regions of two structures; None where not asked, or one is not found.
        scale: what a pixel is worth.
    """

    regions: Regions
    sizes: tuple[Measurement, ...]
    distance: Distance | None
    scale: Scale

    @property
    def text(self) -> str:
        """One line a region, then the distance, what is missing, and the caveat."""
        lines = [f"{r.phrase} {cite([r.index])}: {s}" for r, s in zip(self.regions, self.sizes, strict=True)]
        if self.distance is not None:
            first, second = self.distance.first, self.distance.second
            lines.append(f"From {cite([first])} to {cite([second])}: {self.distance}")
        caveat = self.scale.caveat if self.sizes else ""
        return sentences(*lines, not_found_line(self.regions), caveat)


def measure_regions(image: MedicalImage, regions: Regions, *, distance: bool = False) -> Measurements:
    """Measure the boxes of `regions`.

    Args:
        image: the picture; its spacing gives mm.
        regions: found in it.
        distance: also between the surest region of the one phrase asked and that of the other.

    Raises:
        RequestError: a distance is wanted, and not exactly two phrases were asked.
    """
    if distance and len(regions.asked) != 2:
        named = ", ".join(regions.asked) or "none"
        raise RequestError(f"expected two structures for a distance, got {named}: name exactly two")
    sizes = tuple(measure_box(region.box, image) for region in regions)
    between = _between(image, regions) if distance and not regions.missing else None
    return Measurements(regions, sizes, between, Scale.of(image))


def not_found_line(regions: Regions) -> str:
    """Return what was asked for and not found as a line; empty where all was found."""
    return f"Not found: {', '.join(regions.missing)}." if regions.missing else ""


def _between(image: MedicalImage, regions: Regions) -> Distance:
    surest = regions.scores.argsort(kind="stable")[::-1].tolist()
    first, second = (next(i for i in surest if regions.phrases[i] == phrase) for phrase in regions.asked)
    a, b = (inside_picture(regions.boxes[i], image) for i in (first, second))
    scale = Scale.of(image)
    centre = (a[:2] + a[2:] - b[:2] - b[2:]) / 2
    apart = (max(0.0, float(b[axis] - a[axis + 2]), float(a[axis] - b[axis + 2])) for axis in (0, 1))
    return Distance(
        first,
        second,
        math.hypot(float(centre[0]) * scale.col, float(centre[1]) * scale.row),
        math.hypot(*(gap * mm for gap, mm in zip(apart, (scale.col, scale.row), strict=True))),
        scale.unit,
        scale.at_detector,
    )
