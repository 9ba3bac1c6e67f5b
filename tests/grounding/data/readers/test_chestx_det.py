"""ChestX-Det: three parallel lists, and lists that are not parallel."""

import json

import pytest
from PIL import Image

from grounding.data.readers.chestx_det import FINDINGS, ChestXDet
from grounding.data.records import DatasetInfo, UnitError

INFO = DatasetInfo("chestx-det")
RECORD = {
    "file_name": "36199.png",
    "syms": ["Effusion", "Nodule"],
    "boxes": [[0, 0, 4, 4], [5, 1, 7, 3]],
    "polygons": [[[0, 0], [4, 0], [4, 4], [0, 4]], [[5, 1], [7, 1], [6, 3]]],
}


def write(root, *records, folder="train_data/train", index="ChestX_Det_train.json"):
    (root / folder).mkdir(parents=True, exist_ok=True)
    Image.new("L", (8, 6), 90).save(root / folder / "36199.png")
    (root / index).write_text(json.dumps(list(records)))
    return root


def read(reader):
    return [image for unit in reader.units() for image in reader.read(unit)]


def test_findings_boxes_and_outlines(tmp_path):
    write(tmp_path, RECORD)
    write(
        tmp_path,
        RECORD | {"syms": [], "boxes": [], "polygons": []},
        folder="test",
        index="ChestX_Det_test.json",
    )
    negative, image = read(ChestXDet(tmp_path, INFO))
    effusion, nodule = image.regions
    assert (effusion.label, effusion.box.tolist(), int(effusion.mask.sum())) == ("Effusion", [0, 0, 4, 4], 16)
    assert nodule.box.tolist() == [5, 1, 7, 3] and nodule.attributes == {"polygons": [[5, 1, 7, 1, 6, 3]]}
    assert (image.split, negative.split, image.modality) == ("train", "test", "DX")
    assert negative.regions == () and negative.annotated == FINDINGS and len(FINDINGS) == 13


@pytest.mark.parametrize("without", ["boxes", "polygons"])
def test_boxes_or_polygons_alone(tmp_path, without):
    (image,) = read(ChestXDet(write(tmp_path, {k: v for k, v in RECORD.items() if k != without}), INFO))
    assert [region.box.tolist() for region in image.regions] == RECORD["boxes"]
    assert (image.regions[0].mask is None) == (without == "polygons")


@pytest.mark.parametrize(
    ("record", "says"),
    [
        (
            RECORD | {"syms": ["Mass"]},
            "as many of each, got 1 syms, 2 boxes and 2 polygons; correct the record",
        ),
        (RECORD | {"syms": "Mass"}, "expected syms to be a list, got str"),
        (RECORD | {"syms": ["Mass", 3]}, "expected a finding of syms to be text, got 3"),
        (RECORD | {"boxes": [[0, 0, 4, 4], [7, 1, 5, 3]]}, "negative width or height"),
        (
            RECORD | {"boxes": [[0, 0, 4, 4], [7, 1, float("nan"), 3]]},
            "the box of Nodule to be 4 finite numbers",
        ),
        (RECORD | {"polygons": [5, 6]}, r"expected an outline \[\[x, y\], ...\], got 5"),
        (RECORD | {"polygons": [[[0, 0], [4, 0]], [[5, 1]]]}, "at least 3 points"),
        ({"file_name": "36199.png", "syms": ["Mass"]}, "Mass has neither box nor polygon"),
        (RECORD | {"file_name": "1.png"}, r"1\.png: expected this picture below"),
        (5, r"ChestX_Det_train\.json: record 0 has no file_name; add it"),
    ],
)
def test_malformed_records_say_what_to_do(tmp_path, record, says):
    with pytest.raises(UnitError, match=says):
        read(ChestXDet(write(tmp_path, record), INFO))


def test_files_that_are_not_there_or_wrong(tmp_path):
    with pytest.raises(UnitError, match=r"expected ChestX_Det_train\.json or"):
        list(ChestXDet(tmp_path, INFO).units())
    (tmp_path / "ChestX_Det_train.json").write_text("{}")
    with pytest.raises(UnitError, match="expected a list of records, got dict"):
        list(ChestXDet(tmp_path, INFO).units())
