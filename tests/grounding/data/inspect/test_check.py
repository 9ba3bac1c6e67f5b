"""Each fault, put into a row by hand, is found; a good row has none."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from grounding.data.inspect.check import check, row_faults, side_axis
from grounding.data.records import encode_png


def found(row) -> list[tuple[str, str]]:
    return [(fault.severity, fault.kind) for fault in row_faults(row)]


def test_a_good_row_has_no_fault(make_row, make_region, make_rle) -> None:
    mask = np.zeros((80, 100), dtype=bool)
    mask[10:40, 10:50] = True
    regions = [make_region(mask=make_rle(mask)), make_region("spleen", (0, 0, 100, 80))]
    assert found(make_row("1", regions, absent_labels=["pancreas"])) == []


@pytest.mark.parametrize(
    ("box", "fault"),
    [
        ((50, 10, 20, 40), ("error", "box inside out")),
        ((20, 10, 20, 40), ("error", "box empty")),
        ((50, 10, 120, 40), ("error", "box outside")),
        ((-3, 10, 20, 40), ("error", "box outside")),
        ((float("nan"), 10, 20, 40), ("error", "no box")),
        ((20, 10, 21, 70), ("warning", "box tiny")),
        ((20, 10, 23, 13), ("warning", "box tiny")),
    ],
)
def test_boxes(make_row, make_region, box, fault) -> None:
    faults = list(row_faults(make_row("1", [make_region(box=box)])))
    assert [(f.severity, f.kind) for f in faults] == [fault]
    assert faults[0].image_id == "made/1" and faults[0].remedy and "liver: box (" in faults[0].what


@pytest.mark.parametrize("box", [(0, 0, 100, 80), (-0.5, -1, 100.9, 81), (20, 10, 24, 14)])
def test_good_boxes(make_row, make_region, box) -> None:
    assert found(make_row("1", [make_region(box=box)])) == []


def test_a_box_twice(make_row, make_region) -> None:
    near = make_region(box=(10, 10, 50.5, 40))
    assert found(make_row("1", [make_region(), near])) == [("warning", "box twice")]
    assert found(make_row("1", [make_region(), near | {"label": "spleen"}])) == []
    assert found(make_row("1", [make_region(), make_region(box=(10, 10, 60, 40))])) == []  # IoU 0.8


def test_masks(make_row, make_region, make_rle) -> None:
    mask = np.zeros((80, 100), dtype=bool)
    mask[10:40, 10:50] = True
    rle = make_rle(mask)
    assert found(make_row("1", [make_region(box=(10, 10, 40, 40), mask=rle, area=1200.0)])) == [
        ("error", "mask outside box")
    ]
    assert found(make_row("1", [make_region(box=(11, 11, 49, 39), mask=rle, area=1200.0)])) == []
    assert found(make_row("1", [make_region(mask=rle, area=1100.0)])) == [("error", "mask area")]
    for broken in (rle[:-1], rle + "z", "\x00", make_rle(mask[:40])):
        assert found(make_row("1", [make_region(mask=broken, area=1200.0)])) == [("error", "mask broken")]
    empty = make_rle(np.zeros((80, 100), dtype=bool))
    assert found(make_row("1", [make_region(mask=empty)])) == [("error", "mask empty")]


def test_absent_and_present(make_row, make_region) -> None:
    assert found(make_row("1", [make_region()], absent_labels=["liver"])) == [("error", "absent and present")]


def test_a_side_that_the_raw_label_contradicts(make_row, make_region) -> None:
    wrong = make_region("left kidney", raw_label="kidney_right")
    assert found(make_row("1", [wrong])) == [("error", "side changed")]
    for raw in ("kidney_left", "Left Kidney", "LK", "right and left kidney"):
        assert found(make_row("1", [make_region("left kidney", raw_label=raw)])) == []


@pytest.mark.parametrize(
    ("orientation", "axis"),
    [
        ([], None),
        (["L", "P"], (0, 1)),
        (["R", "F"], (0, -1)),
        (["A", "L"], (1, 1)),
        (["P", "F"], None),
        (["LPF", "FPR"], (0, 1)),
    ],
)
def test_where_left_is(make_row, orientation, axis) -> None:
    assert side_axis(make_row(orientation=orientation)) == axis


def lungs(make_region, left_x: float, right_x: float):
    return [
        make_region("left lung", (left_x, 10, left_x + 30, 70)),
        make_region("right lung", (right_x, 10, right_x + 30, 70)),
    ]


def test_swapped_sides(make_row, make_region) -> None:
    """On the usual view ("L", "F") the patient's left is on the picture's right."""
    usual, mirrored = ["L", "F"], ["R", "F"]
    right_way, wrong_way = lungs(make_region, 60, 10), lungs(make_region, 10, 60)
    assert found(make_row("1", right_way, orientation=usual)) == []
    assert found(make_row("1", wrong_way, orientation=usual)) == [("error", "sides swapped")]
    assert found(make_row("1", wrong_way, orientation=mirrored)) == []
    assert found(make_row("1", right_way, orientation=mirrored)) == [("error", "sides swapped")]
    assert found(make_row("1", wrong_way)) == []  # not known, so not judged


def test_swapped_sides_down_the_picture(make_row, make_region) -> None:
    regions = [make_region("left lung", (10, 5, 60, 30)), make_region("right lung", (10, 45, 60, 70))]
    assert found(make_row("1", regions, orientation=["A", "R"])) == []
    assert found(make_row("1", regions, orientation=["A", "L"])) == [("error", "sides swapped")]


def test_twins_that_overlap_are_only_a_warning(make_row, make_region) -> None:
    regions = lungs(make_region, 30, 45)
    assert found(make_row("1", regions, orientation=["L", "F"])) == [("warning", "sides swapped")]


def test_only_twins_are_compared(make_row, make_region) -> None:
    regions = [make_region("left lung", (10, 10, 40, 70)), make_region("right kidney", (60, 10, 90, 70))]
    assert found(make_row("1", regions, orientation=["L", "F"])) == []


def test_pictures(make_row) -> None:
    small = encode_png(np.zeros((40, 100), dtype=np.uint8))
    for bad in (b"", b"no picture", small[:60]):
        assert found(make_row("1", image={"bytes": bad, "path": None})) == [("error", "picture broken")]
    assert found(make_row("1", image={"bytes": small, "path": None})) == [("error", "picture size")]
    row = make_row("1", image={"bytes": b"", "path": None})
    del row["image"]
    assert found(row) == []


def test_pixels_are_looked_at_only_when_asked(write_native, make_row) -> None:
    folder = write_native([make_row("1", image={"bytes": b"no picture", "path": None})])
    assert check(folder).faults == ()
    report = check(folder, pixels=True)
    assert [fault.kind for fault in report.faults] == ["picture broken"] and report.failed


def test_leaks(write_native, make_row) -> None:
    alike = {"train": "00ff00ff00ff00ff", "val": "00ff00ff00ff00fc", "test": "00ff00ff00ff0000"}
    rows = [
        make_row("1", patient="p", perceptual_hash=alike["train"]),
        make_row("2", patient="p"),
        make_row("3", patient="p", split="val", perceptual_hash=alike["val"]),
        make_row("4", patient="p", split="val"),
        make_row("5", patient="", split="test", perceptual_hash=alike["test"]),  # 6 bits away
        make_row("6", patient="", perceptual_hash=""),
    ]
    report = check(write_native(rows))
    assert [(f.severity, f.kind, f.image_id) for f in report.faults] == [
        ("error", "patient leak", "made/3"),
        ("warning", "picture leak", "made/3"),
    ]
    assert "patient p is in val and, with made/1, in train" in report.faults[0].what
    assert "made/1 in train (2 of 64 bits" in report.faults[1].what


def test_a_repeat_within_a_split_does_not_hide_a_leak(write_native, make_row) -> None:
    """3 is 2 bits from 2, and 4 from 1: it looks like 2 alone, which looks like 1."""
    hashes = {"1": "0" * 16, "2": f"{3:016x}", "3": f"{15:016x}"}
    rows = [make_row(key, perceptual_hash=value) for key, value in hashes.items()]
    rows[2]["split"] = "val"
    assert [(f.kind, f.image_id) for f in check(write_native(rows)).faults] == [("picture leak", "made/3")]


def test_two_rows_with_one_id(write_native, make_row) -> None:
    report = check(write_native([make_row("1"), make_row("1")]))
    assert [fault.kind for fault in report.faults] == ["image twice"] and report.failed


def test_unknown_labels_are_told_once(write_native, make_row, make_region) -> None:
    odd = make_region("livver", known=False)
    report = check(write_native([make_row("1", [odd]), make_row("2", [odd])]))
    (fault,) = report.faults
    assert (fault.kind, fault.image_id, report.failed) == ("label unknown", "made/1", False)
    assert "'livver' (2 regions)" in fault.what and "liver" in fault.remedy


def test_the_report_says_where_sides_could_be_checked(write_native, make_row) -> None:
    report = check(write_native([make_row("1"), make_row("2", orientation=["L", "P"])]))
    assert (report.images, report.oriented, report.faults) == (2, 1, ())


def test_no_built_set(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="medglip data build"):
        check(tmp_path)
