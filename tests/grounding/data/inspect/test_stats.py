"""Counts of a native folder, computed by hand."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from grounding.data.inspect import stats
from grounding.data.inspect.stats_plot import plot


@pytest.fixture
def folder(write_native, make_row, make_region, make_rle) -> Path:
    mask = np.zeros((80, 100), dtype=bool)
    mask[10:20, 10:20] = True
    rows = [
        make_row("1", [make_region(mask=make_rle(mask)), make_region("polyp", (0, 0, 8, 1), granularity="")]),
        make_row("2", [make_region("liver", (0, 0, 100, 80))], absent_labels=["spleen"], split="val"),
        make_row("3", absent_labels=["spleen", "liver"], modality="", licence="a|b"),
    ]
    return write_native(rows)


def test_counts(folder: Path) -> None:
    counted = stats.collect(folder)
    assert (counted.images, counted.empty, counted.regions, counted.negatives) == (3, 1, 3, 3)
    assert counted.images_by["split"] == {"train": 2, "val": 1}
    assert counted.images_by["modality"] == {"CT": 2, "not known": 1}
    assert counted.regions_by["split"] == {"train": 2, "val": 1}
    assert counted.regions_by["granularity"] == {"organ": 2, "not known": 1}
    # 40 x 30 = 1200 px of 8000; 8 px; all 8000 px
    assert counted.regions_by["box size"] == {"medium": 2, "small": 1}
    assert counted.regions_by["box area"] == {"10 to 50 %": 1, "0.1 to 1 %": 1, "50 % and more": 1}


def test_counts_of_labels(folder: Path) -> None:
    labels = stats.collect(folder).labels
    assert vars(labels["liver"]) == {
        "granularity": "organ",
        "known": True,
        "images": 2,
        "regions": 2,
        "masks": 1,
        "absent": 1,
        "sizes": {"medium": 2},
    }
    assert (labels["spleen"].images, labels["spleen"].regions, labels["spleen"].absent) == (0, 0, 2)


@pytest.mark.parametrize(
    ("box", "size"),
    [
        ((0, 0, 32, 31.9), "small"),
        ((0, 0, 32, 32), "medium"),
        ((5, 5, 101, 101), "large"),
        ((9, 9, 3, 3), "small"),
    ],
)
def test_box_size_is_of_coco(box: tuple[float, ...], size: str) -> None:
    assert stats.box_size(box) == size


def test_relative_area() -> None:
    assert stats.relative_area((0, 0, 10, 10), height=100, width=1000) == "0.1 to 1 %"
    assert stats.relative_area((0, 0, 10, 10), height=100, width=1001) == "below 0.1 %"
    assert stats.relative_area((0, 0, 1000, 100), height=100, width=1000) == "50 % and more"


def test_reasons_of_what_was_left_out(folder: Path) -> None:
    lines = [{"reason": "speck"}, {"reason": "speck"}, {"reason": "tiny box"}]
    (folder / "dropped.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    counted = stats.collect(folder)
    assert counted.left_out == {"dropped": {"speck": 2, "tiny box": 1}, "quarantined": {}}
    assert "| speck           |     2 |" in stats.render(counted)


def test_the_text_is_a_markdown_table(folder: Path) -> None:
    text = stats.render(stats.collect(folder))
    assert text.startswith("3 images (1 without a region), 3 regions of 2 labels, 3 negatives\n")
    assert "| modality  | images | regions |\n|-----------|-------:|--------:|\n| CT        |" in text
    assert "| a/b " in text  # a bar would be a column
    assert text.index("| train") < text.index("| val")
    for block in text.split("\n\n")[1:]:
        assert len({line.count("|") for line in block.splitlines()}) == 1
    liver = next(line for line in text.splitlines() if line.startswith("| liver "))
    assert [cell.strip() for cell in liver.split("|")[1:-1]] == [
        "liver",
        "organ",
        "2",
        "2",
        "1",
        "0",
        "2",
        "0",
        "1",
    ]


def test_labels_beyond_the_limit_are_counted(folder: Path) -> None:
    text = stats.render(stats.collect(folder), label_limit=1)
    assert "| polyp" not in text and text.endswith("... and 2 more labels")


def test_an_empty_set_renders(write_native, tmp_path: Path) -> None:
    folder = write_native([])
    (folder / "data").mkdir(exist_ok=True)
    counted = stats.collect(folder)
    assert stats.render(counted).startswith("0 images")
    plot(counted, tmp_path / "empty.png")


def test_no_built_set(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="medglip data build"):
        stats.collect(tmp_path)


def test_the_plots_are_one_picture(folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "new" / "stats.png"
    plot(stats.collect(folder), path)
    with Image.open(path) as picture:
        assert picture.format == "PNG" and picture.width > picture.height > 500
        assert len(set(np.asarray(picture.convert("L")).ravel().tolist())) > 20
