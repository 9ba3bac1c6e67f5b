"""Phantoms written as COCO folders and read back."""

import json

import numpy as np

from grounding.data.phantom_sets import phantom_sets, write_phantom_set
from grounding.data.phantoms import MODALITIES, make_phantom


def test_boxes_and_labels_survive(tmp_path):
    from grounding.data.coco import read_coco

    write_phantom_set(tmp_path, "OP", 2, first_seed=5)
    coco = read_coco(tmp_path, "train")
    assert coco.modalities == {"OP"}
    for number, sample in enumerate(coco.samples):
        regions = make_phantom("OP", 5 + number).regions
        np.testing.assert_array_equal(sample.boxes, regions.boxes)
        assert [coco.labels[label] for label in sample.labels] == list(regions.phrases)


def test_a_set_a_modality_drawn_once(tmp_path):
    sets = phantom_sets(tmp_path, 1)
    assert [coco.name for coco in sets] == [f"phantom_{modality.lower()}" for modality in MODALITIES]
    path = tmp_path / "phantom_cr" / "train.json"
    path.write_text(path.read_text().replace("left lung", "kept as it was"))
    assert "kept as it was" in phantom_sets(tmp_path, 1)[0].labels


def test_training_seeds_are_not_those_of_the_examples(tmp_path):
    write_phantom_set(tmp_path, "DMS", 1)
    boxes = [a["bbox"] for a in json.loads((tmp_path / "train.json").read_text())["annotations"]]
    assert boxes[0][:2] != make_phantom("DMS", 0).regions.boxes[0][:2].tolist()
