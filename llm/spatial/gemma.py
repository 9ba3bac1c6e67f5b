"""Boxes as Gemma 3 and MedGemma write them."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from grounding.types import MedicalImage

from .grid import Grid
from .json_boxes import JsonBoxes
from .placement import padded_square, stretched


@dataclass(frozen=True)
class GemmaBoxes(JsonBoxes):
    """``{"box_2d": [y1, x1, y2, x2], "label": "heart"}``, 0 to 1000 relative to the image, y first.

    Sources: the instruction of MedGemma 1.5's localisation example, as its users repeat it ("[y0, x0, y1,
    x1]", "normalize the x and y coordinates the range [0, 1000]", a fenced list), with the image padded to a
    square first. Gemma 3's documentation names no box format; Google's answer in the model's forum points
    to Gemini's, which is the same. Transformers' ``image_processing_gemma3.py`` resizes to a square without
    padding (pan and scan is off by default), so that the numbers are relative to the image as it is given.

    Attributes:
        padded: True where the model sees the image padded to a square (`pad_to_square`), as MedGemma's
            localisation was trained; the numbers are then relative to that square.
    """

    padded: bool = False
    key = "box_2d"
    y_first = True

    @property
    def legend(self) -> str:
        """The convention in words."""
        return "box_2d is [y1, x1, y2, x2], 0 to 1000 of the height or width"

    def grid(self, image_size: tuple[int, int]) -> Grid:
        """A lattice over the image, or over the square it is padded to."""
        placement = padded_square(image_size) if self.padded else stretched(image_size, image_size)
        return Grid(placement, (1000, 1000))


def pad_to_square(image: MedicalImage) -> MedicalImage:
    """The image centred on a black square of its longer side, where `GemmaBoxes(padded=True)` counts."""
    placement = padded_square(image.size)
    x1, y1, x2, y2 = map(int, placement.target)
    pixels = np.zeros((*placement.canvas_size, 3), dtype=np.uint8)
    pixels[y1:y2, x1:x2] = image.pixels
    return replace(image, pixels=pixels, source_id="")
