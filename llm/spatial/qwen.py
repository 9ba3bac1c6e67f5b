"""Boxes as Qwen2.5-VL and Qwen3-VL write them: the same JSON, but other numbers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from .grid import Grid
from .json_boxes import JsonBoxes
from .placement import smart_resized, stretched


@dataclass(frozen=True)
class Qwen3Boxes(JsonBoxes):
    """``{"bbox_2d": [x1, y1, x2, y2], "label": "heart"}``, 0 to 1000 relative to width and height.

    Source: the 2d_grounding cookbook of QwenLM/Qwen3-VL ("relative coordinates ranging from 0 to 1000", drawn
    at ``x / 1000 * width``). The processor has no box code of its own. Qwen2-VL used this range, too.
    """

    key = "bbox_2d"
    y_first = False

    @property
    def legend(self) -> str:
        """The convention in words."""
        return "bbox_2d is [x1, y1, x2, y2], 0 to 1000 of the width or height"

    def grid(self, image_size: tuple[int, int]) -> Grid:
        """A lattice over the image itself."""
        return Grid(stretched(image_size, image_size), (1000, 1000))


@dataclass(frozen=True)
class Qwen25Boxes(JsonBoxes):
    """``{"bbox_2d": [x1, y1, x2, y2], "label": "heart"}`` in pixels of the image as the processor resized it.

    Source: the cookbook of Qwen2.5-VL draws at ``x / input_width * width``, where the input is the resized
    image; the resize is `smart_resize` in transformers' ``image_processing_qwen2_vl.py`` with the factor
    ``patch_size * merge_size``.

    Attributes:
        min_pixels: The fewest pixels of the resized image (the processor's ``size["shortest_edge"]``).
        max_pixels: The most (its ``size["longest_edge"]``).
        factor: Both sides become multiples of it.
    """

    min_pixels: int = 56 * 56
    max_pixels: int = 28 * 28 * 1280
    factor: int = 28
    key = "bbox_2d"
    y_first = False

    @classmethod
    def from_processor(cls, processor: Any) -> Qwen25Boxes:
        """Take the numbers of a loaded processor, which a checkpoint may have changed."""
        images = processor.image_processor
        return cls(
            int(images.size["shortest_edge"]),
            int(images.size["longest_edge"]),
            int(images.patch_size) * int(images.merge_size),
        )

    @property
    def legend(self) -> str:
        """The convention in words."""
        return "bbox_2d is [x1, y1, x2, y2] in pixels of the image as you see it"

    def grid(self, image_size: tuple[int, int]) -> Grid:
        """The pixel edges of the resized image.

        Raises:
            ValueError: The longer side is more than 200 times the shorter, which the processor refuses.
        """
        resized = smart_resized(
            image_size, factor=self.factor, min_pixels=self.min_pixels, max_pixels=self.max_pixels
        )
        height, width = resized.canvas_size
        return Grid(resized, (width, height))
