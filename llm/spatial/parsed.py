"""What was read from a model's reply: the boxes, and every piece that should have been one, with the reason.

Plain values; they know no family and no text format.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from grounding.types import Regions


@dataclass(frozen=True, eq=False)
class FoundBox:
    """One box that a reply names.

    Attributes:
        box: float32 (4,) xyxy in pixels of the original image, x1 <= x2 and y1 <= y2.
        label: What the reply calls it, "" where it says nothing.
        text: The piece of the reply that was read.
        note: What had to be put right, such as swapped corners; "" where nothing.
    """

    box: NDArray[np.float32]
    label: str
    text: str
    note: str = ""


@dataclass(frozen=True)
class Unread:
    """A piece of a reply that should name a box and does not: the text, and why it could not be read."""

    text: str
    reason: str


@dataclass(frozen=True, eq=False)
class Parsed:
    """A whole reply: what could be read, in its order, and what could not."""

    boxes: tuple[FoundBox, ...] = ()
    unread: tuple[Unread, ...] = ()

    @property
    def clean(self) -> bool:
        """Whether everything was read as it stands, without a repair; also true where there was no box."""
        return not self.unread and not any(found.note for found in self.boxes)

    def regions(self, image_size: tuple[int, int], *, unnamed: str = "region") -> Regions:
        """The boxes as `Regions` of an image of (height, width) `image_size`, score 1 each.

        Args:
            image_size: That which the boxes were parsed for.
            unnamed: The phrase of boxes without a label.
        """
        labels = [found.label or unnamed for found in self.boxes]
        asked = tuple(dict.fromkeys(labels))
        return Regions(
            np.array([found.box for found in self.boxes], dtype=np.float32).reshape(-1, 4),
            np.ones(len(labels), dtype=np.float32),
            np.array([asked.index(label) for label in labels], dtype=np.int64),
            asked,
            image_size,
        )

    def complaint(self) -> str:
        """The reasons in one line, to be shown to the model that wrote the reply; "" where all is clean."""
        notes = [f"{found.text!r}: {found.note}" for found in self.boxes if found.note]
        return "; ".join([*notes, *(f"{piece.text!r}: {piece.reason}" for piece in self.unread)])
