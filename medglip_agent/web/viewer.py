"""HTML of the picture with its boxes, and of the list of regions beside it. Pure functions of plain values.

Boxes are elements over the picture, placed in percent, so they stay sharp at any size and can be hovered and
cited. Each carries its score; `page.js` hides those below the slider without asking the server.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Collection
from html import escape
from typing import Final

from PIL import Image

from grounding.types import GroundedRegion, MedicalImage, Regions

from ..render import colour_of

_LONGEST_SIDE: Final = 1400  # pixels sent to the page; boxes are placed in percent and lose nothing
_LABELLED: Final = 14  # regions whose tag is always shown; the others show theirs when hovered
_MISSING_NAMED: Final = 3  # more phrases than this that were not found are folded away
# Size of a tag in percent of the picture's width, as style.css draws it (font 2.1 % of the width).
_TAG_HEIGHT: Final = 3.4
_CHARACTER: Final = 1.22

_Rect = tuple[float, float, float, float]  # x1, y1, x2, y2; but for marks in percent of the picture's width


def picture_html(
    image: MedicalImage | None,
    regions: Regions | None = None,
    *,
    cited: Collection[int] = (),
    min_score: float = 0.0,
    marked: _Rect | None = None,
) -> str:
    """Return the picture with its boxes, or an invitation where there is none.

    Args:
        image: the picture; None for none.
        regions: boxes xyxy in pixels of `image`.
        cited: indices into `regions` that the answer cites; they are drawn stronger.
        min_score: regions below it are hidden; the page can show them again.
        marked: what the user has marked, x1, y1, x2, y2 in pixels of `image`; None for nothing.
    """
    if image is None:
        return (
            '<div class="mg-empty"><strong>No image yet</strong>'
            "<span>Open a file or click an example above.</span></div>"
        )
    boxes = "" if regions is None else _boxes_html(image, regions, cited, min_score)
    ratio = image.width / image.height
    size = f'data-width="{image.width}" data-height="{image.height}"'
    return (
        f'<div class="mg-stage"><div class="mg-picture" {size} style="--ratio:{ratio:.5f}">'
        f'<img src="{_data_uri(image)}" alt="The open medical image" draggable="false">{boxes}'
        f"{'' if marked is None else _mark_html(image, marked)}</div></div>"
    )


def _mark_html(image: MedicalImage, marked: _Rect) -> str:
    """What the user has marked, as `page.js` draws it too."""
    x1, x2 = (100 * min(max(x, 0), image.width) / image.width for x in marked[::2])
    y1, y2 = (100 * min(max(y, 0), image.height) / image.height for y in marked[1::2])
    place = f"left:{x1:.2f}%;top:{y1:.2f}%;width:{x2 - x1:.2f}%;height:{y2 - y1:.2f}%"
    return f'<div class="mg-mark" style="{place}"></div>'


def regions_html(regions: Regions | None, *, cited: Collection[int] = (), min_score: float = 0.0) -> str:
    """Return the list of regions with their scores, and what was looked for and not found."""
    if regions is None:
        return '<p class="mg-hint">Regions that support the answer appear here.</p>'
    if not len(regions):
        asked = f" Looked for: {escape(', '.join(regions.asked))}." if regions.asked else ""
        return f'<p class="mg-hint">No region was found.{asked}</p>'
    rows = "".join(_row_html(region, region.index in cited, min_score) for region in regions)
    shown = int((regions.scores >= min_score).sum())
    return (
        f'<div class="mg-count"><b data-shown>{shown}</b> of {len(regions)} regions shown'
        f'{_missing_html(regions)}</div><ul class="mg-regions">{rows}</ul>'
    )


def _missing_html(regions: Regions) -> str:
    if not regions.missing:
        return ""
    names = escape(", ".join(regions.missing))
    if len(regions.missing) <= _MISSING_NAMED:
        return f" · not found: {names}"
    return f"<details><summary>{len(regions.missing)} looked for and not found</summary>{names}</details>"


def _row_html(region: GroundedRegion, cited: bool, min_score: float) -> str:
    return (
        f'<li tabindex="0" class="mg-row{" mg-cited" if cited else ""}" {_attributes(region, min_score)}>'
        f"<b>R{region.index + 1}</b><span>{escape(region.phrase)}</span><i>{region.score:.2f}</i></li>"
    )


def _boxes_html(image: MedicalImage, regions: Regions, cited: Collection[int], min_score: float) -> str:
    """Larger boxes lie below smaller ones, so that each can be hovered."""
    tags = place_tags(image, regions, cited)
    drawn = sorted(regions, key=lambda region: -_area(region))
    return "".join(
        _box_html(image, region, tags.get(region.index), region.index in cited, min_score) for region in drawn
    )


def _box_html(
    image: MedicalImage, region: GroundedRegion, tag: _Rect | None, cited: bool, min_score: float
) -> str:
    x1, y1, x2, y2 = _percent(image, region)
    height = max(y2 - y1, 0.2)
    scale = 100.0 / image.width * image.height  # the picture's height in percent of its width
    place = (
        f"left:{x1:.3f}%;top:{100 * y1 / scale:.3f}%;"
        f"width:{max(x2 - x1, 0.2):.3f}%;height:{100 * height / scale:.3f}%"
    )
    offset = (tag[0] - x1, tag[1] - y1) if tag else (0.0, -_TAG_HEIGHT if y1 > _TAG_HEIGHT else 0.0)
    text = f"R{region.index + 1} {escape(region.phrase)} {region.score:.2f}"
    classes = "mg-box" + (" mg-cited" if cited else "") + ("" if tag else " mg-quiet")
    return (
        f'<div class="{classes}" {_attributes(region, min_score, place)} title="{text}">'
        f'<span style="left:{offset[0]:.2f}cqw;top:{offset[1]:.2f}cqw">{text}</span></div>'
    )


def _attributes(region: GroundedRegion, min_score: float, style: str = "") -> str:
    red, green, blue = colour_of(region.phrase)
    ink = "#0b0f14" if 0.299 * red + 0.587 * green + 0.114 * blue > 110 else "#fff"  # ITU-R BT.601 luma
    hidden = " hidden" if region.score < min_score else ""
    return (
        f'data-region="{region.index + 1}" data-score="{region.score:.4f}" '
        f'style="--c:rgb({red},{green},{blue});--ink:{ink};{style}"{hidden}'
    )


def place_tags(image: MedicalImage, regions: Regions, cited: Collection[int] = ()) -> dict[int, _Rect]:
    """Choose places for the tags: at a corner of their box, inside the picture, clear of each other.

    Cited regions come first, then the best of each label, then by score; a tag without a free place, or
    beyond the first few, is left to hovering.

    Returns:
        Region index -> x1, y1, x2, y2 in percent of the picture's width.
    """
    best: dict[str, int] = {}
    for region in sorted(regions, key=lambda r: -r.score):
        best.setdefault(region.phrase, region.index)
    order = sorted(regions, key=lambda r: (r.index not in cited, best[r.phrase] != r.index, -r.score))
    bottom = 100.0 * image.height / image.width
    placed: dict[int, _Rect] = {}
    for region in order[:_LABELLED]:
        width = _CHARACTER * len(f"R{region.index + 1} {region.phrase} 0.00") + 1.2
        for place in _candidates(_percent(image, region), width):
            inside = place[0] >= 0 and place[1] >= 0 and place[2] <= 100 and place[3] <= bottom
            if inside and not any(_overlap(place, other) for other in placed.values()):
                placed[region.index] = place
                break
    return placed


def _candidates(box: _Rect, width: float) -> list[_Rect]:
    x1, y1, x2, y2 = box
    lefts = (x1, x2 - width)
    tops = (y1 - _TAG_HEIGHT, y1, y2, y2 - _TAG_HEIGHT)
    return [(left, top, left + width, top + _TAG_HEIGHT) for top in tops for left in lefts]


def _overlap(a: _Rect, b: _Rect) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def _percent(image: MedicalImage, region: GroundedRegion) -> _Rect:
    """Return the box, clipped to the picture, in percent of the picture's width (both axes)."""
    scale = 100.0 / image.width
    x1, y1, x2, y2 = (float(value) * scale for value in region.box)
    right, bottom = 100.0, image.height * scale
    return min(max(x1, 0), right), min(max(y1, 0), bottom), min(max(x2, 0), right), min(max(y2, 0), bottom)


def _area(region: GroundedRegion) -> float:
    x1, y1, x2, y2 = (float(value) for value in region.box)
    return (x2 - x1) * (y2 - y1)


def _data_uri(image: MedicalImage) -> str:
    """Return the picture inline: no file of it lies where another session could ask for it."""
    picture = Image.fromarray(image.pixels)
    picture.thumbnail((_LONGEST_SIDE, _LONGEST_SIDE))
    data = io.BytesIO()
    if picture.width * picture.height <= 1 << 19:
        kind = "png"
        picture.save(data, format="PNG")
    else:
        kind = "jpeg"
        picture.save(data, format="JPEG", quality=92)
    return f"data:image/{kind};base64,{base64.b64encode(data.getvalue()).decode()}"
