"""Boxes as JSON objects with a label: what the Qwen and Gemma families share, whatever their numbers mean."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from numpy.typing import ArrayLike

from .base import BoxFormat, split
from .escape import escape_text
from .parsed import FoundBox, Parsed, Unread

_SHOWN = 120  # characters of a reply that a complaint quotes


class JsonBoxes(BoxFormat):
    """A family that writes ``{"key": [four numbers], "label": "heart"}``.

    A reply may hold one object, a list, or objects nested in others, inside or outside a ``json`` fence.
    Where it is cut off or malformed, each object with all its numbers is still read.
    """

    key: str
    y_first: bool

    def encode(self, box: ArrayLike, image_size: tuple[int, int]) -> str:
        """Write a box (xyxy pixels) as an object without a label."""
        return json.dumps({self.key: self._numbers(box, image_size)})

    def encode_answer(
        self, boxes: Sequence[ArrayLike], labels: Sequence[str], image_size: tuple[int, int]
    ) -> str:
        """Write a fenced list of objects with labels; an empty list for no box."""
        objects = [
            {self.key: self._numbers(box, image_size), "label": escape_text(label)}
            for box, label in zip(boxes, labels, strict=True)
        ]
        lines = ",\n".join("\t" + json.dumps(item, ensure_ascii=False) for item in objects)
        return f"```json\n[\n{lines}\n]\n```" if objects else "```json\n[]\n```"

    def parse(self, text: str, image_size: tuple[int, int]) -> Parsed:
        """Read every object of a reply."""
        pieces = (
            item if isinstance(item, Unread) else self._read(item, image_size)
            for item in _objects(text, self.key)
        )
        return split(list(pieces))

    def _numbers(self, box: ArrayLike, image_size: tuple[int, int]) -> list[int]:
        """The family's four numbers of a box, in its order."""
        x1, y1, x2, y2 = self.grid(image_size).write(box)
        return [y1, x1, y2, x2] if self.y_first else [x1, y1, x2, y2]

    def _read(self, item: _Object, image_size: tuple[int, int]) -> FoundBox | Unread:
        """The box of an object, or why there is none."""
        numbers, label = item.fields[self.key], item.fields.get("label")
        if not isinstance(numbers, list) or len(numbers) != 4 or not all(map(_is_number, numbers)):
            return Unread(item.text, f"{self.key} must be a list of 4 numbers")
        a, b, c, d = numbers
        words = " ".join(label.split()) if isinstance(label, str) else ""
        piece = self.read_box((b, a, d, c) if self.y_first else (a, b, c, d), image_size, item.text, words)
        if item.note and isinstance(piece, FoundBox):
            return replace(piece, note="; ".join(filter(None, (piece.note, item.note))))
        return piece


@dataclass(frozen=True)
class _Object:
    """A JSON object that has the family's key, as it stands in the reply."""

    fields: dict[str, Any]
    text: str
    note: str = ""


def _objects(text: str, key: str) -> Iterator[_Object | Unread]:
    """The JSON objects of a text that have the key, in order, and what else begins like one."""
    decoder = json.JSONDecoder()
    at = 0
    while (start := text.find("{", at)) >= 0:
        try:
            value, at = decoder.raw_decode(text, start)
        except (ValueError, RecursionError):
            following = text.find("{", start + 1)
            at = following if following >= 0 else len(text)
            yield from _salvaged(text[start:at].strip(), key, is_last=following < 0)
        else:
            shown = text[start:at][:_SHOWN]
            yield from (_Object(fields, shown) for fields in _with_key(value, key))


def _with_key(value: Any, key: str) -> Iterator[dict[str, Any]]:
    """The objects inside a JSON value that have the key, in order."""
    waiting = [value]
    while waiting:
        item = waiting.pop()
        if isinstance(item, dict) and key in item:
            yield item
        elif isinstance(item, dict | list):
            waiting += reversed(list(item.values() if isinstance(item, dict) else item))


def _salvaged(piece: str, key: str, *, is_last: bool) -> Iterator[_Object | Unread]:
    """What an object that is no JSON still says: its numbers where all four are there, its label if any."""
    cut = is_last and "}" not in piece
    reason = "the reply is cut off" if cut else "not JSON"
    if f'"{key}"' not in piece:
        if cut and f'"{key}"'.startswith(piece[1:].strip()):
            yield Unread(piece, reason)
        return
    numbers = re.search(
        rf'"{re.escape(key)}"\s*:\s*\[((?:\s*-?[0-9]{{1,9}}(?:\.[0-9]{{1,9}})?\s*[,\]]){{4}})', piece
    )
    if numbers is None or not numbers[1].endswith("]"):
        yield Unread(piece[:_SHOWN], f"{reason}, and there are no four numbers to read")
        return
    label = re.search(r'"label"\s*:\s*"([^"\\]*)"', piece)
    fields = {
        key: [float(number) for number in numbers[1][:-1].split(",")],
        "label": label[1] if label else "",
    }
    yield _Object(fields, piece[:_SHOWN], reason)


def _is_number(value: object) -> bool:
    """Whether a JSON value is a finite number."""
    if isinstance(value, bool):
        return False
    return isinstance(value, int) or (isinstance(value, float) and math.isfinite(value))
