"""Areas of segmented regions. Counts pixels of masks; draws none."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from grounding.types import MedicalImage, Regions

from .citations import cite
from .describe import Scale, sentences
from .measure import not_found_line


@dataclass(frozen=True)
class MaskArea:
    """The area of a mask.

    Attributes:
        pixels: how many pixels of the original image it covers.
        area: in `unit`.
        unit: "mm2" where the image's pixel spacing is known, else "px".
        at_detector: the spacing is that of the X-ray detector, so the structure itself is smaller.
    """

    pixels: int
    area: float
    unit: Literal["mm2", "px"]
    at_detector: bool = False

    def __str__(self) -> str:
        """Write it out with its unit and, where needed, its caveat."""
        text = f"{self.area:.0f} {self.unit}"
        return f"{text} at the detector" if self.at_detector else text


@dataclass(frozen=True, eq=False)
class Segmentation:
    """Regions with masks.

    Attributes:
        regions: boxes xyxy and masks bool (N, H, W), of the original image.
        areas: of each region's mask.
        segmenter: who drew the masks, inside the grounder's boxes.
        scale: what a pixel is worth.
    """

    regions: Regions
    areas: tuple[MaskArea, ...]
    segmenter: str
    scale: Scale

    @property
    def text(self) -> str:
        """One line a region, then what is missing and the caveat."""
        lines = [f"{r.phrase} {cite([r.index])}: {a}" for r, a in zip(self.regions, self.areas, strict=True)]
        caveat = self.scale.caveat if self.areas else ""
        return sentences(*lines, not_found_line(self.regions), caveat)


def measure_masks(image: MedicalImage, regions: Regions, segmenter: str) -> Segmentation:
    """Measure the masks of `regions`.

    Raises:
        ValueError: the regions have no masks.
    """
    if regions.masks is None:
        raise ValueError("expected regions with masks, got boxes only: segment them first")
    scale = Scale.of(image)
    counts = (int(np.count_nonzero(mask)) for mask in regions.masks)
    unit: Literal["mm2", "px"] = "px" if scale.unit == "px" else "mm2"
    areas = tuple(MaskArea(n, n * scale.col * scale.row, unit, scale.at_detector) for n in counts)
    return Segmentation(regions, areas, segmenter, scale)
