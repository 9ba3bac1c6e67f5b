"""Draws regions onto a picture: box, [Rn], label, score. Knows PIL and `Regions`, nothing else."""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Final

from grounding.types import GroundedRegion, MedicalImage, Regions

if TYPE_CHECKING:
    from PIL import Image

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

_COLOUR_SEED: Final = 33714  # chosen so that the abdominal organs of one CT slice differ
_LEFT_SHIFT: Final = 5
_ENLARGE_BELOW: Final = 320  # pixels of the shorter side; smaller pictures are enlarged by a whole factor
_CROWD: Final = 4  # more regions of one label than this get short marks
_PAD: Final = 2  # pixels round a label's text
_COST_OF_DISTANCE: Final = 0.25  # a label height away from the box, against 1 for a label full of boxes
_Rect = tuple[int, int, int, int]  # x1, y1, x2, y2 in pixels of the drawn picture


def colour_of(phrase: str) -> Colour:
    """Return the colour of a label: the same in every picture, its left another than its right."""
    organ = phrase.removeprefix("left ")
    index = zlib.crc32(organ.removeprefix("right ").encode(), _COLOUR_SEED)
    return PALETTE[(index + (_LEFT_SHIFT if organ != phrase else 0)) % len(PALETTE)]


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
    font = ImageFont.load_default(size=max(11, round(min(picture.size) / 38)))
    line = max(2, round(min(picture.size) / 250))
    chosen = [r for r in regions if r.score >= min_score and (only is None or r.index in only)]
    boxes = {r.index: _box(r, scale, picture.size) for r in chosen}
    for region in sorted(chosen, key=lambda r: r.score):  # the surest on top
        draw.rectangle(boxes[region.index], outline=colour_of(region.phrase), width=line)
    taken: list[_Rect] = []
    for index, text in _captions(chosen).items():
        left, top, right, bottom = draw.textbbox((0, 0), text, font=font)
        label = (round(right - left) + 2 * _PAD, round(bottom - top) + 2 * _PAD)
        place = _free_place(boxes[index], label, picture.size, taken, list(boxes.values()))
        taken.append(place)
        colour = colour_of(regions.phrases[index])
        draw.rectangle(place, fill=colour)
        corner = (place[0] + _PAD - left, place[1] + _PAD - top)
        draw.text(corner, text, font=font, fill=_ink(colour))
    return picture


def _box(region: GroundedRegion, scale: int, size: tuple[int, int]) -> _Rect:
    """Return the box in whole pixels of the drawn picture, at least 1 px and inside it."""
    width, height = size
    x1, y1, x2, y2 = (round(float(value) * scale) for value in region.box)
    x1, y1 = min(max(x1, 0), width - 1), min(max(y1, 0), height - 1)
    return x1, y1, min(max(x2 - 1, x1), width - 1), min(max(y2 - 1, y1), height - 1)


def _captions(chosen: Sequence[GroundedRegion]) -> dict[int, str]:
    """Return index -> text, the surest first; a crowd is named once, its others are told by their colour."""
    crowds = {phrase for phrase, count in Counter(r.phrase for r in chosen).items() if count > _CROWD}
    captions: dict[int, str] = {}
    named: set[str] = set()
    for region in sorted(chosen, key=lambda r: -r.score):
        mark = f"[R{region.index + 1}]"
        short = region.phrase in crowds and region.phrase in named
        captions[region.index] = mark if short else f"{mark} {region.phrase} {region.score:.2f}"
        named.add(region.phrase)
    return captions


def _free_place(
    box: _Rect, label: tuple[int, int], size: tuple[int, int], taken: Sequence[_Rect], boxes: Sequence[_Rect]
) -> _Rect:
    """Return where the label goes: inside the picture, clear of other labels, near, covering few boxes.

    The places are the corners of its own box, then further down and up along the box's left edge.
    """
    x1, y1, x2, y2 = box
    width, height = label
    corners = [(x1, y1 - height), (x1, y2 + 1), (x2 - width, y1 - height), (x2 - width, y2 + 1)]
    corners += [(x1, y1), (x1, y2 - height), (x2 - width, y1), (x2 - width, y2 - height)]
    down = [(x1, y) for y in range(y2 + height + 2, size[1], height + 1)]
    up = [(x1, y) for y in range(y1 - 2 * height - 1, 0, -height - 1)]
    places = [_inside(corner, label, size) for corner in corners + down + up]

    def cost(place: _Rect) -> tuple[int, float]:
        covered = sum(_shared(place, other) for other in boxes) / (width * height)
        away = max(0, place[1] - y2 - 1, y1 - place[3]) / height
        return sum(_shared(place, other) for other in taken), covered + _COST_OF_DISTANCE * away

    return min(places, key=cost)


def _inside(corner: tuple[int, int], label: tuple[int, int], size: tuple[int, int]) -> _Rect:
    x = max(0, min(corner[0], size[0] - 1 - label[0]))
    y = max(0, min(corner[1], size[1] - 1 - label[1]))
    return x, y, x + label[0], y + label[1]


def _shared(a: _Rect, b: _Rect) -> int:
    """Return the area that two rectangles share, in pixels."""
    width = min(a[2], b[2]) - max(a[0], b[0]) + 1
    height = min(a[3], b[3]) - max(a[1], b[1]) + 1
    return max(0, width) * max(0, height)


def _ink(background: Colour) -> Colour:
    """Return black or white, whichever reads better (ITU-R BT.601 luma)."""
    red, green, blue = background
    return (0, 0, 0) if 0.299 * red + 0.587 * green + 0.114 * blue > 128 else (255, 255, 255)
