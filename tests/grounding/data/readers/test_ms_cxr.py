"""MS-CXR: csv and json say the same, and the subject's number stays out of everything but `patient`."""

import json

import pytest
from PIL import Image

from grounding.data.readers.ms_cxr import MsCxr
from grounding.data.records import DatasetInfo, UnitError

INFO = DatasetInfo("ms-cxr")
PATH = "files/p10/p10000032/s50414267/02aa804e.jpg"
HEADER = "dicom_id,category_name,label_text,path,x,y,w,h,image_width,image_height,split"
ROWS = [
    f'02aa804e,Pneumonia,"opacity, left base",{PATH},1,2,3,4,8,6,val',
    f"02aa804e,Pneumothorax,apical line,{PATH},0,0,2,2,8,6,val",
]


def write(root, rows=tuple(ROWS), header=HEADER):
    root.mkdir(exist_ok=True)
    (root / "MS_CXR_Local_Alignment_v1.1.0.csv").write_text("\n".join([header, *rows]) + "\n")
    (root / PATH).parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", (8, 6), 90).save(root / PATH)
    return root


def read(reader):
    return [image for unit in reader.units() for image in reader.read(unit)]


def test_phrases_with_their_boxes(tmp_path):
    (image,) = read(MsCxr(write(tmp_path), INFO))
    first, second = image.regions
    assert (first.label, first.box.tolist()) == ("Pneumonia", [1, 2, 4, 6])
    assert first.attributes == {"phrase": "opacity, left base"} and second.attributes == {
        "phrase": "apical line"
    }
    assert (image.key, image.file_name, image.split, image.modality) == (
        "02aa804e",
        "02aa804e.jpg",
        "val",
        "DX",
    )
    assert image.annotated == () and image.patient == "10000032"
    assert "p10" not in image.key + image.file_name + str(image.attributes)


def test_the_json_says_the_same(tmp_path):
    write(tmp_path)
    expected = read(MsCxr(tmp_path, INFO))[0]
    (tmp_path / "MS_CXR_Local_Alignment_v1.1.0.csv").unlink()
    content = {
        "images": [
            {
                "id": 3,
                "file_name": "02aa804e.jpg",
                "path": PATH,
                "height": 6,
                "width": 8,
                "num_annotations": 2,
            }
        ],
        "annotations": [
            {
                "id": 1,
                "image_id": 3,
                "category_id": 1,
                "bbox": [1, 2, 3, 4],
                "label_text": "opacity, left base",
            },
            {"id": 2, "image_id": 3, "category_id": 2, "bbox": [0, 0, 2, 2], "label_text": "apical line"},
        ],
        "categories": [{"id": 1, "name": "Pneumonia"}, {"id": 2, "name": "Pneumothorax"}],
    }
    (tmp_path / "MS_CXR_Local_Alignment_v1.0.0.json").write_text(json.dumps(content))
    (image,) = read(MsCxr(tmp_path, INFO))
    assert (image.key, image.patient, image.split) == (expected.key, expected.patient, None)
    assert [(r.label, r.box.tolist(), r.attributes) for r in image.regions] == [
        (r.label, r.box.tolist(), r.attributes) for r in expected.regions
    ]


@pytest.mark.parametrize("below", ["", "files"])
def test_pictures_elsewhere(tmp_path, below):
    write(tmp_path / "jpg")
    (tmp_path / "ann").mkdir()
    index = "MS_CXR_Local_Alignment_v1.1.0.csv"
    (tmp_path / "jpg" / index).rename(tmp_path / "ann" / index)
    assert len(read(MsCxr(tmp_path / "ann", INFO, images=tmp_path / "jpg" / below))) == 1


@pytest.mark.parametrize(
    ("row", "says"),
    [
        (ROWS[0].replace(",1,2,3,4,", ",1,2,-3,4,"), "picture 02aa804e: .*negative width or height"),
        (ROWS[0].replace(",1,2,3,4,", ",1,2,nan,4,"), "expected the box of 'Pneumonia' to be finite"),
        (ROWS[0].replace(",8,6,", ",9,6,"), "made for 6 x 9; use the original"),
        (ROWS[0].replace("Pneumonia", ""), "expected category_name to be text"),
        (ROWS[0].replace("/s50414267/02aa804e", "/s5/none"), r"02aa804e\.jpg: expected this picture"),
        (ROWS[0].replace("02aa804e,", ",", 1), "row 0 names no picture; add dicom_id and path"),
        (ROWS[0].replace("files/p10", "../../p10"), "outside of it"),
    ],
)
def test_malformed_rows_say_what_to_do_without_the_subject(tmp_path, row, says):
    with pytest.raises(UnitError, match=says) as caught:
        read(MsCxr(write(tmp_path / "x", [row]), INFO))
    assert "p10000032" not in str(caught.value) and caught.value.__cause__ is None


def test_files_that_are_not_there_or_wrong(tmp_path):
    with pytest.raises(UnitError, match=r"expected MS_CXR_Local_Alignment_v\*\.csv or \.json there"):
        list(MsCxr(tmp_path, INFO).units())
    write(tmp_path, ["1,2"], "dicom_id,path")
    with pytest.raises(UnitError, match="lacks the columns category_name, label_text, x, y, w, h"):
        list(MsCxr(tmp_path, INFO).units())
