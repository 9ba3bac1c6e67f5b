"""MDETR json: phrases cut from captions, all captions of a picture together."""

import json

import pytest
from PIL import Image

from grounding.data.readers.mdetr import Mdetr
from grounding.data.records import DatasetInfo, UnitError

INFO = DatasetInfo("flickr")


def content():
    return {
        "images": [
            {"id": 0, "file_name": "a.jpg", "height": 6, "width": 8, "caption": "one man wearing pink tie.",
             "dataset_name": "mixed", "tokens_negative": [[0, 25]]},
            {"id": 1, "file_name": "a.jpg", "height": 6, "width": 8, "caption": "a man"},
            {"id": 2, "file_name": "b.jpg", "height": 6, "width": 8, "caption": "nothing"},
        ],
        "annotations": [
            {"id": 10, "image_id": 0, "category_id": 1, "bbox": [1, 2, 3.5, 3], "area": 10.5, "iscrowd": 0,
             "tokens_positive": [[16, 20], [21, 24]]},
            {"id": 11, "image_id": 1, "category_id": 1, "bbox": [0, 0, 4, 4], "tokens_positive": [[2, 5]],
             "segmentation": [0, 0, 4, 0, 4, 4, 0, 4]},
        ],
        "categories": [],
    }  # fmt: skip


def write(root, record):
    (root / "images").mkdir(parents=True, exist_ok=True)
    for name in ("a.jpg", "b.jpg"):
        Image.new("L", (8, 6), 90).save(root / "images" / name)
    (root / "final_mixed_train.json").write_text(json.dumps(record))
    return root


def read(reader):
    return [image for unit in reader.units() for image in reader.read(unit)]


def test_phrases_of_all_captions(tmp_path):
    image, other = read(Mdetr(write(tmp_path, content()), INFO))
    tie, man = image.regions
    assert (tie.label, tie.box.tolist()) == ("pink tie", [1, 2, 4.5, 5])
    assert (man.label, int(man.mask.sum())) == ("man", 16)  # one polygon without the outer list
    assert tie.attributes == {
        "area": 10.5, "iscrowd": 0, "tokens_positive": [[16, 20], [21, 24]],
        "caption": "one man wearing pink tie.", "source_id": 10,
    }  # fmt: skip
    assert [row["caption"] for row in image.attributes["captions"]] == ["one man wearing pink tie.", "a man"]
    assert (image.split, image.annotated, other.regions) == ("train", (), ())


def change(part, number, **fields):
    record = content()
    record[part][number] |= fields
    return record


@pytest.mark.parametrize(
    ("record", "says"),
    [
        (change("annotations", 0, tokens_positive=[[20, 99]]), "annotation 10: tokens_positive .* outside"),
        (change("annotations", 0, tokens_positive=None), "expected tokens_positive"),
        (change("annotations", 0, bbox=[1, 2, -3, 3]), "negative width or height"),
        (change("annotations", 0, bbox=[1, 2, float("nan"), 3]), "4 finite numbers"),
        (change("annotations", 0, image_id=9), "1 annotations name image '9', which is not there"),
        (change("images", 0, caption=5), "expected a caption to be text"),
        (change("images", 0, height=7), "its records declare different sizes"),
        (change("images", 2, height=7), "made for 7 x 8"),
        (change("images", 2, file_name="c.jpg"), r"c\.jpg: expected this picture"),
        (change("images", 2, file_name=None), "1 image records have no file_name; add it"),
    ],
)
def test_malformed_records_say_what_to_do(tmp_path, record, says):
    with pytest.raises(UnitError, match=says):
        read(Mdetr(write(tmp_path, record), INFO))


def test_an_empty_folder_says_what_was_expected(tmp_path):
    with pytest.raises(UnitError, match="expected MDETR files"):
        list(Mdetr(tmp_path, INFO).units())
