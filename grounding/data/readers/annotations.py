"""What the readers of boxes share: index files, faulty records, checked numbers, pictures of a declared size.

Every function here turns what is wrong with a file into one `UnitError` that names it. Knows no layout.
"""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from ..records import Unit, UnitError, read_picture

Record = Mapping[str, Any]

MAX_INDEX_BYTES: Final = 1 << 32
"""Largest index file that is read into memory."""

_SPLIT_WORDS: Final = {
    "train": ("train", "training"),
    "val": ("val", "valid", "validate", "validation", "dev"),
    "test": ("test", "testing"),
}
_FAULT: Final = "fault"


def read_bytes(path: Path, limit: int = MAX_INDEX_BYTES) -> bytes:
    """A whole file of at most `limit` bytes.

    Raises:
        UnitError: it is missing, empty or too large.
    """
    try:
        if path.stat().st_size > limit:
            raise UnitError(f"{path}: has more than the {limit} bytes that are read; split it")
        data = path.read_bytes()
    except OSError as error:
        raise UnitError(f"{path}: cannot be read ({error.strerror}); is the data set complete?") from error
    if not data.strip():
        raise UnitError(f"{path}: is empty; copy it again")
    return data


def read_text(path: Path) -> str:
    """A UTF-8 text file, with or without a byte order mark.

    Raises:
        UnitError: it is missing, empty, too large or no UTF-8 text.
    """
    try:
        return read_bytes(path).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UnitError(f"{path}: is no UTF-8 text ({error.reason}); is it the right file?") from error


def read_json(path: Path) -> Any:
    """The content of a JSON file.

    Raises:
        UnitError: it is missing, empty, truncated or no JSON.
    """
    return parse_json(read_text(path), str(path))


def parse_json(text: str, where: str) -> Any:
    """The same for a text already read; `where` says in errors where it came from."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UnitError(f"{where}: is no JSON, or truncated ({error}); copy it again") from error


def read_index(path: Path, keys: Sequence[str]) -> Record:
    """A JSON object that holds a list of objects under each of `keys`.

    Raises:
        UnitError: it does not.
    """
    content = read_json(path)
    for key in keys:
        rows = content.get(key) if isinstance(content, dict) else None
        if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
            raise UnitError(
                f"{path}: expected a JSON object with a list of objects {key!r}; is it that format?"
            )
    index: Record = content
    return index


def faulty(key: str, message: str) -> Unit:
    """A unit that stands for a broken record, so that it is quarantined and counted when it is read."""
    return Unit(key, {_FAULT: message})


def refuse_faulty(unit: Unit) -> None:
    """Raise what is wrong with a unit of :func:`faulty`; let all others pass."""
    if _FAULT in unit.payload:
        raise UnitError(str(unit.payload[_FAULT]))


def unique(key: str, seen: set[str]) -> str:
    """`key`, or with the first free number behind it; remembers it in `seen`."""
    number, free = 1, key
    while free in seen:
        number += 1
        free = f"{key}#{number}"
    seen.add(free)
    return free


def split_name(words: str) -> str | None:
    """train, val or test where a file or folder name says so ("instances_train2017"), else None."""
    parts = set(re.split(r"[^a-z]+", words.lower()))
    found = [split for split, names in _SPLIT_WORDS.items() if parts & set(names)]
    return found[0] if len(found) == 1 else None


def text_of(value: object, what: str, where: str) -> str:
    """A string that is not empty.

    Raises:
        UnitError: it is something else.
    """
    if not isinstance(value, str) or not value.strip():
        raise UnitError(f"{where}: expected {what} to be text, got {value!r}; correct it")
    return value


def numbers(values: object, count: int | None, what: str, where: str) -> list[float]:
    """`count` finite numbers of a JSON list (any number of them if None).

    Raises:
        UnitError: they are not.
    """
    wanted = f"{count} finite numbers" if count is not None else "finite numbers"
    if not isinstance(values, list) or (count is not None and len(values) != count):
        raise UnitError(f"{where}: expected {what} to be {wanted}, got {_short(values)}; correct it")
    try:
        result = [float(value) for value in values if not isinstance(value, (bool, str, bytes))]
    except (TypeError, ValueError, OverflowError):
        result = []
    if len(result) != len(values) or not all(map(math.isfinite, result)):
        raise UnitError(f"{where}: expected {what} to be {wanted}, got {_short(values)}; correct it")
    return result


def parsed(texts: Iterable[object], what: str, where: str) -> list[float]:
    """The finite numbers that texts of a CSV, XML or label file say.

    Raises:
        UnitError: one is missing or no number.
    """
    given = list(texts)
    try:
        values: list[object] = [float(str(text)) for text in given]
    except ValueError:
        values = [math.nan]
    if not all(isinstance(value, float) and math.isfinite(value) for value in values):
        raise UnitError(f"{where}: expected {what} to be finite numbers, got {_short(given)}; correct it")
    return numbers(values, len(given), what, where)


def box_of(x1: float, y1: float, x2: float, y2: float, where: str) -> npt.NDArray[np.float64]:
    """(4,) float64 xyxy pixels. A box without area passes: the builder drops it and says so.

    Raises:
        UnitError: the corners are in the wrong order, or infinite.
    """
    if not (-math.inf < x1 <= x2 < math.inf and -math.inf < y1 <= y2 < math.inf):
        raise UnitError(
            f"{where}: expected a box with x1 <= x2 and y1 <= y2, got {[x1, y1, x2, y2]} (xyxy pixels): "
            "negative width or height, or another box format; correct it"
        )
    return np.array([x1, y1, x2, y2], dtype=np.float64)


def size_of(height: object, width: object, where: str) -> tuple[int, int] | None:
    """(height, width) as an index declares it, None where it does not.

    Raises:
        UnitError: what it declares is no size.
    """
    if height is None and width is None:
        return None
    try:
        sides = (float(str(height)), float(str(width)))
    except ValueError:
        sides = (math.nan, math.nan)
    if not all(side.is_integer() and side > 0 for side in sides):
        raise UnitError(f"{where}: declares height {height!r} and width {width!r}; expected pixels above 0")
    return int(sides[0]), int(sides[1])


def inside(root: Path, name: str) -> Path:
    """`root / name`, if that is below `root`; links are followed.

    Raises:
        UnitError: the name leads elsewhere, as no data set needs.
    """
    path = Path(os.path.normpath(root / name))
    if not path.is_relative_to(os.path.normpath(root)) or "\0" in name:
        raise UnitError(f"{root}: refers to the file {name!r}, which is outside of it; correct the index")
    return path


def find_picture(root: Path, folders: Sequence[str], name: str) -> Path:
    """The first file `root / folder / name` that exists.

    Raises:
        UnitError: none does; says where it was looked for.
    """
    for folder in folders:
        path = inside(root, f"{folder}/{name}")
        try:
            if path.is_file():
                return path
        except OSError:  # a name that the file system cannot hold
            continue
    looked = ", ".join(folder or "." for folder in folders)
    raise UnitError(f"{name}: expected this picture below {root} in one of {looked}; copy the pictures there")


def picture_of_size(path: Path, declared: tuple[int, int] | None) -> tuple[bytes, tuple[int, int]]:
    """The picture and its (height, width), see :func:`grounding.data.records.read_picture`.

    Raises:
        UnitError: it cannot be read, or has another size than its annotations were made for.
    """
    picture, size = read_picture(path)
    if declared is not None and declared != size:
        raise UnitError(
            f"{path}: has {size[0]} x {size[1]} pixels (height x width), its annotations were made for "
            f"{declared[0]} x {declared[1]}; use the original picture, or correct the annotations"
        )
    return picture, size


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
