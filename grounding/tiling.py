"""Large images in overlapping windows: small things keep their pixels, boxes come back to the whole image.

Works with any grounder that has ``ground_batch``; knows no network. Resized to a network's input, a lesion of
20 pixels in an image of 4,000 has less than two left; in a window of 800 it has eight.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt

from .boxes import clip_boxes
from .nms import suppress
from .types import MedicalImage, Regions

Window = tuple[int, int, int, int]
"""x1, y1, x2, y2 in whole pixels of the image."""

EDGE = 1.0  # pixels; a box that ends this near an inner edge of its window is taken for cut


class BatchGrounder(Protocol):
    """What tiling and evaluation need from a grounder; `grounding.Grounder` has it."""

    def ground_batch(
        self,
        images: Sequence[MedicalImage],
        phrases_per_image: Sequence[Sequence[str]],
        *,
        box_threshold: float | None = None,
    ) -> list[Regions]:
        """Return one `Regions` an image, `asked` equal to that image's phrases."""
        ...


def windows(image_size: tuple[int, int], side: int, overlap: int) -> list[Window]:
    """Windows of ``side`` pixels that cover an image, evenly spread, row by row.

    Whatever has sides of at most ``overlap`` pixels lies in one of them whole. An axis shorter than ``side``
    has one window, of its own length.

    Args:
        image_size: (height, width).
        side: Pixels a window.
        overlap: Fewest pixels that neighbours share.

    Raises:
        ValueError: If the overlap is negative or not below the side.
    """
    if not 0 <= overlap < side:
        raise ValueError(f"expected 0 <= overlap < side, got overlap {overlap}, side {side}")
    height, width = image_size
    rows, columns = (_starts(length, side, overlap) for length in (height, width))
    return [(x, y, min(x + side, width), min(y + side, height)) for y in rows for x in columns]


def _starts(length: int, side: int, overlap: int) -> list[int]:
    if length <= side:
        return [0]
    steps = math.ceil((length - side) / (side - overlap))
    return [(length - side) * step // steps for step in range(steps + 1)]


def ground_tiled(
    grounder: BatchGrounder,
    image: MedicalImage,
    phrases: Sequence[str],
    *,
    side: int = 800,
    overlap: int = 200,
    box_threshold: float | None = None,
    nms_iou: float = 0.5,
) -> Regions:
    """Regions of a large image: found in the whole and in each window, merged by class-wise suppression.

    What a window cuts at an inner edge is left to its neighbour, or to the whole image where it is larger
    than the overlap. An image that fits one window is asked once.

    Args:
        grounder: Anything with ``ground_batch``.
        image: Of any size.
        phrases: What to look for.
        side: Pixels a window.
        overlap: Fewest pixels that neighbours share: the size of the largest thing left to the windows.
        box_threshold: As in :meth:`Grounder.ground`.
        nms_iou: Boxes of one phrase that overlap by more are one thing.

    Returns:
        Boxes xyxy in pixels of ``image``, best first.

    Raises:
        ValueError: If the overlap is negative or not below the side.
    """
    parts = windows(image.size, side, overlap)
    tiles = [_cut(image, window) for window in parts] if len(parts) > 1 else []
    pictures = [image, *tiles]
    whole, *found = grounder.ground_batch(pictures, [phrases] * len(pictures), box_threshold=box_threshold)
    kept = [whole] + [
        to_image(regions[~cut_off(regions.boxes, window, image.size)], window, image.size)
        for regions, window in zip(found, parts if tiles else [], strict=True)
    ]
    return suppress(
        Regions(
            np.concatenate([regions.boxes for regions in kept]),
            np.concatenate([regions.scores for regions in kept]),
            np.concatenate([regions.phrase_index for regions in kept]),
            whole.asked,
            image.size,
        ),
        nms_iou,
    )


def _cut(image: MedicalImage, window: Window) -> MedicalImage:
    x1, y1, x2, y2 = window
    return dataclasses.replace(image, pixels=image.pixels[y1:y2, x1:x2], source_id="")


def to_image(regions: Regions, window: Window, image_size: tuple[int, int]) -> Regions:
    """Regions found in a window (boxes in its pixels, no masks) as regions of the image around it."""
    x, y = window[:2]
    boxes = clip_boxes(regions.boxes + np.array([x, y, x, y], dtype=np.float32), image_size)
    return Regions(boxes, regions.scores, regions.phrase_index, regions.asked, image_size)


def cut_off(
    boxes: npt.NDArray[np.float32], window: Window, image_size: tuple[int, int]
) -> npt.NDArray[np.bool_]:
    """Whether each box, (N, 4) xyxy in pixels of the window, ends at an edge inside the image: (N,)."""
    x1, y1, x2, y2 = window
    height, width = image_size
    left, top, right, bottom = boxes.T
    result: npt.NDArray[np.bool_] = (
        ((left < EDGE) & (x1 > 0))
        | ((top < EDGE) & (y1 > 0))
        | ((right > x2 - x1 - EDGE) & (x2 < width))
        | ((bottom > y2 - y1 - EDGE) & (y2 < height))
    )
    return result
