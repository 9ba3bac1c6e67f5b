"""Contact sheets of a built data set: pictures drawn by seed, with their boxes, masks and labels.

Owns the choice of the pictures and the look of a sheet. Knows PIL and native rows, no model and no source.
Pictures are never mirrored; where the orientation is known, the sheet says which side is the patient's.
"""

from __future__ import annotations

import colorsys
import hashlib
import heapq
import math
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow.parquet as pq
from PIL import Image, ImageDraw, ImageFont

from ...ontology import Ontology
from ..readers.segmentation import mask_of
from ..records import UnitError
from ..schema import SCHEMA, shard_paths

Colour = tuple[int, int, int]
Row = Mapping[str, Any]

TILE: Final = 360  # pixels of a picture's longer side on the sheet
_GAP: Final = 14
_LINE: Final = 18  # pixels a line of caption
_MOST_LABELS: Final = 20
_MASK_OPACITY: Final = 0.32
_MOST_TINTED: Final = 1 / 3  # of the picture: a larger mask would hide what kind of picture it is
_PAPER: Final = (250, 250, 248)
_INK: Final = (30, 30, 30)
_FAINT: Final = (110, 110, 110)
_GOLDEN: Final = 0.618034  # neighbours on the list of labels, such as left and right, get far hues
_LUMA: Final = np.array([0.299, 0.587, 0.114])  # ITU-R BT.601
_LEAST_LUMA: Final = 0.5
_OFFERS: Final = 40  # colours that a label may move on to
_APART: Final = 85.0  # distance in RGB at which two colours are told apart


@dataclass(frozen=True)
class Filter:
    """Which rows may be drawn; None lets everything pass.

    Attributes:
        label: name of a label that the picture must have a region of.
        modality: DICOM code.
        split: train, val or test.
        dataset: name of the source.
    """

    label: str | None = None
    modality: str | None = None
    split: str | None = None
    dataset: str | None = None

    def passes(self, row: Row) -> bool:
        """Whether a native row has what is asked for."""
        wanted = ("modality", "split", "dataset")
        return all(getattr(self, name) in (None, row[name]) for name in wanted) and (
            self.label is None or any(region["label"] == self.label for region in row["regions"])
        )


def choose(folder: Path, count: int, seed: int, wanted: Filter | None = None) -> list[dict[str, Any]]:
    """Rows with pixels, drawn by seed from those that pass; all of them where there are fewer.

    A picture's rank depends on the seed and its id alone, so it stays when others are added.

    Raises:
        FileNotFoundError: the folder is no built data set.
        ValueError: no row passes.
    """
    wanted = wanted or Filter()
    paths = shard_paths(folder, wanted.split)
    columns = [name for name in SCHEMA.names if name != "image"]
    places = heapq.nsmallest(
        count,
        (
            (_rank(row["image_id"], seed), str(path), row["image_id"])
            for path in paths
            for row in _rows(path, columns)
            if wanted.passes(row)
        ),
    )
    if not places:
        asked = ", ".join(f"{name} {value!r}" for name, value in vars(wanted).items() if value is not None)
        raise ValueError(f"no picture in {folder} with {asked or 'anything in it'}; see medglip data stats")
    found: dict[str, dict[str, Any]] = {}
    for path in {path for _, path, _ in places}:
        ids = [image_id for _, place, image_id in places if place == path]
        table = pq.read_table(path, filters=[("image_id", "in", ids)])
        found |= {row["image_id"]: row for row in table.to_pylist()}
    return [found[image_id] for _, _, image_id in places]


def _rows(path: Path, columns: Sequence[str]) -> Iterator[dict[str, Any]]:
    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches(batch_size=256, columns=list(columns)):
            yield from batch.to_pylist()


def _rank(image_id: str, seed: int) -> str:
    return hashlib.sha256(f"{seed}/{image_id}".encode()).hexdigest()


def palette(labels: Iterable[str]) -> dict[str, Colour]:
    """A colour for each label, bright enough for dark pictures.

    A label has a colour of its own, the same on every sheet, unless that is too like the colour of an earlier
    label (in the ontology's order) among these; then it moves on to the next one that is free.
    """
    places = {name: place for place, name in enumerate(Ontology.load().names)}
    chosen: dict[str, Colour] = {}
    for label in sorted(set(labels), key=lambda label: (places.get(label, len(places)), label)):
        place = places.get(label, zlib.crc32(label.encode()) % 997)
        offers = [_colour(place + step) for step in range(_OFFERS)]
        gaps = [min((math.dist(o, taken) for taken in chosen.values()), default=_APART) for o in offers]
        first_free = max(range(_OFFERS), key=lambda step: min(gaps[step], _APART))
        chosen[label] = offers[first_free]
    return chosen


def _colour(place: int) -> Colour:
    """The hues run round the circle in golden steps, in a deep and a pale row."""
    colour = np.array(colorsys.hsv_to_rgb(place * _GOLDEN % 1.0, *((0.85, 1.0), (0.55, 0.85))[place % 2]))
    luma = float(colour @ _LUMA)
    colour += (1 - colour) * max((_LEAST_LUMA - luma) / (1 - luma), 0.0)  # as much white as is missing
    red, green, blue = np.round(colour * 255).astype(int).tolist()
    return red, green, blue


def contact_sheet(rows: Sequence[Row], columns: int | None = None) -> Image.Image:
    """A sheet with one tile a row: the annotated picture over its caption.

    Args:
        rows: native rows with pixels.
        columns: tiles beside each other; None chooses a sheet that is a little wider than high.

    Raises:
        ValueError: there are no rows, or a picture does not decode.
    """
    if not rows:
        raise ValueError("expected at least one row to draw, got none")
    columns = min(columns or math.ceil(math.sqrt(len(rows) * 1.3)), len(rows))
    colours = palette(region["label"] for row in rows for region in row["regions"])
    strips = [_strip(rows[start : start + columns], colours) for start in range(0, len(rows), columns)]
    width = max(strip.width for strip in strips)
    sheet = Image.new("RGB", (width + _GAP, sum(strip.height for strip in strips) + _GAP), _PAPER)
    top = _GAP
    for strip in strips:
        sheet.paste(strip, (_GAP, top))
        top += strip.height
    return sheet


def _strip(rows: Sequence[Row], colours: Mapping[str, Colour]) -> Image.Image:
    """Tiles beside each other, as high as the highest picture and the longest caption need."""
    pictures = [draw_row(row, colours) for row in rows]
    captions = [draw_caption(row, colours) for row in rows]
    high = max(picture.height for picture in pictures)
    height = high + max(caption.height for caption in captions) + _GAP
    strip = Image.new("RGB", (len(rows) * (TILE + _GAP), height), _PAPER)
    for number, (picture, caption) in enumerate(zip(pictures, captions, strict=True)):
        left = number * (TILE + _GAP)
        strip.paste(picture, (left + (TILE - picture.width) // 2, high - picture.height))
        strip.paste(caption, (left, high))
    return strip


def draw_row(row: Row, colours: Mapping[str, Colour], size: int = TILE) -> Image.Image:
    """The picture of a row, its longer side `size` pixels, with translucent masks and boxes over it.

    Args:
        row: a native row with pixels.
        colours: of every label in it, see :func:`palette`.
        size: pixels.

    Raises:
        ValueError: the picture or a mask does not decode.
    """
    try:
        with Image.open(BytesIO(row["image"]["bytes"])) as file:
            picture = file.convert("RGB")
    except (OSError, SyntaxError) as error:
        raise ValueError(f"{row['image_id']}: picture does not decode ({error}); run data check") from error
    scale = size / max(picture.size)
    shown = (max(round(picture.width * scale), 1), max(round(picture.height * scale), 1))
    picture = picture.resize(shown, Image.Resampling.LANCZOS)
    regions = sorted(row["regions"], key=lambda region: -_area(region["box"]))  # small ones on top
    for region in regions:
        if region["mask"] and region["area"] < _MOST_TINTED * row["height"] * row["width"]:
            _lay_mask(picture, row, region, colours[region["label"]])
    draw = ImageDraw.Draw(picture)
    for region in regions:
        x1, y1, x2, y2 = _on_picture(region["box"], scale, shown)
        draw.rectangle((x1 - 1, y1 - 1, x2 + 1, y2 + 1), outline="black")  # so that it shows on bright tissue
        draw.rectangle((x1, y1, x2, y2), outline=colours[region["label"]], width=2)
    _write_sides(draw, row["orientation"] or (), shown)
    return picture


def _area(box: Sequence[float]) -> float:
    return (box[2] - box[0]) * (box[3] - box[1])


def _on_picture(box: Sequence[float], scale: float, shown: tuple[int, int]) -> tuple[int, int, int, int]:
    """A box in whole pixels of the shown picture, inside it and the right way round."""
    x1, y1, x2, y2 = (round(value * scale) for value in box)
    left, top = min(max(x1, 0), shown[0] - 1), min(max(y1, 0), shown[1] - 1)
    return left, top, max(left, min(x2 - 1, shown[0] - 1)), max(top, min(y2 - 1, shown[1] - 1))


def _lay_mask(picture: Image.Image, row: Row, region: Mapping[str, Any], colour: Colour) -> None:
    size = (row["height"], row["width"])
    try:
        mask = mask_of({"size": list(size), "counts": region["mask"]}, size, region["label"])
    except UnitError as error:
        raise ValueError(f"{row['image_id']}: {error}; run data check") from error
    opacity = Image.fromarray(np.asarray(mask) * np.uint8(round(255 * _MASK_OPACITY)))
    picture.paste(colour, mask=opacity.resize(picture.size, Image.Resampling.BILINEAR))


def _write_sides(draw: ImageDraw.ImageDraw, orientation: Sequence[str], shown: tuple[int, int]) -> None:
    """The patient's directions at the right and lower edge, and their opposites across."""
    if len(orientation) != 2:
        return
    opposite = str.maketrans("LRAPHF", "RLPAFH")
    right, down = orientation
    places: dict[str, tuple[tuple[float, float], str]] = {
        "right": ((shown[0] - 4, shown[1] / 2), "rm"),
        "left": ((4, shown[1] / 2), "lm"),
        "down": ((shown[0] / 2, shown[1] - 4), "mb"),
        "up": ((shown[0] / 2, 4), "mt"),
    }
    letters = {"right": right, "left": right.translate(opposite)}
    letters |= {"down": down, "up": down.translate(opposite)}
    for edge, text in letters.items():
        place, anchor = places[edge]
        draw.text(
            place, text, fill="white", font=_font(15), anchor=anchor, stroke_width=2, stroke_fill="black"
        )


def caption_entries(row: Row, colours: Mapping[str, Colour]) -> list[tuple[str, Colour]]:
    """The labels of a picture with side and count, and their colours, the most frequent first."""
    counts = Counter((region["label"], region["side"]) for region in row["regions"])
    entries = []
    for (label, side), count in counts.most_common():
        told = label if not side or side in label.split() else f"{label}, {side}"
        entries.append((told if count == 1 else f"{told} ({count})", colours[label]))
    return entries


def draw_caption(row: Row, colours: Mapping[str, Colour]) -> Image.Image:
    """What is written under a picture: what it is, its labels in their colours, and what is absent."""
    page = Image.new("RGB", (TILE, 2000), _PAPER)
    draw = ImageDraw.Draw(page)
    place = " ".join(part for part in (row["modality"] or "modality not known", row["axis"]) if part)
    draw.text((0, 5), f"{place}, {row['split']}", fill=_INK, font=_font(14))
    name = _fitting(row["image_id"], draw, TILE - draw.textlength(f"{place}, {row['split']}", _font(14)) - 12)
    draw.text((TILE, 5), name, fill=_FAINT, font=_font(13), anchor="ra")
    entries = caption_entries(row, colours)
    x, y = 0, 5 + _LINE
    for text, colour in entries[:_MOST_LABELS]:
        text = _fitting(text, draw, TILE - 17)
        width = 17 + round(draw.textlength(text, _font(13)))
        if x and x + width > TILE:
            x, y = 0, y + _LINE
        draw.rectangle((x, y + 3, x + 10, y + 13), fill=colour, outline=_INK)
        draw.text((x + 16, y), text, fill=_INK, font=_font(13))
        x += width + 12
    rest = f"and {len(entries) - _MOST_LABELS} more labels" if len(entries) > _MOST_LABELS else ""
    absent = f"absent: {', '.join(row['absent_labels'])}" if row["absent_labels"] else ""
    for text in ("no region" if not entries else rest, absent):
        if text:
            y += _LINE if x else 0
            x = 1
            draw.text((0, y), _fitting(text, draw, TILE), fill=_FAINT, font=_font(13))
    return page.crop((0, 0, TILE, y + _LINE + 4))


def _fitting(text: str, draw: ImageDraw.ImageDraw, room: float) -> str:
    """The text, its end cut until it fits `room` pixels."""
    if draw.textlength(text, _font(13)) <= room:
        return text
    while text and draw.textlength(f"{text}...", _font(13)) > room:
        text = text[:-1]
    return f"{text}..."


@cache
def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size=size)
