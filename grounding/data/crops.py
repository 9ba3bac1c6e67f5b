"""Parts of a picture and what they show of its boxes. Knows no files and no labels."""

from __future__ import annotations

import numpy as np

Crop = tuple[float, float, float, float]
"""xyxy, pixels of the picture."""

CLOSE_SIDES = (0.3, 0.65)  # of a close crop, as fractions of the picture's
CLOSE_TRIES = 20


def close_crop(
    boxes: np.ndarray, size: tuple[int, int], min_visible: float, beside: bool, rng: np.random.Generator
) -> Crop | None:
    """A small crop with a box of (n, 4) xyxy pixels, or beside all of them; None where none is found.

    Both kinds are equally close, so that closeness says nothing of what is there.

    Args:
        boxes: In the picture.
        size: (width, height) of the picture.
        min_visible: A box of which a smaller fraction is visible is not in the crop.
        beside: No part of any box is to be seen.
        rng: Draws crops.
    """
    for _ in range(CLOSE_TRIES):
        side = rng.uniform(*CLOSE_SIDES, size=2) * size
        left, top = rng.uniform(0, np.array(size) - side)
        crop = (left, top, left + side[0], top + side[1])
        most = visible(boxes, crop).max(initial=0.0)
        if most == 0 if beside else most >= min_visible:
            return crop
    return None


def crop_boxes(boxes: np.ndarray, crop: Crop, min_visible: float) -> tuple[np.ndarray, np.ndarray]:
    """Clip (n, 4) xyxy pixel boxes to an xyxy crop: those kept, in [0, 1] of the crop; bool (n,) kept."""
    left, top, right, bottom = crop
    low, high = np.array([left, top, left, top]), np.array([right, bottom, right, bottom])
    kept = visible(boxes, crop) >= min_visible
    scale = np.array([right - left, bottom - top] * 2)
    return ((np.clip(boxes, low, high)[kept] - low) / scale).astype(np.float32), kept


def visible(boxes: np.ndarray, crop: Crop) -> np.ndarray:
    """Share (n,) of the area of (n, 4) xyxy boxes that lies in an xyxy crop."""
    left, top, right, bottom = crop
    clipped = np.clip(boxes, [left, top, left, top], [right, bottom, right, bottom])
    area = np.maximum(np.prod(boxes[:, 2:] - boxes[:, :2], axis=1), 1e-6)
    return np.prod(clipped[:, 2:] - clipped[:, :2], axis=1) / area
