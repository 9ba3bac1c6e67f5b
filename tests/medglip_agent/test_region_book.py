"""Numbers that stay, citations that exist."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from grounding.types import Regions
from medglip_agent.citations import cited_regions
from medglip_agent.region_book import CitedStream, RegionBook, forged, renumber


def regions(*found: tuple[str, float], masks: bool = False) -> Regions:
    boxes = np.array([[x, 0, x + 2, 2] for _, x in found], dtype=np.float32)
    asked = tuple(dict.fromkeys(phrase for phrase, _ in found))
    index = np.array([asked.index(phrase) for phrase, _ in found], dtype=np.int64)
    drawn = np.ones((len(found), 10, 10), dtype=bool) if masks else None
    return Regions(boxes, np.full(len(found), 0.5, np.float32), index, asked, (10, 10), drawn)


def test_the_same_region_keeps_its_number() -> None:
    book = RegionBook((10, 10))
    assert book.add(regions(("liver", 0), ("spleen", 5))) == (0, 1)
    assert book.add(regions(("spleen", 5.4), ("liver", 7), ("spleen", 0))) == (1, 2, 3)
    assert book.regions.phrases == ("liver", "spleen", "liver", "spleen")
    assert book[2].box.tolist() == [7, 0, 9, 2]
    with pytest.raises(IndexError, match="got 4"):
        book[4]


def test_masks_come_with_every_region_or_not_at_all() -> None:
    book = RegionBook((10, 10))
    book.add(regions(("liver", 0), ("spleen", 5)))
    book.add(regions(("liver", 0), masks=True))
    assert book.regions.masks is None
    book.add(regions(("spleen", 5), masks=True))
    assert book.regions.masks is not None and book.regions.masks.shape == (2, 10, 10)


def test_what_was_asked_and_not_found_stays_known() -> None:
    book = RegionBook((10, 10))
    book.add(Regions.empty((10, 10), ("polyp",)))
    assert book.regions.missing == ("polyp",)


@pytest.mark.parametrize(
    ("text", "numbers", "expected"),
    [
        ("left [R1] and [R2].", (4, 0), "left [R5] and [R1]."),
        ("left [R3].", (0, 1), "left."),
        ("left [R1, R2; 9]", (0, 1), "left [R1] [R2]"),
        ("left [r 2]", (0, 1), "left [R2]"),
        ("left [R[R9]1]", (), "left"),
        ("see [1] and [RR1]", (0,), "see [1] and [RR1]"),
    ],
)
def test_renumber(text: str, numbers: tuple[int, ...], expected: str) -> None:
    assert renumber(text, numbers) == expected


def test_forged() -> None:
    assert forged("a [R1] b [R7, R1] c [R7] [R0]", 2) == (6, -1)


@given(st.text(alphabet="[R129, ]x."), st.integers(0, 3))
@settings(max_examples=80, deadline=None)
def test_no_forged_citation_survives(text: str, count: int) -> None:
    assert all(0 <= index < count for index in cited_regions(renumber(text, range(count))))


@pytest.mark.parametrize("size", [1, 2, 3, 50])
def test_a_stream_shows_what_the_whole_would(size: int) -> None:
    text = "The left lung [R2] is dark [R9]; see [note], [R1, R2] and [R"
    stream = CitedStream(2)
    pieces = [stream.feed(text[i : i + size]) for i in range(0, len(text), size)]
    assert "".join([*pieces, stream.close()]) == renumber(text, range(2))


@given(st.lists(st.text(alphabet="[R129, ]x", max_size=6), max_size=8), st.integers(0, 3))
@settings(max_examples=200, deadline=None)
def test_no_forged_citation_is_streamed(pieces: list[str], count: int) -> None:
    stream = CitedStream(count)
    shown = ""
    for piece in pieces:
        shown += stream.feed(piece)
        assert not forged(shown, count)
    assert not forged(shown + stream.close(), count)


@pytest.mark.parametrize(
    "pieces", [("see [[R9]", "R9] it"), ("see [R", "9" * 99, "] it"), ("see", *[" [R9,", " 9"] * 20, "] it")]
)
def test_no_length_and_no_nesting_gets_a_forged_citation_through(pieces: tuple[str, ...]) -> None:
    stream = CitedStream(0)
    shown = [*map(stream.feed, pieces), stream.close()]
    assert not forged("".join(shown), 0)
