"""The one interface behind which every model family's way of writing boxes stands.

Boxes go in and come out as xyxy in pixels of the ORIGINAL image; what the family does to the image (resize,
letterbox) is the format's own business. No torch, no model, no tokenizer here.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .escape import escape_text
from .grid import Grid
from .parsed import FoundBox, Parsed, Unread
from .placement import whole


class SpatialTextError(ValueError):
    """Text that should name a box and does not; the message can be shown to the model that wrote it."""


class BoxFormat(ABC):
    """How one model family writes boxes.

    `decode` is the inverse of `encode` up to half a `step` on each axis.
    """

    @property
    @abstractmethod
    def legend(self) -> str:
        """The convention in words, for a prompt: the order of the numbers and their range."""

    @property
    def tokens(self) -> tuple[str, ...]:
        """The spatial tokens that the tokenizer must hold and that a user's text must not; () for text."""
        return ()

    @abstractmethod
    def grid(self, image_size: tuple[int, int]) -> Grid:
        """The coordinates for an image of (height, width) `image_size`.

        Raises:
            ValueError: The family cannot take an image of this size.
        """

    @abstractmethod
    def encode(self, box: ArrayLike, image_size: tuple[int, int]) -> str:
        """Write one box; coordinates outside the image go to its border.

        Args:
            box: xyxy in pixels of the image.
            image_size: (height, width) of the original image in pixels.

        Raises:
            ValueError: The box is not four finite numbers, or the family cannot take an image of this size.
        """

    @abstractmethod
    def encode_answer(
        self, boxes: Sequence[ArrayLike], labels: Sequence[str], image_size: tuple[int, int]
    ) -> str:
        """Write boxes with their labels as the family answers a request to find them."""

    @abstractmethod
    def parse(self, text: str, image_size: tuple[int, int]) -> Parsed:
        """Read every box of a reply, whatever the reply is: no text raises."""

    def decode(self, text: str, image_size: tuple[int, int]) -> NDArray[np.float32]:
        """Read exactly one box, float32 (4,) xyxy in pixels of the original image.

        Raises:
            SpatialTextError: Not one box, or one that is out of range, cut off or in the wrong order.
        """
        parsed = self.parse(text, image_size)
        if len(parsed.boxes) != 1 or not parsed.clean:
            found = parsed.complaint() or f"{len(parsed.boxes)} boxes in {text!r}"
            raise SpatialTextError(f"expected one box ({self.legend}), got {found}")
        return parsed.boxes[0].box

    def step(self, image_size: tuple[int, int]) -> tuple[float, float]:
        """Distance of neighbouring coordinates along (x, y) in pixels of the original image."""
        return self.grid(image_size).step

    def read_box(
        self, numbers: Sequence[float], image_size: tuple[int, int], text: str, label: str
    ) -> FoundBox | Unread:
        """The box that coordinates x1 y1 x2 y2 stand for, or why they stand for none."""
        grid = self.grid(image_size)
        if reason := grid.why_outside(numbers):
            return Unread(text, reason)
        return ordered_box(grid.read(numbers), image_size, text, label)


def ordered_box(corners: NDArray[np.float64], image_size: tuple[int, int], text: str, label: str) -> FoundBox:
    """A box from two opposite corners x y x y in pixels, clipped to the image; swapped ones are noted.

    The label is the model's, hence made harmless like a user's text.
    """
    first, second = corners[:2], corners[2:]
    box = np.concatenate([np.minimum(first, second), np.maximum(first, second)])
    box = np.clip(box, 0.0, np.tile(whole(image_size)[2:], 2)).astype(np.float32)
    swapped = bool((first > second).any())
    note = "corners in the wrong order (x1 <= x2 and y1 <= y2), put right" if swapped else ""
    return FoundBox(box, escape_text(label), text, note)


def split(pieces: Sequence[FoundBox | Unread]) -> Parsed:
    """A `Parsed` of pieces in the order of the reply."""
    return Parsed(
        tuple(piece for piece in pieces if isinstance(piece, FoundBox)),
        tuple(piece for piece in pieces if isinstance(piece, Unread)),
    )
