"""COCO json: the three layouts, extras kept, patients apart, and errors that name file and remedy."""

import json
import pickle
import re

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from grounding.data.readers.coco_json import CocoJson, coco_info
from grounding.data.records import DatasetInfo, UnitError

INFO = DatasetInfo("abdomen", modality="CT")


def content(**changes):
    base = {
        "info": {"source_repository": "example.org/abdomen"},
        "licenses": [{"id": 4, "name": "CC BY 4.0", "url": "https://example.org/by"}],
        "images": [
            {
                **{"id": 5, "file_name": "a.png", "width": 8, "height": 6, "license": 4, "view": "axial"},
                **{"modality": "abdominal CT", "patient": "P7", "slice": 12, "orientation": ["P", "L"]},
                "spacing_mm": [0.7, 0.8],
            },
            {"id": 6, "file_name": "b.png", "width": 8, "height": 6, "annotated_labels": ["liver"]},
        ],
        "annotations": [
            {"id": 1, "image_id": 5, "category_id": 3, "bbox": [1, 2, 3.5, 4], "area": 9.5,
             "iscrowd": 1, "segmentation": {"size": [6, 8], "counts": [10, 2, 36]}, "raw_label": "lien"},
            {"id": 2, "image_id": 5, "category_id": 7, "bbox": [0, 0, 4, 4],
             "segmentation": [[0, 0, 4, 0, 4, 4, 0, 4]], "attributes": {"occluded": True}},
            {"id": 3, "image_id": 5, "category_id": 7, "segmentation": [[0, 0, 2, 0, 2, 2, 0, 2]]},
        ],
        "categories": [
            {"id": 7, "name": "liver", "supercategory": "organ", "synonyms": ["hepar"],
             "granularity": "organ", "ancestors": ["organ", "abdomen"]},
            {"id": 3, "name": "spleen"},
        ],
    }  # fmt: skip
    return base | changes


def write(root, record, index="train.json", pictures="images"):
    (root / index).parent.mkdir(parents=True, exist_ok=True)
    (root / index).write_text(json.dumps(record))
    (root / pictures).mkdir(parents=True, exist_ok=True)
    for image in record.get("images", ()):
        Image.new("L", (8, 6), 90).save(root / pictures / str(image.get("file_name") or "c.png"))
    return root


def read(reader):
    return [image for unit in reader.units() for image in reader.read(unit)]


def test_boxes_masks_and_extras(tmp_path):
    full, negative = read(CocoJson(write(tmp_path, content()), INFO))
    assert (full.key, full.file_name, full.size, full.split) == ("train/a.png", "a.png", (6, 8), "train")
    assert full.picture == (tmp_path / "images" / "a.png").read_bytes()
    spleen, liver, outline = full.regions
    assert [region.label for region in full.regions] == ["spleen", "liver", "liver"]
    assert spleen.box.tolist() == [1, 2, 4.5, 6] and spleen.box.dtype == np.float64
    assert np.argwhere(spleen.mask).tolist() == [[4, 1], [5, 1]]  # pixels 10 and 11, down the columns of 6
    assert spleen.attributes == {"area": 9.5, "iscrowd": 1, "raw_label": "lien", "source_id": 1}
    assert liver.mask.sum() == 16
    assert liver.attributes == {"occluded": True, "source_id": 2, "polygons": [[0, 0, 4, 0, 4, 4, 0, 4]]}
    assert outline.box is None and outline.mask.sum() == 4
    assert full.annotated == ("liver", "spleen")
    assert negative.regions == () and negative.annotated == ("liver",)  # its own list is believed


def test_what_the_image_record_tells(tmp_path):
    full, other = read(CocoJson(write(tmp_path, content()), DatasetInfo("abdomen", modality="MR")))
    assert (full.modality, other.modality) == ("CT", "MR")
    assert (full.patient, full.series, full.slice_index) == ("P7", "P7", 12)
    assert full.orientation == ("P", "L") and full.spacing_mm == (0.7, 0.8) and full.window is None
    assert full.attributes == {
        "modality": "abdominal CT", "view": "axial", "source_id": 5,
        "licence": {"id": 4, "name": "CC BY 4.0", "url": "https://example.org/by"},
        "categories": {
            "liver": {"supercategory": "organ", "synonyms": ["hepar"], "granularity": "organ",
                      "ancestors": ["organ", "abdomen"]},
            "spleen": {},
        },
    }  # fmt: skip
    assert "P7" not in json.dumps(full.attributes)


def test_sets_that_are_not_exhaustive_annotate_nothing(tmp_path):
    full, other = read(CocoJson(write(tmp_path, content()), INFO, exhaustive=False))
    assert full.annotated == () and other.annotated == ("liver",)


@pytest.mark.parametrize(
    ("index", "pictures", "split"),
    [
        ("val.json", "images", "val"),
        ("annotations/instances_train2017.json", "train2017", "train"),
        ("annotations/instances_val2017.json", "images/val2017", "val"),
        ("test/_annotations.coco.json", "test", "test"),
        ("all.json", ".", None),
    ],
)
def test_layouts(tmp_path, index, pictures, split):
    images = read(CocoJson(write(tmp_path, content(), index, pictures), INFO))
    assert [image.split for image in images] == [split] * 2


def test_the_set_tells_of_itself(tmp_path):
    record = content(images=[content()["images"][0]])
    info = coco_info(write(tmp_path / "abdomen", record))
    assert info == DatasetInfo("abdomen", "CC BY 4.0", "example.org/abdomen", "https://example.org/by", "CT")


def test_readers_and_units_travel(tmp_path):
    reader = CocoJson(write(tmp_path, content()), INFO)
    units = list(reader.units())
    json.dumps([dict(unit.payload) for unit in units])
    assert pickle.loads(pickle.dumps(reader)) == reader
    assert [u.key for u in units] == [u.key for u in reader.units()]


def change(part, number, **fields):
    record = content()
    record[part][number] |= fields
    return record


@pytest.mark.parametrize(
    ("record", "says"),
    [
        (change("images", 0, width=9), r"a\.png: has 6 x 8 pixels .* made for 6 x 9; use the original"),
        (change("images", 0, width="wide"), "declares height 6 and width 'wide'"),
        (change("images", 0, file_name=None), "image 5 has no file_name; add it"),
        (change("images", 0, file_name="../../x.png"), "outside of it; correct the index"),
        (change("images", 0, id=6), "shares its id 6 with another; number the images anew"),
        (change("annotations", 0, category_id=9), r"train\.json: image 'a\.png' uses category 9, .*; add it"),
        (change("annotations", 0, image_id=9), r"annotation 1 names image 9, .*; remove it or add the image"),
        (
            change("annotations", 0, bbox=[1, 2, float("nan"), 4]),
            "annotation 1: expected bbox to be 4 finite",
        ),
        (change("annotations", 0, bbox=[1, 2, 3]), "expected bbox to be 4 finite numbers"),
        (change("annotations", 0, bbox=[1, 2, -3, 4]), "negative width or height"),
        (change("annotations", 2, segmentation=[]), "annotation 3: expected bbox"),
        (change("annotations", 1, segmentation={"size": [8, 6], "counts": [48]}), "its mask has"),
    ],
)
def test_one_bad_record_fails_alone(tmp_path, record, says):
    (tmp_path / "root").mkdir()
    reader = CocoJson(write(tmp_path / "root", record), INFO)
    failures, good = [], []
    for unit in reader.units():
        try:
            good += reader.read(unit)
        except UnitError as error:
            failures.append(str(error))
    assert any(re.search(says, failure) for failure in failures), failures
    assert "b.png" in [image.file_name for image in good] or "shares its id" in says


def test_a_missing_picture_is_named(tmp_path):
    root = write(tmp_path, content())
    (root / "images" / "a.png").unlink()
    reader = CocoJson(root, INFO)
    with pytest.raises(UnitError, match=r"a\.png: expected this picture below .*; copy the pictures there"):
        list(reader.read(next(reader.units())))


@pytest.mark.parametrize(
    "text", ["", '{"images": []', "[]", '{"images": []}', '{"images": 3, "annotations": []}']
)
def test_a_broken_index_fails_whole(tmp_path, text):
    (tmp_path / "train.json").write_text(text)
    with pytest.raises(UnitError, match=r"train\.json"):
        list(CocoJson(tmp_path, INFO).units())


def test_an_empty_folder_says_what_was_expected(tmp_path):
    with pytest.raises(UnitError, match=r"expected <split>\.json beside images/"):
        list(CocoJson(tmp_path, INFO).units())


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
PLACES = [(part, field) for part in ("images", "annotations", "categories") for field in content()[part][0]]


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from([*PLACES, ("images", "window"), ("images", "attributes")]), JSON)
def test_any_value_anywhere_gives_a_record_or_a_unit_error(tmp_path, place, value):
    part, field = place
    write(tmp_path, content())
    (tmp_path / "train.json").write_text(json.dumps(change(part, 0, **{field: value})))
    reader = CocoJson(tmp_path, INFO)
    try:
        units = list(reader.units())
    except UnitError:
        return
    for unit in units:
        try:
            assert all(region.label for image in reader.read(unit) for region in image.regions)
        except UnitError as error:
            assert str(error)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, 1500), st.sampled_from(["train.json", "images/a.png"]))
def test_truncated_files_give_a_record_or_a_unit_error(tmp_path, length, name):
    write(tmp_path, content())
    path = tmp_path / name
    path.write_bytes(path.read_bytes()[:length])
    reader = CocoJson(tmp_path, INFO)
    try:
        for unit in reader.units():
            list(reader.read(unit))
    except UnitError as error:
        assert path.name in str(error)


@pytest.mark.parametrize("name", ["blood_cells", "brain_tumour_mri", "ct_organs", "cxr_lungs", "nuclei"])
def test_real_sets(data_dir, name):
    root = data_dir / "grounding" / name
    reader = CocoJson(root, coco_info(root))
    units = list(reader.units())
    (image,) = reader.read(units[len(units) // 2])
    assert image.split in ("train", "val") and image.modality and image.annotated
    if name == "ct_organs":  # masks of the set give the boxes of the set
        assert image.patient and image.series and image.slice_index is not None
        for unit in units[:: len(units) // 4]:
            for region in next(reader.read(unit)).regions:
                rows, columns = np.nonzero(region.mask)
                tight = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
                assert np.abs(region.box - tight).max() < 1e-3 or "bbox_all_parts" in region.attributes
