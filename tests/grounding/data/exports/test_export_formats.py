"""What each export writes, by hand, and what it says it left out."""

from __future__ import annotations

import json

import pytest
import yaml

from grounding.data.coco import read_coco
from grounding.data.exports import coco as coco
from grounding.data.exports import odvg as odvg
from grounding.data.exports import yolo as yolo
from grounding.data.exports.report import LOSSES, PictureNames, safe_name


@pytest.fixture
def native(make_row, make_region, make_rle, write_native):
    import numpy as np

    mask = np.zeros((80, 100), dtype=bool)
    mask[10:40, 10:50] = True
    liver = make_region(
        "liver", (10, 10, 50, 40), raw_label="hepar", parent="abdominal organ", phrase="the liver",
        mask=make_rle(mask), area=1200.0, attributes='{"iscrowd": 1, "raw_label": "theirs"}',
    )  # fmt: skip
    tumour = make_region("liver tumour", (20, 15.5, 30, 25), granularity="lesion", parent="liver")
    described = {"categories": {"hepar": {"synonyms": ["hepar"], "supercategory": "x"}}, "view": "axial"}
    rows = [
        make_row("a/1", [liver, tumour, liver | {"mask": "", "box": [0.0, 0.0, 1.0, 2.0]}],
                 spacing_mm=[0.5, 0.6], slice_index=4, axis="axial", attributes=json.dumps(described)),
        make_row("a_1", [], annotated_labels=["liver"], absent_labels=["liver"], modality=""),
        make_row("c", [tumour], split="val", dataset="other/set", licence="CC BY 4.0"),
    ]  # fmt: skip
    return write_native(rows)


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_coco(native, tmp_path):
    report = coco.export_coco(native, tmp_path / "out")
    assert (report.images, report.regions, report.losses) == (3, 4, {})
    assert "nothing was left out" in str(report)
    content = json.loads((tmp_path / "out" / "made" / "train.json").read_text())
    assert "Research use only" in content["info"]["description"]
    assert content["licenses"] == [{"id": 1, "name": "CC0"}]
    assert content["categories"] == [
        {
            "synonyms": ["hepar"],
            "supercategory": "abdominal organ",
            "name": "liver",
            "granularity": "organ",
            "id": 1,
        },
        {"name": "liver tumour", "supercategory": "liver", "granularity": "lesion", "synonyms": [], "id": 2},
    ]
    image, empty = content["images"]
    assert (image["file_name"], empty["file_name"]) == ("a_1.png", "a_1-2.png")
    assert image["modality_code"] == "CT" and image["spacing_mm"] == [0.5, 0.6] and image["slice_index"] == 4
    assert image["attributes"] == {"view": "axial"} and "modality_code" not in empty
    assert empty["absent_labels"] == ["liver"]
    first = content["annotations"][0]
    assert first["bbox"] == [10, 10, 40, 30] and first["area"] == 1200 and first["iscrowd"] == 1
    assert first["segmentation"]["size"] == [80, 100] and first["phrase"] == "the liver"
    assert first["raw_label"] == "hepar" and first["attributes"]["raw_label"] == "theirs"
    assert content["annotations"][2]["segmentation"] == []
    assert [(a["id"], a["image_id"], a["category_id"]) for a in content["annotations"]] == [
        (1, 1, 1), (2, 1, 2), (3, 1, 1),
    ]  # fmt: skip
    assert not list((tmp_path / "out").rglob("*.part"))
    assert read_coco(tmp_path / "out" / "made", "train").labels == ("liver", "liver tumour")
    assert (tmp_path / "out" / "other_set" / "val.json").is_file()


def test_odvg_detection(native, tmp_path):
    report = odvg.export_odvg(native, tmp_path / "out")
    label_map = json.loads((tmp_path / "out" / "made" / "label_map.json").read_text())
    assert label_map == {"0": "liver", "1": "liver tumour"}
    first, empty = lines(tmp_path / "out" / "made" / "train.jsonl")
    assert first["detection"]["instances"][1] == {
        "bbox": [20, 15.5, 30, 25],
        "label": 1,
        "category": "liver tumour",
    }
    assert empty == {"filename": "a_1-2.png", "height": 80, "width": 100, "detection": {"instances": []}}
    assert dict(report.losses) == {
        "masks": 1, "raw labels": 2, "hierarchy": 4, "region attributes": 2, "image attributes": 1,
        "patients": 3, "geometry": 1, "modalities": 3, "absences": 1, "phrases": 2, "partial annotation": 1,
    }  # fmt: skip
    assert "left out: masks: 1 regions whose mask is reduced to its box" in str(report)


def test_odvg_grounding(native, tmp_path):
    report = odvg.export_odvg(native, tmp_path / "out", "train", variant="grounding")
    first, empty = lines(tmp_path / "out" / "made" / "train.jsonl")
    content = first["grounding"]
    assert content["caption"] == "the liver. liver tumour."
    both, one = content["regions"]
    assert both["bbox"] == [[10, 10, 50, 40], [0, 0, 1, 2]] and one["bbox"] == [20, 15.5, 30, 25]
    assert [content["caption"][slice(*r["tokens_positive"][0])] for r in (both, one)] == [
        "the liver",
        "liver tumour",
    ]
    assert empty["grounding"] == {"caption": "", "regions": []}
    assert report.images == 2 and report.losses["labels"] == 2 and "phrases" not in report.losses
    assert not (tmp_path / "out" / "made" / "label_map.json").exists()
    with pytest.raises(ValueError, match="expected variant to be one of detection, grounding, got 'both'"):
        odvg.export_odvg(native, tmp_path / "more", variant="both")


def test_yolo(native, tmp_path):
    report = yolo.export_yolo(native, tmp_path / "out")
    content = yaml.safe_load((tmp_path / "out" / "made" / "data.yaml").read_text())
    assert content["names"] == {0: "liver", 1: "liver tumour"} and content["train"] == "images/train"
    assert (
        "val" not in content and content["license"] == "CC0" and "Research use only" in content["description"]
    )
    labels = tmp_path / "out" / "made" / "labels" / "train"
    assert (labels / "a_1.txt").read_text().splitlines() == [
        "0 0.3 0.3125 0.4 0.375", "1 0.25 0.253125 0.1 0.11875", "0 0.005 0.0125 0.01 0.025",
    ]  # fmt: skip
    assert (labels / "a_1-2.txt").read_text() == ""
    assert report.losses["partial annotation"] == 1 and report.losses["masks"] == 1


def test_hf(native, tmp_path):
    datasets = pytest.importorskip("datasets")
    from grounding.data.exports.hf import export_hf

    report = export_hf(native, tmp_path / "out")
    assert (report.images, report.regions, report.losses) == (3, 4, {})
    built = datasets.load_dataset(str(tmp_path / "out"), cache_dir=str(tmp_path / "cache"))
    assert {name: len(part) for name, part in built.items()} == {"train": 2, "val": 1}
    example, features = built["train"][0], built["train"].features
    assert example["image"].size == (100, 80) and example["spacing_mm"] == [0.5, 0.6]
    assert example["objects"]["bbox"] == [[10, 10, 40, 30], [20, 15.5, 10, 9.5], [0, 0, 1, 2]]
    names = features["objects"]["category"].feature.names
    assert [names[number] for number in example["objects"]["category"]] == ["liver", "liver tumour", "liver"]
    assert example["objects"]["phrase"][0] == "the liver" and example["objects"]["mask"][0]
    assert built["train"][1]["absent_labels"] == ["liver"]
    assert "Research use only" in (tmp_path / "out" / "README.md").read_text()


@pytest.mark.parametrize("export", [coco.export_coco, odvg.export_odvg, yolo.export_yolo])
def test_folders_that_hold_files_are_refused(native, tmp_path, export):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").write_text("")
    with pytest.raises(FileExistsError, match="is not empty; give a new folder, or remove it first"):
        export(native, tmp_path / "full")
    with pytest.raises(FileNotFoundError, match=r"expected manifest\.json"):
        export(tmp_path / "none", tmp_path / "new")


def test_file_names(make_row):
    names = PictureNames()
    keys = ["a/b.dcm", "a_b.DCM", "A_B", "../../etc", "x" * 400, "ü"]
    found = [names.of(make_row(key)) for key in keys]
    assert found == ["a_b.png", "a_b-2.png", "A_B-3.png", "etc.png", f"{'x' * 150}.png", "_.png"]
    assert names.of(make_row("a/b", image={"bytes": b"\xff\xd8\xff", "path": None})) == "a_b.jpg"
    assert safe_name("..") == "_" and safe_name("BTCV (abdomen)") == "BTCV_abdomen"


def test_every_loss_is_explained():
    told = {*coco.LOSSES, *yolo.LOSSES, *odvg.LOSSES["detection"], *odvg.LOSSES["grounding"]}
    assert told == set(LOSSES)
