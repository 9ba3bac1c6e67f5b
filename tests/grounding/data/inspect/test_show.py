"""Contact sheets: which pictures, and what is drawn on them where."""

from __future__ import annotations

import itertools
import math
from pathlib import Path

import numpy as np
import pytest

from grounding.data.inspect.show import (
    TILE,
    Filter,
    caption_entries,
    choose,
    contact_sheet,
    draw_caption,
    draw_row,
    palette,
)
from grounding.ontology import Ontology

RED = (255, 40, 30)
COLOURS = dict.fromkeys(("liver", "polyp", "left lung", "lung lesion"), RED)


@pytest.fixture
def folder(write_native, make_row, make_region) -> Path:
    rows = [make_row(str(i), [make_region()], split=("train", "val")[i % 2]) for i in range(20)]
    rows += [make_row("x", [make_region("polyp", (0, 0, 9, 9))], dataset="other", modality="ES")]
    return write_native(rows)


def ids(rows) -> list[str]:
    return [row["image_id"] for row in rows]


def test_the_seed_decides(folder: Path) -> None:
    first = choose(folder, 5, seed=0)
    assert len(set(ids(first))) == 5 and all(row["image"]["bytes"] for row in first)
    assert ids(choose(folder, 5, seed=0)) == ids(first)
    assert ids(choose(folder, 5, seed=1)) != ids(first)


def test_more_pictures_keep_the_first(folder: Path) -> None:
    assert ids(choose(folder, 8, seed=0))[:5] == ids(choose(folder, 5, seed=0))
    assert len(choose(folder, 99, seed=0)) == 21


def test_filters(folder: Path) -> None:
    other = ["other/x"]
    assert ids(choose(folder, 9, 0, Filter(label="polyp"))) == other
    assert ids(choose(folder, 9, 0, Filter(modality="ES"))) == other
    assert ids(choose(folder, 9, 0, Filter(dataset="other", split="train"))) == other
    assert {row["split"] for row in choose(folder, 99, 0, Filter(split="val"))} == {"val"}


def test_nothing_passes(folder: Path) -> None:
    with pytest.raises(ValueError, match=r"no picture in .* with label 'spleen', split 'val'; see medglip"):
        choose(folder, 9, 0, Filter(label="spleen", split="val"))


def test_colours_are_stable_and_bright() -> None:
    names = Ontology.load().names
    alone = {name: palette([name])[name] for name in names[::7]}
    assert all(palette([name, "made up"])[name] == colour for name, colour in alone.items())
    assert min(np.dot(colour, (0.299, 0.587, 0.114)) for colour in alone.values()) > 0.49 * 255


def test_colours_of_one_sheet_are_told_apart() -> None:
    """These abdominal organs include left and right, and some whose own colours are alike."""
    organs = (
        "liver, spleen, left kidney, right kidney, stomach, pancreas, aorta, inferior vena cava, gallbladder"
    )
    chosen = palette(organs.split(", "))
    assert min(math.dist(a, b) for a, b in itertools.combinations(chosen.values(), 2)) >= 85
    assert len(palette(f"label {number}" for number in range(300))) == 300


def test_the_box_lies_where_it_should(make_row, make_region) -> None:
    region = make_region(box=(25, 20, 50, 60))
    pixels = np.asarray(draw_row(make_row("1", [region], height=100, width=100), COLOURS, size=200))
    coloured = (pixels == RED).all(axis=2)
    rows, columns = np.flatnonzero(coloured.any(axis=1)), np.flatnonzero(coloured.any(axis=0))
    assert (columns[0], rows[0], columns[-1] + 1, rows[-1] + 1) == (50, 40, 100, 120)
    assert not coloured[45:115, 55:95].any()


def test_pictures_are_not_mirrored(make_row) -> None:
    """The made picture grows brighter from the top left to the bottom right."""
    pixels = np.asarray(draw_row(make_row(), COLOURS)).astype(int)
    assert pixels.shape == (288, TILE, 3)
    assert pixels[10, 5, 0] < pixels[-10, 5, 0] and pixels[10, 5, 0] < pixels[-10, -5, 0]


def test_the_mask_is_translucent_and_inside(make_row, make_region, make_rle) -> None:
    mask = np.zeros((80, 100), dtype=bool)
    mask[20:40, 60:90] = True
    region = make_region(box=(60, 20, 90, 40), mask=make_rle(mask))
    plain = np.asarray(draw_row(make_row("1"), COLOURS, size=100)).astype(int)
    drawn = np.asarray(draw_row(make_row("1", [region]), COLOURS, size=100)).astype(int)
    changed = (plain != drawn).any(axis=2)
    assert changed[25:35, 65:85].all() and not changed[:15].any() and not changed[:, :50].any()
    expected = plain[30, 75] * 0.68 + np.array(RED) * 0.32
    assert drawn[30, 75] == pytest.approx(expected, abs=2)


def test_a_mask_of_most_of_the_picture_is_only_framed(make_row, make_region, make_rle) -> None:
    region = make_region(box=(0, 0, 100, 80), mask=make_rle(np.ones((80, 100), dtype=bool)), area=8000.0)
    plain, drawn = (np.asarray(draw_row(make_row("1", own), COLOURS, size=100)) for own in ([], [region]))
    assert (plain[5:75, 5:95] == drawn[5:75, 5:95]).all() and (plain != drawn).any()


def test_a_known_orientation_is_written_at_the_edges(make_row) -> None:
    plain, told = (np.asarray(draw_row(make_row(orientation=o), COLOURS)) for o in ([], ["L", "P"]))
    changed = (plain != told).any(axis=2)
    assert changed[130:160, :25].any() and changed[130:160, -25:].any()
    assert changed[:25, 160:200].any() and changed[-25:, 160:200].any()
    assert not changed[60:120, 60:300].any()


def test_the_caption_counts_labels_and_adds_the_side(make_row, make_region) -> None:
    lesion = make_region("lung lesion", side="left")
    row = make_row("1", [make_region("left lung"), lesion, lesion])
    assert [text for text, _ in caption_entries(row, COLOURS)] == ["lung lesion, left (2)", "left lung"]


def test_long_captions_stay_in_their_tile(make_row, make_region) -> None:
    regions = [make_region(f"label {'w' * 60} {number}") for number in range(30)]
    row = make_row("k" * 99, regions, absent_labels=["spleen"] * 40)
    caption = draw_caption(row, palette(region["label"] for region in regions))
    assert caption.width == TILE and caption.height < 25 * 18


def test_a_sheet_of_odd_shapes(make_row, make_region) -> None:
    rows = [
        make_row("1", [make_region()], height=300, width=20),
        make_row("2", [make_region(box=(-5, -5, 900, 900))]),
        make_row("3", [make_region(box=(40, 40, 10, 10))]),
        make_row("4"),
    ]
    sheet = contact_sheet(rows, columns=3)
    assert sheet.width == 3 * (TILE + 14) + 14 and sheet.height > TILE + 288
    assert contact_sheet(rows[:1]).width == TILE + 28


def test_a_broken_picture_or_mask_is_named(make_row, make_region) -> None:
    with pytest.raises(ValueError, match="made/1: liver: its compressed run lengths are damaged"):
        draw_row(make_row("1", [make_region(mask="\x00")]), COLOURS)
    with pytest.raises(ValueError, match="made/1: picture does not decode"):
        contact_sheet([make_row("1", image={"bytes": b"no picture", "path": None})])
    with pytest.raises(ValueError, match="at least one row"):
        contact_sheet([])
