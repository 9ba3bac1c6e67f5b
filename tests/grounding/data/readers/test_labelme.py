"""LabelMe: every shape by hand, the picture inside or beside the file, and files that do not fit."""

import base64
import io
import json

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from grounding.data.readers.labelme import LabelMe
from grounding.data.records import DatasetInfo, UnitError

INFO = DatasetInfo("own", modality="US")


def png(array):
    buffer = io.BytesIO()
    Image.fromarray(np.asarray(array, dtype=np.uint8)).save(buffer, format="PNG")
    return base64.b64encode(buffer.getvalue()).decode()


def shape(kind, points, **fields):
    return {"label": "cyst", "shape_type": kind, "points": points, "group_id": None, "flags": {}} | fields


def write(root, shapes, **fields):
    root.mkdir(exist_ok=True)
    Image.new("L", (8, 6), 90).save(root / "a.png")
    content = {"version": "5.5.0", "flags": {"good": True}, "shapes": shapes, "imagePath": "a.png"}
    content |= {"imageData": None, "imageHeight": 6, "imageWidth": 8} | fields
    (root / "a.json").write_text(json.dumps(content))
    return root


def read(reader):
    return [image for unit in reader.units() for image in reader.read(unit)]


def test_shapes(tmp_path):
    shapes = [
        shape("rectangle", [[5, 4], [1, 2]], group_id=3),
        shape("polygon", [[0, 0], [4, 0], [4, 4], [0, 4]]),
        shape("circle", [[4, 3], [4, 5]]),
        shape("mask", [[2, 1], [3, 2]], mask=png([[255, 0], [0, 255]])),
        shape("point", [[7, 5]]),
        shape(None, [[0, 0], [2, 0], [0, 2]]),
    ]
    (image,) = read(LabelMe(write(tmp_path / "val", shapes), INFO, labels=("cyst",)))
    rectangle, polygon, circle, mask, point, old = image.regions
    assert rectangle.box.tolist() == [1, 2, 5, 4] and rectangle.mask is None
    assert rectangle.attributes == {"shape_type": "rectangle", "group_id": 3, "flags": {}}
    assert polygon.box.tolist() == [0, 0, 4, 4] and polygon.mask.sum() == 16
    assert circle.box.tolist() == [2, 1, 6, 5]
    assert circle.mask.sum() == 12 and not circle.mask[1, 2] and circle.mask[1, 3]  # a disc of radius 2
    assert np.argwhere(mask.mask).tolist() == [[1, 2], [2, 3]]
    assert point.box.tolist() == [7, 5, 7, 5] and point.mask is None
    assert old.mask is not None  # shapes without a type are polygons
    assert image.annotated == ("cyst",) and image.file_name == "a.png" and image.modality == "US"
    assert image.attributes == {"version": "5.5.0", "flags": {"good": True}}
    assert read(LabelMe(tmp_path, INFO))[0].split == "val"


def test_the_embedded_picture_goes_first(tmp_path):
    pixels = np.full((6, 8), 200)
    (image,) = read(LabelMe(write(tmp_path, [], imageData=png(pixels), imagePath="gone.png"), INFO))
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(image.picture))), pixels)


def test_pictures_in_a_neighbouring_folder(tmp_path):
    write(tmp_path / "ann", [], imagePath="..\\img\\a.png")
    (tmp_path / "img").mkdir()
    (tmp_path / "ann" / "a.png").rename(tmp_path / "img" / "a.png")
    (image,) = read(LabelMe(tmp_path, INFO))
    assert (image.key, image.file_name) == ("ann/a", "a.png")
    with pytest.raises(UnitError, match="outside of it"):
        read(LabelMe(tmp_path / "ann", INFO))


@pytest.mark.parametrize(
    ("shapes", "fields", "says"),
    [
        ([], {"imageHeight": 7}, r"a\.png: has 6 x 8 pixels .* made for 7 x 8; use the original"),
        ([], {"imageHeight": 7, "imageData": png(np.zeros((6, 8)))}, r"declares \(7, 8\), its imageData"),
        ([], {"imageData": "no base64!"}, "expected imageData in base64"),
        ([], {"imageData": base64.b64encode(b"no picture").decode()}, "imageData: is no readable picture"),
        ([], {"imagePath": "b.png"}, r"b\.png: expected this picture below"),
        ([], {"imagePath": None}, "expected imagePath, without imageData, to be text"),
        ([shape("rectangle", [[1, 2], [3, float("nan")]])], {}, "shape 0: expected a point to be 2 finite"),
        ([shape("rectangle", [])], {}, r"expected points \[\[x, y\], ...\], got \[\]"),
        ([shape("rectangle", [[1, 2]])], {}, "got 'rectangle' of 1 points; draw it as one of these"),
        ([shape("star", [[1, 2], [3, 4]])], {}, "got 'star' of 2 points"),
        ([shape("polygon", [[1, 2], [3, 4]])], {}, "at least 3 points"),
        ([shape("mask", [[7, 5], [8, 6]], mask=png([[1, 1], [1, 1]]))], {}, "does not fit into"),
        ([shape("rectangle", [[1, 2], [3, 4]], label="")], {}, "expected the label to be text"),
        ([7], {}, "expected a JSON object with a list of objects 'shapes'"),
    ],
)
def test_malformed_files_say_what_to_do(tmp_path, shapes, fields, says):
    with pytest.raises(UnitError, match=says):
        read(LabelMe(write(tmp_path / "x", shapes, **fields), INFO))


def test_an_empty_folder_says_what_was_expected(tmp_path):
    with pytest.raises(UnitError, match="expected LabelMe files"):
        list(LabelMe(tmp_path, INFO).units())


VALUES = (
    st.none()
    | st.booleans()
    | st.floats()
    | st.text(max_size=4)
    | st.lists(st.lists(st.floats(), max_size=3))
)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.sampled_from(["polygon", "circle", "mask", "rectangle"]),
    st.sampled_from(["points", "mask", "label"]),
    VALUES,
)
def test_any_value_gives_a_record_or_a_unit_error(tmp_path, kind, field, value):
    write(tmp_path / "x", [shape(kind, [[1, 2], [3, 4]]) | {field: value}])
    try:
        assert read(LabelMe(tmp_path / "x", INFO))
    except UnitError:
        pass
