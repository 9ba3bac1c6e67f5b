"""The regions of an image as lines of a prompt: which ones, in what order, and what is said of each.

Knows a model family only through its `PromptStyle`. Phrases and questions are data: they are escaped.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from grounding.types import GroundedRegion, MedicalImage, Regions

from .base import BoxFormat
from .crops import crop_panel
from .escape import escape_text
from .florence import FlorenceBoxes
from .gemma import GemmaBoxes, pad_to_square
from .kosmos import KosmosBoxes
from .overlay import draw_marks
from .paligemma import PaliGemmaBoxes
from .position import halves, ninth, relative_position, side, size_ranks
from .qwen import Qwen3Boxes, Qwen25Boxes
from .text import TextBoxes
from .tokens import LocTokens

HIGH_SCORE = 0.6
MEDIUM_SCORE = 0.4

Picture = Literal["plain", "marks", "crops", "square"]
Orientation = tuple[str, str] | None

_SEEN = {
    "marks": "each is outlined on the image and numbered, [R1] bears the number 1",
    "crops": "the image shows the whole first, then an enlarged crop of each, [R1] under R1",
}


@dataclass(frozen=True)
class PromptStyle:
    """What a model family wants to read.

    Attributes:
        box_format: How boxes are written; None writes no coordinates.
        region_limit: The most regions in a prompt, None for all.
        detailed: Explain the coordinates in a first line, put the regions that the question names first, say
            side and position of each, and say what was cut. False is the short form that nano was trained on.
        located: Say after each box in which ninth and halves of the picture its centre lies, and how large it
            is among the regions listed.
        picture: What the model sees: the image itself, numbered marks drawn on it, a panel of crops, or the
            image padded to a square.
    """

    box_format: BoxFormat | None
    region_limit: int | None
    detailed: bool = False
    located: bool = False
    picture: Picture = "plain"


NANO_STYLE = PromptStyle(LocTokens(), region_limit=6, located=True)
TEXT_STYLE = PromptStyle(TextBoxes(), region_limit=40, detailed=True)

STYLES = {
    "medglip-nano-vlm": NANO_STYLE,
    "qwen3_vl": PromptStyle(Qwen3Boxes(), 40, detailed=True),
    "qwen2_5_vl": PromptStyle(Qwen25Boxes(), 40, detailed=True),
    "paligemma": PromptStyle(PaliGemmaBoxes(), 20, detailed=True),
    "florence2": PromptStyle(FlorenceBoxes(), 20, detailed=True),
    "kosmos-2": PromptStyle(KosmosBoxes(), 20, detailed=True),
    "gemma3": PromptStyle(GemmaBoxes(), 40, detailed=True),
    "medgemma": PromptStyle(GemmaBoxes(padded=True), 40, detailed=True, picture="square"),
    "loc": PromptStyle(LocTokens(), 40, detailed=True),
    "text": TEXT_STYLE,
    "marks": PromptStyle(None, 12, detailed=True, picture="marks"),
    "crops": PromptStyle(None, 8, detailed=True, picture="crops"),
}
"""Styles by transformers' `model_type`, and by names that a configuration may choose for any model."""


def score_bucket(score: float) -> str:
    """Name a detection score in [0, 1]: ``high`` from 0.6, ``medium`` from 0.4, else ``low``."""
    return "high" if score >= HIGH_SCORE else "medium" if score >= MEDIUM_SCORE else "low"


def mentions(question: str, phrase: str) -> bool:
    """Whether the last word of a phrase (its head noun) stands in the question, singular or plural."""
    return any(word.removesuffix("s") in _words(question) for word in phrase.lower().split()[-1:])


def choose_regions(regions: Regions, question: str, style: PromptStyle) -> tuple[int, ...]:
    """The indices of the regions that a prompt shows, in its order.

    In the detailed form those whose whole phrase the question names come first, then those whose head noun
    it names, then the others, each by falling score; in the short form the given order is kept.
    """
    order = range(len(regions.found))
    if style.detailed:
        ranks = [-_relevance(phrase, question) for phrase in regions.phrases]
        return tuple(sorted(order, key=lambda i: (ranks[i], -float(regions.scores[i]), i)))[
            : style.region_limit
        ]
    return tuple(order)[: style.region_limit]


def region_block(
    regions: Regions | None,
    question: str,
    style: PromptStyle,
    *,
    orientation: Orientation = None,
    specials: Iterable[str] = (),
) -> str:
    """Write the regions as lines ``[R1] right lung <loc_012><loc_030><loc_048><loc_060> high``.

    ``[R2]`` is ``regions[1]`` wherever it stands. Phrases without a region are said as ``No region found:
    spleen``: those that the question mentions, and all that were asked (at most the style's limit) where
    nothing was found at all. A doubted region stands there: ``No region found: spleen, if any <loc_012>..``.

    Args:
        regions: None gives "": the block is omitted, which is not the same as nothing found.
        question: Decides which absent phrases are said and, in the detailed form, what comes first.
        style: How the model at hand reads regions.
        orientation: That of the image, None where unknown; only the detailed form says sides.
        specials: The tokenizer's special tokens, which phrases must not contain.
    """
    if regions is None:
        return ""
    specials = tuple(specials)
    found, guesses, size = regions.found, regions.guesses, regions.image_size
    listed = list(found)
    chosen = [listed[index] for index in choose_regions(found, question, style)]
    ranks = size_ranks([region.box for region in chosen]) if style.located else [""] * len(chosen)
    lines = [
        _line(region, size, style, orientation, specials, rank)
        for region, rank in zip(chosen, ranks, strict=True)
    ]
    absent = [p for p in found.missing if not lines or mentions(question, p)][: style.region_limit]
    if style.detailed and lines:
        lines = [f"{_heading(style)}\n", *lines]
        if left := len(found) - len(chosen):
            lines.append(f"Not listed: {left} less relevant region{'s' * (left > 1)}\n")
    without = [escape_text(p, specials) for p in absent if p not in guesses]
    if without or not (lines or absent):
        lines.append(f"No region found: {', '.join(without) or 'none asked'}\n")
    for phrase in absent:
        if phrase in guesses:
            where = ", ".join(_place(guesses[phrase], size, style, orientation))
            lines.append(f"No region found: {escape_text(phrase, specials)}, if any {where}\n")
    return "".join(lines)


def show_regions(
    image: MedicalImage, regions: Regions | None, question: str, style: PromptStyle
) -> MedicalImage:
    """The picture that goes with the region block of the same regions, question and style."""
    if style.picture == "square":
        return pad_to_square(image)
    if regions is None or style.picture == "plain":
        return image
    chosen = choose_regions(regions, question, style)
    if style.picture == "marks":
        return draw_marks(image, regions, chosen)
    return crop_panel(image, regions, chosen).image


def _line(
    region: GroundedRegion,
    image_size: tuple[int, int],
    style: PromptStyle,
    orientation: Orientation,
    specials: tuple[str, ...],
    rank: str,
) -> str:
    """One region: its index, phrase, box and score bucket, and where the style says so its place and size."""
    words = [f"[R{region.index + 1}]", escape_text(region.phrase, specials)]
    box, *places = _place(region.box, image_size, style, orientation)
    words += [box] if box else []
    words.append(score_bucket(region.score) + " score" * style.detailed)
    return ", ".join([" ".join(words), *places, *filter(None, [rank])]) + "\n"


def _place(
    box: NDArray[np.float32], image_size: tuple[int, int], style: PromptStyle, orientation: Orientation
) -> list[str]:
    """A box as the style writes it ("" where it writes none), then what it says of where it lies."""
    places = [style.box_format.encode(box, image_size) if style.box_format is not None else ""]
    if style.detailed:
        places += filter(None, (f(box, image_size, orientation) for f in (side, relative_position)))
    if style.located:
        places += [ninth(box, image_size), " ".join(halves(box, image_size))]
    return places


def _heading(style: PromptStyle) -> str:
    """The first line of the detailed form: what follows, and how its coordinates are to be read."""
    legend = style.box_format.legend if style.box_format else _SEEN.get(style.picture, "")
    return f"Regions that a detector found ({legend}):" if legend else "Regions that a detector found:"


def _relevance(phrase: str, question: str) -> int:
    """2 where the question has every word of the phrase, 1 where it has its head noun, else 0."""
    words = _words(phrase)
    return 2 if words and words <= _words(question) else int(mentions(question, phrase))


def _words(text: str) -> set[str]:
    """The words of a text in lower case and the singular."""
    return {word.removesuffix("s") for word in re.findall(r"[a-z]+", text.lower())}
