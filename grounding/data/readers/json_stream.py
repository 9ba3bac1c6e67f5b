"""Huge JSON files piece by piece: the items of one object or array, whatever the size of the file.

Owns the limits and the errors of that; knows no layout. Memory is that of one item.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import ijson  # type: ignore[import-untyped]

from ..records import UnitError

MAX_DEPTH: Final = 32
"""Deepest nesting that is read: the parser's memory grows with the square of the depth."""

_BUFFER: Final = 1 << 12  # bytes parsed ahead of that check; no slower than ijson's own 64 kB

_Events = Iterator[tuple[str, str, Any]]


def object_items(path: Path, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """The (key, value) pairs of an object, in the file's order; a key written twice comes twice.

    Args:
        path: a UTF-8 JSON file.
        prefix: dotted keys that lead to the object; empty = the file itself is it. Where nothing is there,
            nothing is yielded.

    Raises:
        UnitError: the file is missing, empty, truncated or no JSON, or something else than an object is
            there. A fault inside of the file is raised after the items before it.
    """
    return _stream(path, prefix, "start_map", lambda events: ijson.kvitems(events, prefix))


def array_items(path: Path, prefix: str) -> Iterator[Any]:
    """The elements of an array; arguments and errors are those of :func:`object_items`."""
    return _stream(path, prefix, "start_array", lambda events: ijson.items(events, f"{prefix}.item"))


def _stream(
    path: Path, prefix: str, opening: str, select: Callable[[_Events], Iterator[Any]]
) -> Iterator[Any]:
    try:
        with path.open("rb") as file:
            yield from select(
                _checked(ijson.parse(file, buf_size=_BUFFER, use_float=True), path, prefix, opening)
            )
    except OSError as error:
        raise UnitError(f"{path}: cannot be read ({error.strerror}); is the data set complete?") from error
    except (ijson.JSONError, ValueError) as error:
        reason = " ".join(str(error).split())[:120]
        raise UnitError(f"{path}: is no JSON, or truncated ({reason}); copy it again") from error


def _checked(events: _Events, path: Path, prefix: str, opening: str) -> _Events:
    """Let events pass that are not nested too deeply and open what is asked for at `prefix`."""
    depth = 0
    for place, event, value in events:
        if place == prefix and event not in (opening, "map_key", "end_map", "end_array"):
            kind = "an object {...}" if opening == "start_map" else "an array [...]"
            raise UnitError(f"{path}: expected {kind} {_where(prefix)}; is it the right file?")
        depth += (event in ("start_map", "start_array")) - (event in ("end_map", "end_array"))
        if depth > MAX_DEPTH:
            raise UnitError(f"{path}: is nested deeper than {MAX_DEPTH} levels; is it the right file?")
        yield place, event, value


def _where(prefix: str) -> str:
    return f"under {prefix!r}" if prefix else "in the file"
