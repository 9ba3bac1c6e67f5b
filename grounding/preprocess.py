"""Pixels to network input: what training and inference share.

Ours (:class:`SquareInput`): a picture is stretched in contrast (fluorescence is dark, radiographs are flat),
resized to a square without keeping its aspect ratio, and normalised with ImageNet's statistics. Published
checkpoints (:class:`AspectInput`) were trained on pictures as they are, aspect ratio kept. Either way boxes
in [0, 1] stay as they are.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

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


def to_tensor(
    pixels: np.ndarray, mean: Sequence[float] = IMAGENET_MEAN, std: Sequence[float] = IMAGENET_STD
) -> Tensor:
    """(H, W, 3) uint8 to (3, H, W) float32, scaled to [0, 1] and normalised a channel."""
    values = torch.from_numpy(np.array(pixels)).float().div_(255.0)
    values = (values - torch.tensor(mean)) / torch.tensor(std)
    return values.permute(2, 0, 1).contiguous()


def preprocess(pixels: np.ndarray, size: int) -> Tensor:
    """(H, W, 3) uint8 RGB to the (3, size, size) network input."""
    return to_tensor(resize_square(stretch_contrast(pixels), size))


class InputMaker(Protocol):
    """Makes the network input of one picture."""

    def __call__(self, pixels: np.ndarray) -> Tensor:
        """(H, W, 3) uint8 RGB to (3, h, w) float32."""
        ...


@dataclass(frozen=True)
class SquareInput:
    """The input of our checkpoints: :func:`preprocess` to ``size`` pixels a side."""

    size: int

    def __call__(self, pixels: np.ndarray) -> Tensor:
        """(H, W, 3) uint8 RGB to (3, size, size)."""
        return preprocess(pixels, self.size)


@dataclass(frozen=True)
class AspectInput:
    """The input of MM-Grounding-DINO and LLMDet: aspect ratio kept, contrast as it is.

    Attributes:
        shortest: Pixels of the shortest edge, unless the longest would then exceed its limit.
        longest: Most pixels of the longest edge.
        mean: Subtracted a channel, of values in [0, 1].
        std: Divides each channel.
    """

    shortest: int = 800
    longest: int = 1333
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD

    def __call__(self, pixels: np.ndarray) -> Tensor:
        """(H, W, 3) uint8 RGB to (3, h, w)."""
        height, width = self.target(pixels.shape[0], pixels.shape[1])
        image = Image.fromarray(pixels).resize((width, height), Image.Resampling.BILINEAR)
        return to_tensor(np.asarray(image), self.mean, self.std)

    def target(self, height: int, width: int) -> tuple[int, int]:
        """(height, width) of the input, rounded as the family's own processing does."""
        short, long = sorted((height, width))
        exact: float = self.shortest
        if long / short * exact > self.longest:
            exact = self.longest * short / long
        small = round(exact)
        if small == short:
            return height, width
        large = int(exact * long / short)
        return (large, small) if width < height else (small, large)

    @classmethod
    def read(cls, folder: Path) -> AspectInput:
        """The sizes and statistics of ``preprocessor_config.json``, the family's own where it is absent.

        Raises:
            ValueError: If the file asks for anything but a shortest and a longest edge.
        """
        path = folder / "preprocessor_config.json"
        if not path.is_file():
            return cls()
        values = json.loads(path.read_text(encoding="utf-8"))
        size = values.get("size") or {}
        if not {"shortest_edge", "longest_edge"} <= set(size):
            raise ValueError(f"{path}: expected size to hold shortest_edge and longest_edge, got {size}")
        statistics = {
            key: tuple(values[name])
            for key, name in (("mean", "image_mean"), ("std", "image_std"))
            if values.get(name)
        }
        return cls(size["shortest_edge"], size["longest_edge"], **statistics)


def pad_together(inputs: Sequence[Tensor]) -> tuple[Tensor, Tensor | None]:
    """Inputs (3, h, w) as one batch, padded with zeros at the right and below.

    Returns:
        (B, 3, H, W), and (B, H, W) float32, 1 = a real pixel; None where nothing is padded.
    """
    sizes = {tuple(one.shape[-2:]) for one in inputs}
    if len(sizes) == 1:
        return torch.stack(list(inputs)), None
    height, width = (max(size[axis] for size in sizes) for axis in (0, 1))
    pixels = torch.zeros(len(inputs), 3, height, width)
    mask = torch.zeros(len(inputs), height, width)
    for row, one in enumerate(inputs):
        pixels[row, :, : one.shape[1], : one.shape[2]] = one
        mask[row, : one.shape[1], : one.shape[2]] = 1
    return pixels, mask
