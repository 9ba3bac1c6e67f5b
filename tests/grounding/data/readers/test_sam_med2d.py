import json

import numpy as np
import pytest
from PIL import Image

from grounding.data.readers.sam_med2d import SamMed2D
from grounding.data.records import UnitError

TRAIN = {
    "data_demo/images/s0114_111.png": [
        "data_demo/masks/s0114_111_rib_left_9_000.png",
        "data_demo/masks/s0114_111_lung_lower_lobe_left_000.png",
        "data_demo/masks/s0114_111_lung_lower_lobe_left_001.png",
    ]
}
TEST = {  # the masks of an image do not come in a row
    "data_demo/masks/s0619_32_hip_left_000.png": "data_demo/images/s0619_32.png",
    "data_demo/masks/amos_0004_75_liver_000.png": "data_demo/images/amos_0004_75.png",
    "data_demo/masks/s0619_32_hip_left_001.png": "data_demo/images/s0619_32.png",
}


def save(path, value=0):
    path.parent.mkdir(exist_ok=True, parents=True)
    Image.fromarray(np.full((4, 5), value, np.uint8)).save(path)


@pytest.fixture
def root(tmp_path):
    for name in [*TRAIN, *TEST.values()]:
        save(tmp_path / name, 90)
    for name in [*next(iter(TRAIN.values())), *TEST]:
        save(tmp_path / name, 255)
    (tmp_path / "data_demo" / "image2label_train.json").write_text(json.dumps(TRAIN))
    (tmp_path / "data_demo" / "label2image_test.json").write_text(json.dumps(TEST))
    return tmp_path / "data_demo"


def read_all(reader):
    return {image.key: image for unit in reader.units() for image in reader.read(unit)}


def test_both_kinds_of_index(root):
    reader = SamMed2D(root)
    assert [unit.key for unit in reader.units()] == [
        "train/data_demo/images/s0114_111.png",
        "test/data_demo/images/s0619_32.png",
        "test/data_demo/images/amos_0004_75.png",
    ]
    images = read_all(reader)
    train = images["train/data_demo/images/s0114_111.png"]
    labels = ["rib_left_9", "lung_lower_lobe_left", "lung_lower_lobe_left"]
    assert [region.label for region in train.regions] == labels
    assert [region.attributes["part"] for region in train.regions] == [0, 0, 1]
    assert train.annotated == ("rib_left_9", "lung_lower_lobe_left")
    assert (train.patient, train.series, train.slice_index, train.split) == ("s0114", "s0114", 111, "train")
    test = images["test/data_demo/images/s0619_32.png"]
    assert len(test.regions) == 2 and all(region.mask.all() for region in test.regions)
    assert (test.size, test.split, test.modality) == ((4, 5), "test", None)
    assert images["test/data_demo/images/amos_0004_75.png"].patient == "amos_0004"


def test_paths_may_start_at_the_root(root, monkeypatch):
    monkeypatch.chdir(root)
    (root / "label2image_test.json").unlink()
    index = {"images/s0114_111.png": ["masks/s0114_111_rib_left_9_000.png"]}
    (root / "image2label_train.json").write_text(json.dumps(index))
    assert len(read_all(SamMed2D(root))) == len(read_all(SamMed2D(type(root)(".")))) == 1


def test_an_index_of_masks_is_left_aside_where_one_of_images_says_the_same(root):
    (root / "label2image_train.json").write_text(json.dumps(TEST))
    assert len(list(SamMed2D(root).units())) == 3


@pytest.mark.parametrize(
    ("index", "message"),
    [
        ({"images/a_1.png": ["masks/b_1_liver_000.png"]}, "expected a mask of images/a_1.png"),
        ({"images/a_1.png": ["masks/a_1--0000_001.png"]}, "names with '--' are those of SA-Med2D-20M"),
        ({"images/a_1.png": "masks/a_1_liver_000.png"}, "expected a list of mask files"),
        ({"images/a_1.png": ["masks/a_1_spleen_000.png"]}, "a_1_spleen_000.png: cannot be read"),
        ({"images/missing.png": []}, "missing.png: cannot be read"),
        ({"../a.png": []}, "refers to the file"),
        ({"": []}, "expected an object"),
    ],
)
def test_what_is_wrong_with_an_entry(tmp_path, index, message):
    save(tmp_path / "images" / "a_1.png")
    (tmp_path / "image2label_train.json").write_text(json.dumps(index))
    with pytest.raises(UnitError, match=message):
        read_all(SamMed2D(tmp_path))


def test_a_missing_or_broken_index_is_told(tmp_path):
    with pytest.raises(UnitError, match=r"expected image2label_\*\.json or label2image_\*\.json"):
        list(SamMed2D(tmp_path).units())
    (tmp_path / "label2image_test.json").write_text('{"masks/a.png": 3}')
    with pytest.raises(UnitError, match=r"expected \{mask: image\}, got 3"):
        list(SamMed2D(tmp_path).units())
