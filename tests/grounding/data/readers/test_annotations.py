"""What the readers of boxes share: every bad file or number is one UnitError that says what to do."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from grounding.boxes import xywh_to_xyxy
from grounding.data.readers.annotations import (
    box_of,
    faulty,
    find_picture,
    inside,
    numbers,
    parsed,
    picture_of_size,
    read_index,
    read_json,
    refuse_faulty,
    size_of,
    split_name,
    unique,
)
from grounding.data.records import Unit, UnitError


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "is empty; copy it again"),
        (b'{"images": [', "is no JSON, or truncated"),
        (b"\xff\xfe\x00", "is no UTF-8 text"),
        (b"[" * 100_000, "is no JSON, or truncated"),
    ],
)
def test_broken_json_is_named(tmp_path, content, says):
    (tmp_path / "train.json").write_bytes(content)
    with pytest.raises(UnitError, match=rf"train\.json: {says}"):
        read_json(tmp_path / "train.json")


def test_missing_json_is_named(tmp_path):
    with pytest.raises(UnitError, match=r"none\.json: cannot be read"):
        read_json(tmp_path / "none.json")


@pytest.mark.parametrize("content", [[], {"images": {}}, {"images": [1]}, 5])
def test_an_index_of_another_shape_is_refused(tmp_path, content):
    (tmp_path / "x.json").write_text(json.dumps(content))
    with pytest.raises(UnitError, match="expected a JSON object with a list of objects 'images'"):
        read_index(tmp_path / "x.json", ("images",))


@pytest.mark.parametrize(
    "values",
    [
        None,
        "1234",
        [1, 2, 3],
        [1, 2, 3, "4"],
        [1, 2, 3, True],
        [1, 2, 3, float("nan")],
        [1, 2, 3, 10**400],
        {},
    ],
)
def test_four_finite_numbers_or_an_error(values):
    with pytest.raises(UnitError, match=r"x\.json: expected bbox to be 4 finite numbers, got .*; correct it"):
        numbers(values, 4, "bbox", "x.json")


def test_texts_of_numbers():
    assert parsed(["1", " 2.5 ", 3], "a box", "x") == [1.0, 2.5, 3.0]
    for wrong in ("", None, "nan", "inf", "a"):
        with pytest.raises(UnitError, match="expected a box to be finite numbers"):
            parsed(["1", wrong], "a box", "x")


@pytest.mark.parametrize("corners", [(5, 0, 4, 1), (0, 5, 1, 4), (0, 0, float("inf"), 1)])
def test_inside_out_boxes_are_refused(corners):
    with pytest.raises(UnitError, match="negative width or height, or another box format"):
        box_of(*corners, "x")


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(0, 4000, allow_nan=False), min_size=4, max_size=4))
def test_boxes_agree_with_the_conversion_of_the_project(values):
    x, y, width, height = values
    assert np.array_equal(box_of(x, y, x + width, y + height, "x"), xywh_to_xyxy(np.array(values)))


def test_sizes():
    assert size_of(480, "640", "x") == (480, 640)
    assert size_of(None, None, "x") is None
    for height in (0, -1, 1.5, "a", None, [], float("nan")):
        with pytest.raises(UnitError, match="expected pixels above 0"):
            size_of(height, 640, "x")


@pytest.mark.parametrize("name", ["../secret", "/etc/passwd", "a/../../secret", "a\0b"])
def test_no_file_outside_of_the_root(tmp_path, name):
    with pytest.raises(UnitError, match="outside of it"):
        inside(tmp_path, name)


def test_pictures_are_found_and_checked(tmp_path):
    (tmp_path / "b").mkdir()
    Image.new("L", (8, 5)).save(tmp_path / "b" / "x.png")
    path = find_picture(tmp_path, ["a", "b"], "x.png")
    assert picture_of_size(path, (5, 8)) == (path.read_bytes(), (5, 8))
    with pytest.raises(UnitError, match=r"x\.png: has 5 x 8 pixels .* made for 8 x 5; use the original"):
        picture_of_size(path, (8, 5))
    for absent in ("y.png", "x" * 5000):
        with pytest.raises(UnitError, match=r"expected this picture below .* in one of a, b"):
            find_picture(tmp_path, ["a", "b"], absent)


def test_split_names():
    names = ("instances_train2017", "valid", "VAL", "test_data", "ChestX_Det_test")
    assert [split_name(name) for name in names] == ["train", "val", "val", "test", "test"]
    assert [split_name(n) for n in ("trainval", "all", "train_test", "")] == [None] * 4


def test_faulty_units_tell_when_read():
    refuse_faulty(Unit("a"))
    with pytest.raises(UnitError, match="no picture"):
        refuse_faulty(faulty("a", "no picture"))


def test_keys_are_made_unique():
    seen: set[str] = set()
    assert [unique("a", seen) for _ in range(3)] == ["a", "a#2", "a#3"]
