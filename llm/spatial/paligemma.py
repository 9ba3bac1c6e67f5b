"""Boxes as PaliGemma and PaliGemma 2 write them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from numpy.typing import ArrayLike

from .escape import escape_text
from .grid import Grid
from .placement import stretched
from .tokens import FourTokens, TokenRun, plain_label

_LAST = 1023


@dataclass(frozen=True)
class PaliGemmaBoxes(FourTokens):
    """``<loc0123><loc0045><loc0678><loc0901> heart ; ...``: y1 x1 y2 x2, points k / 1023 of height and width.

    Sources: the 1024 tokens ``<loc0000>`` .. ``<loc1023>`` are those of `EXTRA_TOKENS` in transformers'
    ``processing_paligemma.py``; the order and the division by 1023 are those of big_vision's evaluator
    (``evaluators/proj/paligemma/transfers/segmentation.py``: ``bbox = tokens / 1023``, unpacked as y1, x1,
    y2, x2); some demos divide by 1024, at most a pixel in 1024 apart. The image processor resizes to a square
    without padding, so relative coordinates hold for the original.
    """

    name = "loc"
    label_follows = True

    @property
    def legend(self) -> str:
        """The convention in words."""
        return "y1 x1 y2 x2 as four tokens <loc0000> to <loc1023> of the height or width"

    @property
    def tokens(self) -> tuple[str, ...]:
        """``<loc0000>`` .. ``<loc1023>``, all in the published tokenizers."""
        return tuple(f"<loc{k:04d}>" for k in range(_LAST + 1))

    def grid(self, image_size: tuple[int, int]) -> Grid:
        """A lattice over the image itself."""
        return Grid(stretched(image_size, image_size), (_LAST, _LAST))

    def order(self, numbers: Sequence[int]) -> tuple[int, ...]:
        """Swap x and y."""
        first_1, second_1, first_2, second_2 = numbers
        return second_1, first_1, second_2, first_2

    def encode(self, box: ArrayLike, image_size: tuple[int, int]) -> str:
        """Write a box (xyxy pixels) as four tokens, y first."""
        return "".join(f"<loc{k:04d}>" for k in self.order(self.grid(image_size).write(box)))

    def encode_answer(
        self, boxes: Sequence[ArrayLike], labels: Sequence[str], image_size: tuple[int, int]
    ) -> str:
        """Write what follows a prompt ``detect heart ; right lung``: boxes with labels behind them."""
        pairs = zip(boxes, labels, strict=True)
        return " ; ".join(f"{self.encode(box, image_size)} {escape_text(label)}" for box, label in pairs)

    def label_of(self, run: TokenRun) -> str:
        """The label stands behind its box, up to a semicolon or the end of the line."""
        behind = run.after.split(";")[0].strip()
        return plain_label(behind.splitlines()[0]) if behind else ""
