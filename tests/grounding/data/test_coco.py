"""Reading COCO json sets: boxes, labels, modalities, and errors that name the file."""

import json

import numpy as np
import pytest
from PIL import Image

from grounding.data.coco import read_coco, read_pixels

CATEGORIES = [
    {"id": 7, "name": "liver", "synonyms": ["hepar"]},
    {"id": 3, "name": "spleen", "synonyms": None},
]


def write_set(folder, images, annotations):
    folder.mkdir()
    content = {"images": images, "annotations": annotations, "categories": CATEGORIES}
    (folder / "train.json").write_text(json.dumps(content))
    return folder


def image(number, **more):
    return {"id": number, "file_name": f"{number}.png", "height": 50, "width": 80, **more}


def annotation(number, image_id, category_id, bbox):
    return {"id": number, "image_id": image_id, "category_id": category_id, "bbox": bbox}


def test_boxes_and_labels_by_hand(tmp_path):
    annotations = [annotation(1, 5, 3, [10, 20, 30, 5]), annotation(2, 5, 7, [0, 0, 80, 50])]
    coco = read_coco(write_set(tmp_path / "abdomen", [image(4), image(5)], annotations), "train")
    assert coco.name == "abdomen"
    assert coco.labels == ("liver", "spleen")
    assert coco.synonyms == (("hepar",), ())
    empty, full = coco.samples
    assert full.image_path == tmp_path / "abdomen" / "images" / "5.png"
    assert full.size == (50, 80)
    assert full.boxes.dtype == np.float32 and full.labels.dtype == np.int64
    assert full.boxes.tolist() == [[10, 20, 40, 25], [0, 0, 80, 50]]  # xywh to xyxy
    assert full.labels.tolist() == [1, 0]  # positions in the list of categories, not ids
    assert empty.boxes.shape == (0, 4) and empty.labels.shape == (0,)


@pytest.mark.parametrize(
    ("record", "code"),
    [
        ({"modality_code": "MR", "modality": "abdominal CT"}, "MR"),
        ({"modality": "abdominal CT"}, "CT"),
        ({"modality": "chest X-ray"}, "DX"),
        ({"modality": "blood smear light microscopy"}, "SM"),
        ({"modality": "fluorescence microscopy"}, "SM"),
        ({"modality": "brightfield microscopy"}, "SM"),
        ({"modality": "thermography"}, None),
        ({}, None),
    ],
)
def test_modality_from_code_or_words(tmp_path, record, code):
    coco = read_coco(write_set(tmp_path / "x", [image(1, **record)], []), "train")
    assert coco.samples[0].modality == code
    assert coco.modalities == {code}


def test_absent_json_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"x/val\.json; pass --data-dir or set MEDGLIP_DATA"):
        read_coco(write_set(tmp_path / "x", [], []), "val")


@pytest.mark.parametrize(("image_id", "category_id"), [(9, 7), (1, 9)])
def test_annotation_of_nothing_is_refused(tmp_path, image_id, category_id):
    folder = write_set(tmp_path / "x", [image(1)], [annotation(33, image_id, category_id, [0, 0, 1, 1])])
    with pytest.raises(ValueError, match=r"train\.json: annotation 33 names an image or category"):
        read_coco(folder, "train")


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "P"])
def test_pixels_are_rgb_whatever_the_file(tmp_path, mode):
    Image.new("L", (8, 5), 200).convert(mode).save(tmp_path / "x.png")
    pixels = read_pixels(tmp_path / "x.png")
    assert pixels.shape == (5, 8, 3) and pixels.dtype == np.uint8
    assert (pixels == 200).all()


def test_every_real_set_is_readable(data_dir):
    for folder in sorted((data_dir / "grounding").iterdir()):
        if (folder / "train.json").exists():
            coco = read_coco(folder, "train")
            assert None not in coco.modalities, folder
            sizes = [(s.boxes, np.array([*s.size[::-1]] * 2)) for s in coco.samples]
            assert all((boxes >= -1).all() and (boxes <= limit + 1).all() for boxes, limit in sizes), folder
