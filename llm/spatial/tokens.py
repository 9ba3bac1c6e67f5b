"""Boxes as four spatial tokens: what such families share, and our own ``<loc_000>`` .. ``<loc_099>``."""

from __future__ import annotations

import re
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from numpy.typing import ArrayLike

from .base import BoxFormat, split
from .escape import escape_text
from .grid import Grid
from .parsed import FoundBox, Parsed, Unread
from .placement import stretched

_MARKUP = re.compile(r"</?[A-Za-z_|]+/?>")


@dataclass(frozen=True)
class TokenRun:
    """Spatial tokens that follow one another: their numbers, where they stand, and the text around them.

    Attributes:
        numbers: The number of each token.
        text: The tokens themselves.
        before: The text since the run before, or since the beginning.
        after: The text up to the next run, or to the end.
    """

    numbers: tuple[int, ...]
    text: str
    before: str
    after: str


def token_runs(text: str, name: str) -> Iterator[TokenRun]:
    """The runs of tokens ``<name123>`` in a text, white space between tokens allowed."""
    runs = list(re.finditer(rf"<{name}[0-9]{{1,9}}>(?:\s*<{name}[0-9]{{1,9}}>)*", text))
    for i, run in enumerate(runs):
        start = runs[i - 1].end() if i else 0
        end = runs[i + 1].start() if i + 1 < len(runs) else len(text)
        numbers = tuple(int(number) for number in re.findall(rf"<{name}([0-9]+)>", run[0]))
        yield TokenRun(numbers, run[0], text[start : run.start()], text[run.end() : end])


def broken_tokens(text: str, name: str) -> Iterator[Unread]:
    """What begins like a token ``<name123>`` and is none."""
    for piece in re.finditer(rf"<{name}(?![0-9]{{1,9}}>)[^<>\s]{{0,20}}>?", text):
        cut = piece.end() == len(text) and not piece[0].endswith(">")
        yield Unread(piece[0], "cut off within a token" if cut else f"not a token <{name}...>")


def plain_label(text: str) -> str:
    """The words of a label: its last line without markup, separators and citations such as [R1]."""
    lines = [line for line in _MARKUP.sub(" ", text).splitlines() if line.strip(" \t.,;:-")]
    words = re.sub(r"\[R[0-9]+\]", " ", lines[-1]) if lines else ""
    return " ".join(words.split()).strip(" .,;:-")


class FourTokens(BoxFormat):
    """A family that writes a box as four tokens in a row."""

    name: str  # what stands between "<" and the number
    label_follows = False  # whether a label stands behind its boxes; before them, it serves all that follow

    @abstractmethod
    def label_of(self, run: TokenRun) -> str:
        """The label of a run's boxes; "" where the text around it holds none."""

    def order(self, numbers: Sequence[int]) -> tuple[int, ...]:
        """Turn the family's order into x1 y1 x2 y2, and back: its own inverse."""
        return tuple(numbers)

    def parse(self, text: str, image_size: tuple[int, int]) -> Parsed:
        """Read every four tokens; boxes that follow one another share the label before them."""
        pieces: list[FoundBox | Unread] = []
        label = ""
        for run in token_runs(text, self.name):
            label = self.label_of(run) or ("" if self.label_follows else label)
            tokens = re.findall(r"<[^<>]+>", run.text)
            for i in range(0, len(tokens), 4):
                piece, numbers = "".join(tokens[i : i + 4]), run.numbers[i : i + 4]
                if len(numbers) < 4:
                    pieces.append(Unread(piece, f"a box is four tokens, got {len(numbers)}"))
                else:
                    pieces.append(self.read_box(self.order(numbers), image_size, piece, label))
        return split([*pieces, *broken_tokens(text, self.name)])


@dataclass(frozen=True)
class LocTokens(FourTokens):
    """Our own tokens ``<loc_012><loc_030><loc_048><loc_060>``, order x1 y1 x2 y2.

    Each names one of `bins` equal bins of the image's width (x) or height (y), shared by both axes. They are
    what nano was trained on.

    Attributes:
        bins: Number of bins along either axis; a bin stands for its middle.
    """

    bins: int = 100
    name = "loc_"

    @property
    def legend(self) -> str:
        """The convention in words."""
        return f"x1 y1 x2 y2 as four tokens <loc_000> to <loc_{self.bins - 1:03d}> of the width or height"

    @property
    def tokens(self) -> tuple[str, ...]:
        """The tokens in the order of their bins."""
        return tuple(f"<loc_{k:03d}>" for k in range(self.bins))

    def grid(self, image_size: tuple[int, int]) -> Grid:
        """Bins of the image itself."""
        return Grid(stretched(image_size, image_size), (self.bins - 1, self.bins - 1), bins=True)

    def encode(self, box: ArrayLike, image_size: tuple[int, int]) -> str:
        """Write a box (xyxy pixels) as four tokens."""
        return "".join(f"<loc_{k:03d}>" for k in self.grid(image_size).write(box))

    def encode_answer(
        self, boxes: Sequence[ArrayLike], labels: Sequence[str], image_size: tuple[int, int]
    ) -> str:
        """Write ``right lung <loc_..>..; heart <loc_..>..``; "" for no box."""
        pairs = zip(boxes, labels, strict=True)
        return "; ".join(f"{escape_text(label)} {self.encode(box, image_size)}" for box, label in pairs)

    def label_of(self, run: TokenRun) -> str:
        """The label stands before its box."""
        return plain_label(run.before)
