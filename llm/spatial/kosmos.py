"""Boxes as Kosmos-2 writes them: the first and the last patch of a 32 x 32 grid."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .base import BoxFormat, ordered_box, split
from .escape import escape_text
from .grid import Grid, checked
from .parsed import FoundBox, Parsed, Unread
from .placement import stretched
from .tokens import TokenRun, broken_tokens, plain_label, token_runs

_SIDE = 32
_NAME = "patch_index_"


@dataclass(frozen=True)
class KosmosBoxes(BoxFormat):
    """``<object> <patch_index_0044> <patch_index_0863> </object>``: first and last patch of 32 x 32.

    Source: `coordinate_to_patch_index` (floor of the upper left corner, ceiling minus one of the lower
    right), `patch_index_to_coordinate` and `_insert_patch_index_tokens` in transformers'
    ``processing_kosmos2.py``. Back, a patch stands for its middle; two patches of one row or column, however,
    stand for their outer edges, so such a thin box comes back up to one whole patch away. The image is
    resized to a square without padding (``use_square_size`` in CLIP's image processor is there for it).
    """

    @property
    def legend(self) -> str:
        """The convention in words."""
        return "the upper left and lower right patch of 32 x 32, counted row by row from 0"

    @property
    def tokens(self) -> tuple[str, ...]:
        """``<patch_index_0000>`` .. ``<patch_index_1023>``, all in the published tokenizer."""
        return tuple(f"<{_NAME}{k:04d}>" for k in range(_SIDE**2))

    def grid(self, image_size: tuple[int, int]) -> Grid:
        """The patches."""
        return Grid(stretched(image_size, image_size), (_SIDE - 1, _SIDE - 1), bins=True)

    def encode(self, box: ArrayLike, image_size: tuple[int, int]) -> str:
        """Write a box (xyxy pixels) as two patches, as the processor inserts them behind a phrase."""
        height, width = image_size
        x1, y1, _, _ = self.grid(image_size).write(box)
        corner = checked(box)[2:] / np.array([width, height]) * _SIDE
        x2, y2 = np.clip(np.ceil(corner - 1), (x1, y1), _SIDE - 1).astype(int).tolist()
        first, last = (f"<{_NAME}{y * _SIDE + x:04d}>" for x, y in ((x1, y1), (x2, y2)))
        return f"<object> {first} {last} </object>"

    def encode_answer(
        self, boxes: Sequence[ArrayLike], labels: Sequence[str], image_size: tuple[int, int]
    ) -> str:
        """Write ``<phrase> heart</phrase><object>..</object>, <phrase>..`` as behind ``<grounding>``."""
        pairs = zip(boxes, labels, strict=True)
        return ", ".join(
            f"<phrase> {escape_text(label)}</phrase>{self.encode(box, image_size)}" for box, label in pairs
        )

    def parse(self, text: str, image_size: tuple[int, int]) -> Parsed:
        """Read every pair of patches; pairs of one object share the phrase before it."""
        pieces: list[FoundBox | Unread] = []
        label = ""
        for run in token_runs(text, _NAME):
            label = _phrase(run) or label
            tokens = re.findall(r"<[^<>]+>", run.text)
            for i in range(0, len(tokens), 2):
                pieces.append(
                    self._read("".join(tokens[i : i + 2]), run.numbers[i : i + 2], image_size, label)
                )
        return split([*pieces, *broken_tokens(text, _NAME)])

    def _read(
        self, text: str, numbers: Sequence[int], image_size: tuple[int, int], label: str
    ) -> FoundBox | Unread:
        """The box of two patches, or why there is none."""
        if len(numbers) < 2:
            return Unread(text, "a box is two patches, got 1")
        if max(numbers) >= _SIDE**2:
            return Unread(text, f"{max(numbers)} is out of range: patches run from 0 to {_SIDE**2 - 1}")
        height, width = image_size
        corners = _corners(*numbers) / _SIDE * np.array([width, height, width, height])
        return ordered_box(corners, image_size, text, label)


def _corners(first: int, last: int) -> NDArray[np.float64]:
    """Corners x y x y, in patches, that two patches stand for."""
    (y1, x1), (y2, x2) = divmod(first, _SIDE), divmod(last, _SIDE)
    if x1 == x2 or y1 == y2:
        return np.array([min(x1, x2), min(y1, y2), max(x1, x2) + 1, max(y1, y2) + 1], dtype=np.float64)
    return np.array([x1, y1, x2, y2]) + 0.5


def _phrase(run: TokenRun) -> str:
    """The phrase marked as such before an object, else the words there."""
    phrases = re.findall(r"<phrase>([^<]+)</phrase>", run.before)
    return plain_label(phrases[-1] if phrases else run.before)
