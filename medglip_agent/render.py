"""Draws regions onto a picture: box, [Rn], label, score. Knows PIL and `Regions`, nothing else."""

from __future__ import annotations

import zlib
from collections.abc import Collection
from typing import TYPE_CHECKING, Final

from grounding.ontology import Ontology
from grounding.types import GroundedRegion, MedicalImage, Regions

if TYPE_CHECKING:
    from PIL import Image, ImageDraw, ImageFont

Colour = tuple[int, int, int]

# Okabe and Ito's colours (distinct to colour-blind readers) without black, and four light ones.
PALETTE: Final[tuple[Colour, ...]] = (
    (230, 159, 0),
    (86, 180, 233),
    (0, 158, 115),
    (240, 228, 66),
    (0, 114, 178),
    (213, 94, 0),
    (204, 121, 167),
    (166, 216, 84),
    (255, 127, 127),
    (141, 211, 199),
    (190, 174, 212),
)

_ENLARGE_BELOW: Final = 320  # pixels of the shorter side; smaller pictures are enlarged by a whole factor
_Rect = tuple[int, int, int, int]  # x1, y1, x2, y2 in pixels of the drawn picture


def colour_of(phrase: str) -> Colour:
    """Return the colour of a label: the same in every picture."""
    names = Ontology.load().names
    index = names.index(phrase) if phrase in names else zlib.crc32(phrase.encode())
    return PALETTE[index % len(PALETTE)]


def draw_regions(
    image: MedicalImage,
    regions: Regions,
    *,
    min_score: float = 0.0,
    only: Collection[int] | None = None,
) -> Image.Image:
    """Return the picture with the regions drawn on it.

    Args:
        image: the picture; one whose shorter side is below 320 px is enlarged by a whole factor.
        regions: boxes xyxy in pixels of `image`; region i is marked [R(i+1)], whatever is left out.
        min_score: regions below it are left out.
        only: indices of the regions to draw; None for all.

    Raises:
        ValueError: the regions are those of an image of another size.
    """
    from PIL import Image, ImageDraw, ImageFont

    if regions.image_size != image.size:
        raise ValueError(
            f"regions are of an image of (height, width) {regions.image_size}, got one of {image.size}: "
            "draw them on the image they were found in"
        )
    scale = max(1, -(-_ENLARGE_BELOW // min(image.size)))
    picture = Image.fromarray(image.pixels).resize((image.width * scale, image.height * scale))
    draw = ImageDraw.Draw(picture)
    font = ImageFont.load_default(size=max(11, round(min(picture.size) / 32)))
    line = max(2, round(min(picture.size) / 250))
    chosen = [r for r in regions if r.score >= min_score and (only is None or r.index in only)]
    boxes = {r.index: _box(r, scale, picture.size) for r in chosen}
    for region in sorted(chosen, key=lambda r: r.score):  # the surest on top
        draw.rectangle(boxes[region.index], outline=colour_of(region.phrase), width=line)
    taken: list[_Rect] = []
    for region in sorted(chosen, key=lambda r: -r.score):  # the surest first chooses its label's place
        _draw_label(draw, font, region, boxes[region.index], taken)
    return picture


def _box(region: GroundedRegion, scale: int, size: tuple[int, int]) -> _Rect:
    """Return the box in whole pixels of the drawn picture, at least 1 px and inside it."""
    width, height = size
    x1, y1, x2, y2 = (round(float(value) * scale) for value in region.box)
    x1, y1 = min(max(x1, 0), width - 1), min(max(y1, 0), height - 1)
    return x1, y1, min(max(x2 - 1, x1), width - 1), min(max(y2 - 1, y1), height - 1)


def _draw_label(
    draw: ImageDraw.ImageDraw,
    font: ImageFont.FreeTypeFont | ImageFont.ImageFont,
    region: GroundedRegion,
    box: _Rect,
    taken: list[_Rect],
) -> None:
    text = f"[R{region.index + 1}] {region.phrase} {region.score:.2f}"
    left, top, right, bottom = draw.textbbox((0, 0), text, font=font)
    pad = 2
    size = (round(right - left) + 2 * pad, round(bottom - top) + 2 * pad)
    place = _free_place(box, size, draw.im.size, taken)
    taken.append(place)
    colour = colour_of(region.phrase)
    draw.rectangle(place, fill=colour)
    draw.text((place[0] + pad - left, place[1] + pad - top), text, font=font, fill=_ink(colour))


def _free_place(box: _Rect, label: tuple[int, int], size: tuple[int, int], taken: list[_Rect]) -> _Rect:
    """Return where the label goes: at a corner of its box, inside the picture, clear of other labels."""
    x1, y1, x2, y2 = box
    width, height = label
    corners = [(x1, y1 - height), (x1, y2 + 1), (x1, y1), (x2 - width, y1 - height), (x2 - width, y2 + 1)]
    corners += [(x1, y2 - height), (x2 - width, y1), (x2 - width, y2 - height)]
    steps = [(x1, y) for y in range(y1, size[1], height + 1)] + [(x1, y) for y in range(0, y1, height + 1)]
    candidates = [_inside(corner, label, size) for corner in corners + steps]
    inside = [place for place, exact in zip(candidates, corners + steps, strict=True) if place[:2] == exact]
    for place in inside + candidates:
        if not any(_overlap(place, other) for other in taken):
            return place
    return candidates[0]


def _inside(corner: tuple[int, int], label: tuple[int, int], size: tuple[int, int]) -> _Rect:
    x = max(0, min(corner[0], size[0] - 1 - label[0]))
    y = max(0, min(corner[1], size[1] - 1 - label[1]))
    return x, y, x + label[0], y + label[1]


def _overlap(a: _Rect, b: _Rect) -> bool:
    return a[0] <= b[2] and b[0] <= a[2] and a[1] <= b[3] and b[1] <= a[3]


def _ink(background: Colour) -> Colour:
    """Return black or white, whichever reads better (ITU-R BT.601 luma)."""
    red, green, blue = background
    return (0, 0, 0) if 0.299 * red + 0.587 * green + 0.114 * blue > 128 else (255, 255, 255)
