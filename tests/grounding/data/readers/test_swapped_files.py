"""Any file in any reader's place gives records or a UnitError, never another error."""

from __future__ import annotations

import json
import shutil
from io import BytesIO

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from grounding.data.readers.chestx_det import ChestXDet
from grounding.data.readers.coco_json import CocoJson
from grounding.data.readers.labelme import LabelMe
from grounding.data.readers.mdetr import Mdetr
from grounding.data.readers.ms_cxr import MsCxr
from grounding.data.readers.odvg import Odvg
from grounding.data.readers.pascal_voc import PascalVoc
from grounding.data.readers.vindr_cxr import VinDrCxr
from grounding.data.readers.yolo import Yolo
from grounding.data.records import DatasetInfo, UnitError

INFO = DatasetInfo("swapped")
PLACES = [
    (CocoJson, "train.json"),
    (Mdetr, "train.json"),
    (ChestXDet, "ChestX_Det_train.json"),
    (Odvg, "train.jsonl"),
    (LabelMe, "a.json"),
    (Yolo, "data.yaml"),
    (Yolo, "labels/a.txt"),
    (PascalVoc, "Annotations/a.xml"),
    (VinDrCxr, "train.csv"),
    (MsCxr, "MS_CXR_Local_Alignment_v1.1.0.csv"),
    (MsCxr, "MS_CXR_Local_Alignment_v1.1.0.json"),
]


def picture():
    buffer = BytesIO()
    Image.new("L", (8, 6), 90).save(buffer, format="PNG")
    return buffer.getvalue()


BOX = {"bbox": [1, 1, 2, 2], "category_id": 1, "image_id": 1, "tokens_positive": [[0, 1]]}
CONTENTS = {
    "coco": json.dumps(
        {
            "images": [{"id": 1, "file_name": "a.png"}],
            "annotations": [BOX],
            "categories": [{"id": 1, "name": "x"}],
        }
    ),
    "empty records": '{"images": [{}], "annotations": [{}], "categories": [{}]}',
    "chestx": '[{"file_name": "a.png", "syms": ["x"], "boxes": [[0, 0, 1, 1]]}]',
    "odvg": '{"filename": "a.png", "detection": {"instances": [{}]}, "grounding": {"regions": [{}]}}',
    "labelme": '{"shapes": [{}], "imagePath": "a.png"}',
    "yaml": "names: [x]\ntrain: images\n",
    "odd yaml": "names: {a: {b: c}}\ntrain: {d: e}\n",
    "yolo": "0 0.5 0.5 0.1 0.1\n",
    "voc": "<annotation><filename>a.png</filename><object/></annotation>",
    "csv": "image_id,class_name,rad_id,x_min,y_min,x_max,y_max\na,x,R1,1,1,2,2\n",
    "null": "null",
    "list of null": "[null, [], {}, 5]",
    "deep": "[" * 5000,
    "zeros": "\0" * 300,
    "many lines": "x,\n" * 500,
}


def write(root, place, data):
    shutil.rmtree(root, ignore_errors=True)
    for folder in ("images", "labels", "Annotations"):
        (root / folder).mkdir(parents=True)
    (root / "images" / "a.png").write_bytes(picture())
    (root / "data.yaml").write_text(CONTENTS["yaml"])
    (root / place).write_bytes(data)
    return root


def check(reader):
    """Count what is read and what is refused."""
    read = refused = 0
    try:
        for unit in reader.units():
            try:
                read += len(list(reader.read(unit)))
            except UnitError as error:
                assert len(str(error)) > 20
                refused += 1
    except UnitError as error:
        assert len(str(error)) > 20
        refused += 1
    return read, refused


@pytest.mark.parametrize("content", CONTENTS.values(), ids=CONTENTS)
@pytest.mark.parametrize(("reader", "place"), PLACES, ids=[f"{r.__name__} {p}" for r, p in PLACES])
def test_files_of_another_format(tmp_path, reader, place, content):
    read, refused = check(reader(write(tmp_path / "x", place, content.encode()), INFO))
    assert read + refused > 0 or place in ("train.json", "data.yaml", "ChestX_Det_train.json")


@pytest.mark.parametrize(("reader", "place"), PLACES, ids=[f"{r.__name__} {p}" for r, p in PLACES])
def test_a_picture_in_place_of_an_index(tmp_path, reader, place):
    assert check(reader(write(tmp_path / "x", place, picture()), INFO)) == (0, 1)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.sampled_from(PLACES),
    st.sampled_from(list(CONTENTS.values())),
    st.integers(0, 120),
    st.binary(max_size=4),
)
def test_truncated_and_spliced_files(tmp_path, place, content, length, tail):
    reader, path = place
    check(reader(write(tmp_path / "x", path, content.encode()[:length] + tail), INFO))
