"""Boxes as Florence-2 writes them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from numpy.typing import ArrayLike

from .escape import escape_text
from .grid import Grid
from .placement import stretched
from .tokens import FourTokens, TokenRun, plain_label

_BINS = 1000


@dataclass(frozen=True)
class FlorenceBoxes(FourTokens):
    """``heart<loc_52><loc_332><loc_932><loc_774>``: x1 y1 x2 y2, 1000 equal bins of the width or height.

    Source: `Florence2PostProcessor.quantize` and `.dequantize` in transformers' ``processing_florence2.py``:
    floor, clamped to 0..999, and the middle of the bin back (which it then cuts to whole pixels, we do not).
    Several boxes behind one label belong to it. The image processor resizes to a square without padding.
    """

    name = "loc_"

    @property
    def legend(self) -> str:
        """The convention in words."""
        return "x1 y1 x2 y2 as four tokens <loc_0> to <loc_999> of the width or height"

    @property
    def tokens(self) -> tuple[str, ...]:
        """``<loc_0>`` .. ``<loc_999>``, all in the published tokenizers."""
        return tuple(f"<loc_{k}>" for k in range(_BINS))

    def grid(self, image_size: tuple[int, int]) -> Grid:
        """Bins of the image itself."""
        return Grid(stretched(image_size, image_size), (_BINS - 1, _BINS - 1), bins=True)

    def encode(self, box: ArrayLike, image_size: tuple[int, int]) -> str:
        """Write a box (xyxy pixels) as four tokens."""
        return "".join(f"<loc_{k}>" for k in self.grid(image_size).write(box))

    def encode_answer(
        self, boxes: Sequence[ArrayLike], labels: Sequence[str], image_size: tuple[int, int]
    ) -> str:
        """Write what follows the task ``<OD>``: each label and its box, without a separator."""
        pairs = zip(boxes, labels, strict=True)
        return "".join(f"{escape_text(label)}{self.encode(box, image_size)}" for box, label in pairs)

    def label_of(self, run: TokenRun) -> str:
        """The label stands before its boxes."""
        return plain_label(run.before)
