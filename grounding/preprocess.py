"""Pixels to network input: the one function that training and inference share.

A picture is stretched in contrast (fluorescence is dark, radiographs are flat), resized to a square without
keeping its aspect ratio, and normalised with ImageNet's statistics. The resize leaves boxes in [0, 1] alone.
"""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from .backbone import IMAGENET_MEAN, IMAGENET_STD

STRETCH_PERCENTILES = (0.5, 99.5)
MIN_STRETCH_RANGE = 16.0  # grey levels; a flatter picture is left as it is rather than its noise amplified


def stretch_contrast(pixels: np.ndarray) -> np.ndarray:
    """Map the 0.5 to 99.5 percentile range of (H, W, 3) uint8 pixels to 0..255, the same for all channels."""
    low, high = np.percentile(pixels[::4, ::4], STRETCH_PERCENTILES)
    if high - low < MIN_STRETCH_RANGE:
        return pixels
    table = np.clip((np.arange(256) - low) * (255.0 / (high - low)), 0, 255).round().astype(np.uint8)
    return table[pixels]


def resize_square(
    pixels: np.ndarray, size: int, crop: tuple[float, float, float, float] | None = None
) -> np.ndarray:
    """Resize (H, W, 3) uint8 to (size, size, 3), antialiased; ``crop`` is xyxy in pixels of the input."""
    return np.asarray(Image.fromarray(pixels).resize((size, size), Image.Resampling.BILINEAR, box=crop))


def to_tensor(pixels: np.ndarray) -> Tensor:
    """(H, W, 3) uint8 to (3, H, W) float32, ImageNet-normalised."""
    values = torch.from_numpy(np.array(pixels)).float().div_(255.0)
    values = (values - torch.tensor(IMAGENET_MEAN)) / torch.tensor(IMAGENET_STD)
    return values.permute(2, 0, 1).contiguous()


def preprocess(pixels: np.ndarray, size: int) -> Tensor:
    """(H, W, 3) uint8 RGB to the (3, size, size) network input."""
    return to_tensor(resize_square(stretch_contrast(pixels), size))
