"""Numbered marks drawn on the image, for models without a vocabulary for boxes; and the numbers read back.

The picture keeps its size and is never mirrored, so every coordinate stays valid.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from grounding.types import MedicalImage, Regions

from .base import split
from .parsed import FoundBox, Parsed, Unread

COLOURS = ("#ffd60a", "#00d1ff", "#ff5ea8", "#5dff7a", "#ff9f1c", "#b48cff")
_MENTION = re.compile(r"\[?\bR([0-9]{1,6})\b\]?|\b(?:region|mark|box)\s+#?([0-9]{1,6})\b", re.IGNORECASE)


def draw_marks(image: MedicalImage, regions: Regions, indices: Sequence[int]) -> MedicalImage:
    """The image with the outline and the number of some regions; region i bears the number i + 1.

    Args:
        image: The picture; it is not changed.
        regions: Of this picture.
        indices: Which of them to draw.

    Raises:
        ValueError: The regions are those of an image of another size.
    """
    from PIL import Image, ImageDraw, ImageFont

    if tuple(regions.image_size) != tuple(image.size):
        raise ValueError(
            f"regions are of an image of (height, width) {regions.image_size}, got one of {image.size};"
            " draw them on the image they were found in"
        )
    picture = Image.fromarray(image.pixels)
    draw = ImageDraw.Draw(picture)
    shorter = min(image.size)
    font = ImageFont.load_default(size=max(8, round(shorter / 30)))
    line = max(1, round(shorter / 250))
    for index in indices:
        colour = COLOURS[index % len(COLOURS)]
        x1, y1, x2, y2 = mark_outline(regions, index)
        draw.rectangle((x1, y1, x2, y2), outline=colour, width=line)
        left, top, right, bottom = draw.textbbox((0, 0), str(index + 1), font=font)
        width, height = right - left + 2, bottom - top + 2
        x = max(0, min(x1, image.width - width))
        y = y1 - height if y1 >= height else max(0, min(y1, image.height - height))
        draw.rectangle((x, y, x + width - 1, y + height - 1), fill=colour)
        draw.text((x + 1 - left, y + 1 - top), str(index + 1), font=font, fill="black")
    return replace(image, pixels=np.asarray(picture), source_id="")


def mark_outline(regions: Regions, index: int) -> tuple[int, int, int, int]:
    """First and last column and row (x1, y1, x2, y2) of a region's outline, whole pixels inside the image."""
    height, width = regions.image_size
    last = np.array([width - 1, height - 1])
    corners = np.rint(regions.boxes[index].astype(np.float64))
    first = np.clip(corners[:2], 0, last)
    second = np.clip(corners[2:] - 1, first, last)
    x1, y1, x2, y2 = np.concatenate([first, second]).astype(int).tolist()
    return x1, y1, x2, y2


def parse_marks(text: str, regions: Regions) -> Parsed:
    """Read which marks a reply names, as ``[R2]``, ``R2``, ``region 2`` or ``mark 2``; each once."""
    pieces: dict[int, FoundBox | Unread] = {}
    for mention in _MENTION.finditer(text):
        number = int(mention[1] or mention[2])
        if 1 <= number <= len(regions):
            found = FoundBox(regions.boxes[number - 1], regions.phrases[number - 1], mention[0])
            pieces.setdefault(number, found)
        else:
            reason = f"there is no region {number}: they are numbered 1 to {len(regions)}"
            pieces.setdefault(number, Unread(mention[0], reason if len(regions) else "there are no regions"))
    return split(list(pieces.values()))
