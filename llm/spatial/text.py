"""Boxes as plain numbers, for models that have no convention of their own."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from numpy.typing import ArrayLike

from .base import BoxFormat, split
from .escape import escape_text
from .grid import Grid
from .parsed import FoundBox, Parsed, Unread
from .placement import stretched
from .tokens import plain_label

_NUMBER = r"-?[0-9]{1,9}(?:\.[0-9]{1,9})?"
_LIST = re.compile(rf"\[\s*({_NUMBER}(?:\s*,\s*{_NUMBER})+)\s*(,\s*)?(\]|$)?")


@dataclass(frozen=True)
class TextBoxes(BoxFormat):
    """Boxes as text ``[120, 300, 480, 600]``: x1 y1 x2 y2, integers in 0..`scale` relative to the image.

    The convention is ours (that of Qwen3-VL without the JSON); nothing is assumed of the model but that it
    reads the legend.
    """

    scale: int = 1000

    @property
    def legend(self) -> str:
        """The convention in words."""
        return f"[x1, y1, x2, y2], 0 to {self.scale} of the width or height"

    def grid(self, image_size: tuple[int, int]) -> Grid:
        """A lattice over the image itself."""
        return Grid(stretched(image_size, image_size), (self.scale, self.scale))

    def encode(self, box: ArrayLike, image_size: tuple[int, int]) -> str:
        """Write a box (xyxy pixels) as ``[x1, y1, x2, y2]``."""
        return str(list(self.grid(image_size).write(box)))

    def encode_answer(
        self, boxes: Sequence[ArrayLike], labels: Sequence[str], image_size: tuple[int, int]
    ) -> str:
        """Write ``heart [..]; right lung [..]``; "" for no box."""
        pairs = zip(boxes, labels, strict=True)
        return "; ".join(f"{escape_text(label)} {self.encode(box, image_size)}" for box, label in pairs)

    def parse(self, text: str, image_size: tuple[int, int]) -> Parsed:
        """Read every bracketed list of two or more numbers; the label stands before it."""
        pieces: list[FoundBox | Unread] = []
        end = 0
        for match in _LIST.finditer(text):
            label, end = plain_label(text[end : match.start()]), match.end()
            numbers = [float(number) for number in match[1].split(",")]
            if not match[3]:
                cut = match.end() == len(text)
                pieces.append(Unread(match[0], "cut off within a box" if cut else "not a list of numbers"))
            elif len(numbers) != 4:
                pieces.append(Unread(match[0], f"a box is 4 numbers, got {len(numbers)}"))
            else:
                pieces.append(self.read_box(numbers, image_size, match[0], label))
        return split(pieces)
