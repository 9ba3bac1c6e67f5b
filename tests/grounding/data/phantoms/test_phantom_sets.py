"""Phantoms written as COCO folders and read back."""

import json

import numpy as np
import pytest
from pycocotools.mask import decode

from grounding.data.coco import read_coco
from grounding.data.engine.builder import build
from grounding.data.engine.config import BuildConfig, SourceConfig
from grounding.data.inspect.check import check
from grounding.data.phantoms import MODALITIES, make_phantom
from grounding.data.phantoms.labels import PHANTOM_LABELS
from grounding.data.phantoms.sets import main, phantom_sets, write_phantom_set
from grounding.data.readers.coco_json import CocoJson
from grounding.data.records import DatasetInfo


def test_boxes_labels_and_masks_survive(tmp_path):
    write_phantom_set(tmp_path, "OP", 2, first_seed=5, size=128)
    coco = read_coco(tmp_path, "train")
    content = json.loads((tmp_path / "train.json").read_text())
    assert coco.modalities == {"OP"}
    for number, sample in enumerate(coco.samples):
        regions = make_phantom("OP", 5 + number, size=128).regions
        np.testing.assert_array_equal(sample.boxes, regions.boxes)
        assert [coco.labels[label] for label in sample.labels] == list(regions.phrases)
        rows = [row for row in content["annotations"] if row["image_id"] == number]
        masks = np.stack([decode(row["segmentation"]).astype(bool) for row in rows])
        np.testing.assert_array_equal(masks, regions.masks)
        assert [row["area"] for row in rows] == regions.masks.sum(axis=(1, 2)).tolist()


def test_categories_are_all_labels_of_the_modality_with_their_granularity(tmp_path):
    write_phantom_set(tmp_path, "CT", 1, size=96)
    categories = json.loads((tmp_path / "train.json").read_text())["categories"]
    assert {c["name"]: c["granularity"] for c in categories} == {
        name: label.granularity for name, label in PHANTOM_LABELS["CT"].items()
    }


def test_a_set_a_modality_drawn_once(tmp_path):
    sets = phantom_sets(tmp_path, 1)
    assert [coco.name for coco in sets] == [f"phantom_{modality.lower()}" for modality in MODALITIES]
    path = tmp_path / "phantom_cr" / "train.json"
    path.write_text(path.read_text().replace("left lung", "kept as it was"))
    assert "kept as it was" in phantom_sets(tmp_path, 1)[0].labels


def test_a_complete_folder_is_read_with_the_modalities_it_has(tmp_path):
    write_phantom_set(tmp_path / "phantom_cr", "CR", 1, size=64)
    (tmp_path / "done").touch()
    assert [coco.name for coco in phantom_sets(tmp_path, 9)] == ["phantom_cr"]


def test_training_seeds_are_not_those_of_the_examples(tmp_path):
    write_phantom_set(tmp_path, "DMS", 1)
    boxes = [a["bbox"] for a in json.loads((tmp_path / "train.json").read_text())["annotations"]]
    assert boxes[0][:2] != make_phantom("DMS", 0).regions.boxes[0][:2].tolist()


def test_command_line(tmp_path, capsys):
    main(["--out", str(tmp_path), "--count", "2", "--modality", "ES", "--seed", "7", "--size", "96"])
    assert capsys.readouterr().out.split() == [str(tmp_path / "phantom_es")]
    sample = read_coco(tmp_path / "phantom_es", "train").samples[0]
    np.testing.assert_array_equal(sample.boxes, make_phantom("ES", 7, size=96).regions.boxes)


def test_unknown_modality_writes_nothing(tmp_path):
    with pytest.raises(ValueError, match="expected one of CR"):
        write_phantom_set(tmp_path, "PT", 1)


@pytest.mark.parametrize(("modality", "orientation"), [("CT", ("L", "P")), ("OP", None)])
def test_the_orientation_is_read_back(tmp_path, modality, orientation):
    write_phantom_set(tmp_path / "set", modality, 1)
    reader = CocoJson(tmp_path / "set", DatasetInfo("set"))
    (image,) = (image for unit in reader.units() for image in reader.read(unit))
    assert image.orientation == orientation


def test_mirrored_phantoms_are_found_by_the_check(tmp_path):
    """The orientation is no ornament: turned round, the check names the sides."""
    faults = []
    for number, direction in enumerate("LR"):
        write_phantom_set(tmp_path / str(number), "CT", 1)
        path = tmp_path / str(number) / "train.json"
        content = json.loads(path.read_text())
        content["images"][0]["orientation"] = [direction, "P"]
        path.write_text(json.dumps(content))
        source = SourceConfig("coco", tmp_path / str(number), name="ct")
        build(BuildConfig((source,)), tmp_path / f"built{number}", progress=False)
        report = check(tmp_path / f"built{number}")
        assert report.oriented == 1
        faults.append([fault.what for fault in report.faults if "lies on the right of" in fault.what])
    assert not faults[0] and faults[1]
