"""Boxes as text: the spatial tokens, the region block of a prompt, and the escaping of text that is not ours.

A box is written as four tokens ``<loc_012><loc_030><loc_048><loc_060>`` in the order x1 y1 x2 y2; each token
names one of 100 equal bins of the image's width (x) or height (y), shared by both axes. Models that do not
know the tokens get integers in 0..1000 instead. Both are exact inverses up to half a bin. No torch, no model,
no tokenizer here.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from grounding.types import Regions

HIGH_SCORE = 0.6
MEDIUM_SCORE = 0.4

_LOOKALIKES = {code + 0xFEE0: code for code in map(ord, "<>|[]")}  # full-width forms
_TOKEN_OPENING = re.compile(r"<(?=[|/_A-Za-z])|\[(?=/?[A-Z_]{2,}[^a-z]*\])")


class SpatialTextError(ValueError):
    """Text that should name a box and does not; the message can be shown to the model that wrote it."""


class BoxFormat(Protocol):
    """How one model family writes a box; `decode` is the inverse of `encode` up to half a bin."""

    def encode(self, box: ArrayLike, image_size: tuple[int, int]) -> str:
        """Write one xyxy box in pixels of an image of (height, width) `image_size`."""
        ...

    def decode(self, text: str, image_size: tuple[int, int]) -> NDArray[np.float32]:
        """Read one box, float32 (4,) xyxy in pixels."""
        ...


@dataclass(frozen=True)
class LocTokens:
    """Boxes as own tokens ``<loc_000>`` .. ``<loc_099>``, order x1 y1 x2 y2.

    Attributes:
        bins: Number of bins along either axis; a bin stands for its middle.
    """

    bins: int = 100

    @property
    def tokens(self) -> tuple[str, ...]:
        """The tokens in the order of their bins."""
        return tuple(f"<loc_{k:03d}>" for k in range(self.bins))

    def encode(self, box: ArrayLike, image_size: tuple[int, int]) -> str:
        """Write a box; coordinates outside the image go to the nearest bin.

        Args:
            box: xyxy in pixels of the image.
            image_size: (height, width) in pixels.
        """
        relative = _relative(box, image_size)
        index = np.clip(np.floor(relative * self.bins), 0, self.bins - 1).astype(int)
        return "".join(f"<loc_{k:03d}>" for k in index)

    def decode(self, text: str, image_size: tuple[int, int]) -> NDArray[np.float32]:
        """Read a box from exactly four tokens.

        Returns:
            float32 (4,) xyxy in pixels: the middles of the bins, at most half a bin from what was written.

        Raises:
            SpatialTextError: Not four tokens, a bin out of range, or corners in the wrong order.
        """
        if not re.fullmatch(r"\s*(<loc_\d+>\s*){4}", text):
            raise SpatialTextError(
                f"a box is four tokens such as {self.encode((0, 0, 1, 1), (1, 1))}, got {text!r}"
            )
        index = np.array([int(k) for k in re.findall(r"\d+", text)])
        if index.max() >= self.bins:
            raise SpatialTextError(f"spatial tokens run to <loc_{self.bins - 1:03d}>, got {text!r}")
        return _absolute((index + 0.5) / self.bins, image_size, text)


@dataclass(frozen=True)
class TextBoxes:
    """Boxes as text ``[120, 300, 480, 600]``: x1 y1 x2 y2, integers in 0..`scale` relative to the image."""

    scale: int = 1000

    def encode(self, box: ArrayLike, image_size: tuple[int, int]) -> str:
        """Write a box (xyxy pixels); coordinates outside the image go to its border."""
        index = np.rint(np.clip(_relative(box, image_size), 0.0, 1.0) * self.scale).astype(int)
        return "[" + ", ".join(map(str, index)) + "]"

    def decode(self, text: str, image_size: tuple[int, int]) -> NDArray[np.float32]:
        """Read a box from ``[x1, y1, x2, y2]``.

        Raises:
            SpatialTextError: Not four integers in 0..`scale`, or corners in the wrong order.
        """
        if not re.fullmatch(r"\s*\[\s*\d+\s*(,\s*\d+\s*){3}\]\s*", text):
            raise SpatialTextError(
                f"a box is [x1, y1, x2, y2] with integers in 0..{self.scale}, got {text!r}"
            )
        index = np.array([int(k) for k in re.findall(r"\d+", text)])
        if index.max() > self.scale:
            raise SpatialTextError(f"coordinates run from 0 to {self.scale}, got {text!r}")
        return _absolute(index / self.scale, image_size, text)


def _relative(box: ArrayLike, image_size: tuple[int, int]) -> NDArray[np.float64]:
    """Divide an xyxy pixel box by the image's width and height."""
    array = np.asarray(box, dtype=np.float64)
    if array.shape != (4,) or not np.isfinite(array).all():
        raise ValueError(f"a box must be 4 finite numbers x1 y1 x2 y2 in pixels, got {box!r}")
    height, width = image_size
    if height <= 0 or width <= 0:
        raise ValueError(f"image_size must be (height, width) in pixels, both positive, got {image_size}")
    return array / np.array([width, height, width, height], dtype=np.float64)


def _absolute(relative: NDArray[np.float64], image_size: tuple[int, int], text: str) -> NDArray[np.float32]:
    """Scale a relative xyxy box to pixels, refusing corners in the wrong order."""
    if relative[0] > relative[2] or relative[1] > relative[3]:
        raise SpatialTextError(f"the order is x1 y1 x2 y2 with x1 <= x2 and y1 <= y2, got {text!r}")
    height, width = image_size
    pixels: NDArray[np.float32] = (relative * np.array([width, height, width, height])).astype(np.float32)
    return pixels


def score_bucket(score: float) -> str:
    """Name a detection score in [0, 1]: ``high`` from 0.6, ``medium`` from 0.4, else ``low``."""
    return "high" if score >= HIGH_SCORE else "medium" if score >= MEDIUM_SCORE else "low"


def mentions(question: str, phrase: str) -> bool:
    """Whether the last word of a phrase (its head noun) stands in the question, singular or plural."""
    words = {word.removesuffix("s") for word in re.findall(r"[a-z]+", question.lower())}
    return phrase.lower().split()[-1].removesuffix("s") in words


def region_block(
    regions: Regions | None,
    question: str,
    box_format: BoxFormat,
    *,
    limit: int | None = None,
    specials: Iterable[str] = (),
) -> str:
    """Write the regions as lines ``[R1] right lung <loc_012><loc_030><loc_048><loc_060> high``.

    ``[R2]`` is ``regions[1]``; the order is kept, so put first what matters most. Phrases without a region
    are said as ``No region found: spleen``: those that the question mentions, and all that were asked (at
    most `limit`) where nothing was found at all.

    Args:
        regions: None gives "": the block is omitted, which is not the same as nothing found.
        question: Decides which absent phrases are said.
        box_format: How the model at hand reads boxes.
        limit: Write the first `limit` regions, and at most as many absent phrases; None for all.
        specials: The tokenizer's special tokens, which phrases must not contain.
    """
    if regions is None:
        return ""
    specials = tuple(specials)
    lines = [
        f"[R{region.index + 1}] {escape_text(region.phrase, specials)}"
        f" {box_format.encode(region.box, regions.image_size)} {score_bucket(region.score)}\n"
        for region in regions[:limit]
    ]
    absent = [p for p in regions.missing if not lines or mentions(question, p)][:limit]
    if absent or not lines:
        lines.append(
            f"No region found: {', '.join(escape_text(p, specials) for p in absent) or 'none asked'}\n"
        )
    return "".join(lines)


def escape_text(text: str, specials: Iterable[str] = ()) -> str:
    """Make text from a user, an image or a file harmless inside a prompt; ordinary text stays as it is.

    Line breaks become spaces (so that no line of the region block can be forged), invisible and control
    characters go, and anything that a tokenizer could read as a control, image or spatial token is broken by
    a space.

    Args:
        text: Any text.
        specials: The special tokens of the tokenizer at hand; none of them is left in the result.
    """
    visible = (
        c if unicodedata.category(c) not in {"Cc", "Cf", "Co", "Cs", "Zl", "Zp"} or c.isspace() else ""
        for c in text
    )
    result = " ".join("".join(visible).translate(_LOOKALIKES).split())
    result = _TOKEN_OPENING.sub(lambda match: f"{match[0]} ", result)
    return _break_tokens(result, [token for token in specials if len(token) > 1 and not token[1].isspace()])


def _break_tokens(text: str, tokens: Sequence[str]) -> str:
    """Put a space after the first character of every token that still occurs, until none does."""
    while found := next((token for token in tokens if token in text), None):
        text = text.replace(found, f"{found[0]} {found[1:]}")
    return text
