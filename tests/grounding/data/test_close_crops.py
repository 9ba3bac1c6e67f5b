"""Close crops: pairs with and beside, boxes in the pixels of the crop, pictures cut where the boxes say."""

import json

import numpy as np
import pytest
from PIL import Image

from grounding.data.close_crops import main, write_close_crops
from grounding.data.holdout import held_out_groups
from grounding.evaluate.absent import present
from grounding.evaluate.targets import read_targets


@pytest.fixture
def lesions(tmp_path):
    """Six pictures with a bright box on black, one with no box, one that the box fills."""
    folder = tmp_path / "data" / "grounding" / "lesions"
    (folder / "images").mkdir(parents=True)
    boxes = [[10 + 12 * n, 10, 20, 16] for n in range(6)] + [None, [0, 0, 120, 80]]
    annotations = []
    for number, box in enumerate(boxes):
        pixels = np.zeros((80, 120, 3), np.uint8)
        if box is not None:
            x, y, width, height = box
            pixels[y : y + height, x : x + width] = 255
            annotations.append(
                {"id": number, "image_id": number, "category_id": 1, "bbox": box, "iscrowd": 0}
            )
        Image.fromarray(pixels).save(folder / "images" / f"{number}.png")
    images = [
        {
            "id": n,
            "file_name": f"{n}.png",
            "width": 120,
            "height": 80,
            "patient": f"p{n}",
            "modality_code": "ES",
        }
        for n in range(len(boxes))
    ]
    content = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "polyp"}]}
    (folder / "val.json").write_text(json.dumps(content))
    return folder


def test_every_picture_gives_a_pair_or_nothing(lesions, tmp_path):
    out = tmp_path / "close"
    assert write_close_crops(lesions, out) == 12
    targets = read_targets(out, "val")
    assert present(targets)[:, 0].tolist() == [True, False] * 6
    assert [target.group for target in targets.targets[:2]] == ["p0", "p0"]
    assert targets.targets[0].modality == "ES"


def test_boxes_are_where_the_crop_is_bright(lesions, tmp_path):
    write_close_crops(lesions, tmp_path / "close")
    targets = read_targets(tmp_path / "close", "val")
    for target in targets.targets:
        pixels = targets.open(target).pixels[..., 0]
        assert pixels.shape == target.image_size
        if not len(target.boxes):
            assert not pixels.any()
            continue
        rows, columns = np.nonzero(pixels)
        bright = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
        assert target.boxes[0].tolist() == bright
        assert len(rows) >= 0.8 * 20 * 16


def test_the_seed_decides(lesions, tmp_path):
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        write_close_crops(lesions, tmp_path / name, seed=seed)
    one, same, other = ((tmp_path / name / "val.json").read_text() for name in "abc")
    assert one == same != other


def test_of_the_held_out_part_of_train(lesions, tmp_path):
    (lesions / "val.json").rename(lesions / "train.json")
    write_close_crops(lesions, tmp_path / "close", held_out=0.5)
    held = held_out_groups("lesions", [f"p{n}" for n in range(8)], 0.5)
    groups = {target.group for target in read_targets(tmp_path / "close", "val").targets}
    assert groups == held - {"p6", "p7"} and groups


def test_a_set_without_room_beside_its_boxes_is_left_out(lesions, tmp_path, capsys):
    content = json.loads((lesions / "val.json").read_text())
    full = {
        "images": [each for each in content["images"] if each["id"] == 7],
        "annotations": [each for each in content["annotations"] if each["image_id"] == 7],
    }
    (lesions / "val.json").write_text(json.dumps(content | full))
    assert main(["--data-dir", str(tmp_path / "data"), "--out", str(tmp_path / "close")]) is None
    assert "lesions: 0 crops" in capsys.readouterr().out
    assert not (tmp_path / "close" / "lesions").exists()
