"""Streams end well: read to the end, left half-way, or failing."""

from __future__ import annotations

import threading
from collections.abc import Generator, Iterator

import pytest

from llm.types import Generation
from medglip_agent.streaming import read_stream


def _drain(reader: Generator[str, None, tuple[str, float | None]]) -> tuple[list[str], str, float | None]:
    pieces = []
    while True:
        try:
            pieces.append(next(reader))
        except StopIteration as stop:
            return pieces, *stop.value


def test_pieces_and_confidence() -> None:
    def stream() -> Generator[str, None, Generation]:
        yield "left "
        yield "lung "
        return Generation("left lung", 0.5)

    assert _drain(read_stream(stream(), threading.Lock())) == (["left ", "lung "], "left lung", 0.5)


def test_a_plain_iterator_has_no_confidence() -> None:
    assert _drain(read_stream(iter([" a", "b "]), threading.Lock())) == ([" a", "b "], "ab", None)


def test_leaving_half_way_frees_the_lock() -> None:
    lock = threading.Lock()
    reader = read_stream(iter(["a", "b"]), lock)
    next(reader)  # and never again
    assert lock.acquire(timeout=10)


def test_an_error_is_raised_to_the_reader_and_frees_the_lock() -> None:
    def stream() -> Iterator[str]:
        yield "a"
        raise RuntimeError("out of memory")

    lock = threading.Lock()
    reader = read_stream(stream(), lock)
    assert next(reader) == "a"
    with pytest.raises(RuntimeError, match="out of memory"):
        next(reader)
    assert lock.acquire(timeout=10)
