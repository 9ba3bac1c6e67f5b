"""Box formats and overlaps, for numpy arrays and torch tensors alike; what comes in is what comes out.

Formats: xyxy = (x1, y1, x2, y2), xywh = (x1, y1, width, height), cxcywh = (centre x, centre y, width,
height). Pixels are continuous coordinates with the origin at the top-left corner, so a whole image is (0, 0,
width, height). `image_size` is (height, width). torch is never imported here: a tensor brings it along.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    import torch

    Boxes = TypeVar("Boxes", npt.NDArray[Any], torch.Tensor)
else:
    Boxes = TypeVar("Boxes")

_TINY = 1e-12  # keeps 0 / 0 (two boxes without area) at 0 in float32


def _backend(boxes: object) -> Any:
    """The library of the array: numpy or torch."""
    if isinstance(boxes, np.ndarray):
        return np
    torch_loaded = sys.modules.get("torch")
    if torch_loaded is not None and isinstance(boxes, torch_loaded.Tensor):
        return torch_loaded
    raise TypeError(
        f"boxes must be a numpy array or a torch tensor, got {type(boxes).__name__}; wrap lists in np.asarray"
    )


def _columns(boxes: Boxes) -> tuple[Boxes, Boxes, Boxes, Boxes]:
    _backend(boxes)
    if boxes.ndim == 0 or boxes.shape[-1] != 4:
        raise ValueError(f"boxes must be (..., 4), got {tuple(boxes.shape)}")
    return boxes[..., 0], boxes[..., 1], boxes[..., 2], boxes[..., 3]


def _stack(columns: tuple[Boxes, Boxes, Boxes, Boxes]) -> Boxes:
    stacked: Boxes = _backend(columns[0]).stack(columns, -1)
    return stacked


def _height_width(image_size: tuple[int, int]) -> tuple[int, int]:
    height, width = image_size
    if height <= 0 or width <= 0:
        raise ValueError(f"image_size must be (height, width), both > 0, got {tuple(image_size)}")
    return height, width


def xyxy_to_cxcywh(boxes: Boxes) -> Boxes:
    """(..., 4) xyxy -> (..., 4) cxcywh, same unit."""
    x1, y1, x2, y2 = _columns(boxes)
    return _stack(((x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1))


def cxcywh_to_xyxy(boxes: Boxes) -> Boxes:
    """(..., 4) cxcywh -> (..., 4) xyxy, same unit."""
    cx, cy, w, h = _columns(boxes)
    return _stack((cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2))


def xyxy_to_xywh(boxes: Boxes) -> Boxes:
    """(..., 4) xyxy -> (..., 4) xywh (COCO), same unit."""
    x1, y1, x2, y2 = _columns(boxes)
    return _stack((x1, y1, x2 - x1, y2 - y1))


def xywh_to_xyxy(boxes: Boxes) -> Boxes:
    """(..., 4) xywh (COCO) -> (..., 4) xyxy, same unit."""
    x, y, w, h = _columns(boxes)
    return _stack((x, y, x + w, y + h))


def normalize_boxes(boxes: Boxes, image_size: tuple[int, int]) -> Boxes:
    """(..., 4) xyxy pixels -> (..., 4) cxcywh as fractions of the image, in [0, 1] inside it.

    Args:
        boxes: xyxy, pixels of an image of `image_size`.
        image_size: (height, width).
    """
    height, width = _height_width(image_size)
    cx, cy, w, h = _columns(xyxy_to_cxcywh(boxes))
    return _stack((cx / width, cy / height, w / width, h / height))


def denormalize_boxes(boxes: Boxes, image_size: tuple[int, int]) -> Boxes:
    """(..., 4) cxcywh as fractions of the image -> (..., 4) xyxy pixels; the inverse of `normalize_boxes`.

    Args:
        boxes: cxcywh in [0, 1].
        image_size: (height, width).
    """
    height, width = _height_width(image_size)
    cx, cy, w, h = _columns(boxes)
    return cxcywh_to_xyxy(_stack((cx * width, cy * height, w * width, h * height)))


def clip_boxes(boxes: Boxes, image_size: tuple[int, int]) -> Boxes:
    """(..., 4) xyxy pixels, cut at the edges of the image; a box outside becomes a line or point there."""
    height, width = _height_width(image_size)
    x1, y1, x2, y2 = _columns(boxes)
    return _stack((x1.clip(0, width), y1.clip(0, height), x2.clip(0, width), y2.clip(0, height)))


def box_area(boxes: Boxes) -> Boxes:
    """(..., 4) xyxy -> (...,) area in squared units; an inside-out box has area 0."""
    _columns(boxes)
    area: Boxes = _extent(boxes[..., :2], boxes[..., 2:])
    return area


def box_iou(first: Boxes, second: Boxes) -> Boxes:
    """Intersection over union of every pair, (N, 4) and (M, 4) xyxy of one frame -> (N, M) in [0, 1].

    Computed in float32 at least. Two boxes without area have IoU 0.
    """
    first, second = _pair(first, second)
    intersection, union = _overlap(first, second)
    iou: Boxes = intersection / union.clip(_TINY, None)
    return iou


def generalized_box_iou(first: Boxes, second: Boxes) -> Boxes:
    """Generalised IoU of every pair, (N, 4) and (M, 4) xyxy of one frame -> (N, M) in [-1, 1].

    Rezatofighi et al., CVPR 2019, eq. 1: IoU - (hull - union) / hull, hull = the smallest box around both.
    Computed in float32 at least.
    """
    first, second = _pair(first, second)
    intersection, union = _overlap(first, second)
    hull = _hull_area(first, second)
    giou: Boxes = intersection / union.clip(_TINY, None) - (hull - union) / hull.clip(_TINY, None)
    return giou


def _pair(first: Boxes, second: Boxes) -> tuple[Boxes, Boxes]:
    for boxes in (first, second):
        _columns(boxes)
        if boxes.ndim != 2:
            raise ValueError(
                f"boxes must be (N, 4) and (M, 4), got {tuple(first.shape)} and {tuple(second.shape)}"
            )
    return _at_least_float32(first), _at_least_float32(second)


def _at_least_float32(boxes: Boxes) -> Boxes:
    """Areas of 16-bit floats overflow and integers do not divide: widen both."""
    backend = _backend(boxes)
    if boxes.dtype in (backend.float32, backend.float64):
        return boxes
    widened: Boxes = boxes.astype(np.float32) if isinstance(boxes, np.ndarray) else boxes.float()
    return widened


def _overlap(first: Boxes, second: Boxes) -> tuple[Boxes, Boxes]:
    """Intersection and union areas of every pair, each (N, M)."""
    backend = _backend(first)
    one, other = first[:, None, :], second[None, :, :]
    top_left = backend.maximum(one[..., :2], other[..., :2])
    bottom_right = backend.minimum(one[..., 2:], other[..., 2:])
    intersection: Boxes = _extent(top_left, bottom_right)
    return intersection, box_area(first)[:, None] + box_area(second)[None, :] - intersection


def _hull_area(first: Boxes, second: Boxes) -> Boxes:
    """Area of the smallest box around each pair, (N, M)."""
    backend = _backend(first)
    one, other = first[:, None, :], second[None, :, :]
    top_left = backend.minimum(one[..., :2], other[..., :2])
    bottom_right = backend.maximum(one[..., 2:], other[..., 2:])
    area: Boxes = _extent(top_left, bottom_right)
    return area


def _extent(top_left: Any, bottom_right: Any) -> Any:
    """Area between two corners, (..., 2) each -> (...,); 0 where they cross."""
    sides = (bottom_right - top_left).clip(0, None)
    return sides[..., 0] * sides[..., 1]
