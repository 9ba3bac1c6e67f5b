"""Where a picture lies on the canvas that a model sees: resized, padded, cropped. Exact in both directions.

Boxes are xyxy, sizes (height, width), everything in pixels. Nothing here touches pixel values.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Rect = tuple[float, float, float, float]

_MAX_ASPECT = 200  # Qwen's processors refuse longer images


@dataclass(frozen=True)
class Placement:
    """A rectangle of the original image that fills a rectangle of the canvas.

    Attributes:
        canvas_size: (height, width) of the canvas.
        source: xyxy in the original image.
        target: xyxy on the canvas.
    """

    canvas_size: tuple[int, int]
    source: Rect
    target: Rect

    def to_canvas(self, box: ArrayLike) -> NDArray[np.float64]:
        """Map xyxy boxes (..., 4) of the original image to the canvas; not clipped."""
        return _map(box, self.source, self.target)

    def to_image(self, box: ArrayLike) -> NDArray[np.float64]:
        """Map xyxy boxes (..., 4) of the canvas to the original image; not clipped."""
        return _map(box, self.target, self.source)

    @property
    def scale(self) -> tuple[float, float]:
        """Canvas pixels per image pixel along (x, y)."""
        s, t = self.source, self.target
        return (t[2] - t[0]) / (s[2] - s[0]), (t[3] - t[1]) / (s[3] - s[1])

    def valid_mask(self) -> NDArray[np.bool_]:
        """A bool (height, width) of the canvas, True where the middle of a pixel shows the image."""
        height, width = self.canvas_size
        x, y = np.arange(width) + 0.5, np.arange(height) + 0.5
        x1, y1, x2, y2 = self.target
        return ((y >= y1) & (y < y2))[:, None] & ((x >= x1) & (x < x2))[None, :]


def stretched(image_size: tuple[int, int], canvas_size: tuple[int, int]) -> Placement:
    """The whole image fills the whole canvas; its aspect is not kept."""
    return Placement(canvas_size, whole(image_size), whole(canvas_size))


def padded_square(image_size: tuple[int, int]) -> Placement:
    """The image centred on a square of its longer side, as MedGemma's localisation example pads it.

    Where the rest is odd, the larger part of the padding is at the bottom or the right.
    """
    height, width = image_size
    side = max(height, width)
    left, top = (side - width) // 2, (side - height) // 2
    return Placement((side, side), whole(image_size), (left, top, left + width, top + height))


def fitted(source: Rect, canvas_size: tuple[int, int]) -> Placement:
    """A part of the image as large as the canvas allows, its aspect kept, centred, in whole pixels."""
    height, width = canvas_size
    x1, y1, x2, y2 = source
    scale = min(width / (x2 - x1), height / (y2 - y1))
    new_width = min(width, max(1, round((x2 - x1) * scale)))
    new_height = min(height, max(1, round((y2 - y1) * scale)))
    left, top = (width - new_width) // 2, (height - new_height) // 2
    return Placement(canvas_size, source, (left, top, left + new_width, top + new_height))


def smart_resized(image_size: tuple[int, int], *, factor: int, min_pixels: int, max_pixels: int) -> Placement:
    """The image as Qwen2-VL, Qwen2.5-VL and Qwen3-VL resize it (`smart_resize` of their image processor).

    Both sides become multiples of `factor`; the aspect is kept as far as that and the number of pixels allow.

    Raises:
        ValueError: The longer side is more than 200 times the shorter, which those processors refuse.
    """
    height, width = image_size
    if max(height, width) > _MAX_ASPECT * min(height, width):
        raise ValueError(
            f"Qwen's processors take sides of at most {_MAX_ASPECT} to 1, got (height, width) {image_size};"
            " pad or crop the image first"
        )
    sides = [round(side / factor) * factor for side in image_size]
    if sides[0] * sides[1] > max_pixels:
        shrink = math.sqrt(height * width / max_pixels)
        sides = [max(factor, math.floor(side / shrink / factor) * factor) for side in image_size]
    elif sides[0] * sides[1] < min_pixels:
        grow = math.sqrt(min_pixels / (height * width))
        sides = [math.ceil(side * grow / factor) * factor for side in image_size]
    return stretched(image_size, (sides[0], sides[1]))


def whole(size: tuple[int, int]) -> Rect:
    """The rectangle xyxy of a whole picture of (height, width) `size`.

    Raises:
        ValueError: A side is not positive.
    """
    height, width = size
    if height <= 0 or width <= 0:
        raise ValueError(f"image_size must be (height, width) in pixels, both positive, got {size}")
    return (0.0, 0.0, float(width), float(height))


def _map(box: ArrayLike, source: Rect, target: Rect) -> NDArray[np.float64]:
    """The affine map that takes the rectangle `source` to `target`, applied to xyxy boxes (..., 4)."""
    s, t = np.array(source), np.array(target)
    scale = np.tile((t[2:] - t[:2]) / (s[2:] - s[:2]), 2)
    shifted = np.asarray(box, dtype=np.float64) - np.tile(s[:2], 2)
    mapped: NDArray[np.float64] = shifted * scale + np.tile(t[:2], 2)
    return mapped
