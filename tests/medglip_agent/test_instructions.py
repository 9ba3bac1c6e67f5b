"""The command that writes instruction data, on a toy data folder and a grounder of three lines."""

import csv
import json

import numpy as np
import pytest
from PIL import Image

from grounding.types import Regions
from llm.data.instructions import read_instructions
from llm.data.nih_cxr import LABELS
from medglip_agent.instructions import main, training_sources


@pytest.fixture
def data(tmp_path):
    """Eight pictures with polyps, one chest X-ray, one question about a picture that is not there."""
    folder = tmp_path / "data" / "grounding" / "toy"
    (folder / "images").mkdir(parents=True)
    images, annotations = [], []
    for k in range(8):
        Image.new("L", (100, 80)).save(folder / "images" / f"{k}.png")
        images.append({"id": k, "file_name": f"{k}.png", "width": 100, "height": 80, "patient": f"P{k}"})
        if k % 4:
            box = [10 if k % 2 else 70, 5, 20, 20]
            annotations.append({"id": k, "image_id": k, "category_id": 1, "bbox": box})
    content = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "polyp"}]}
    (folder / "train.json").write_text(json.dumps(content))
    nih = tmp_path / "data" / "classification" / "nih_cxr"
    (nih / "images").mkdir(parents=True)
    Image.new("L", (40, 40)).save(nih / "images" / "1.png")
    columns = ["file_name", "patient_id", "view", "split", "no_finding", *LABELS]
    with (nih / "labels.csv").open("w", newline="") as file:
        table = csv.DictWriter(file, columns, restval="0")
        table.writeheader()
        table.writerow(
            dict(zip(columns[:4], ("1.png", "5", "PA", "train"), strict=True)) | {"Pneumonia": "1"}
        )
    slake = tmp_path / "data" / "vqa" / "slake_text"
    slake.mkdir(parents=True)
    record = {
        **{"qid": 1, "img_name": "xmlab1/source.jpg", "question": "What is it?", "answer": "Liver"},
        **{"q_lang": "en", "answer_type": "OPEN", "content_type": "Organ", "location": "Abdomen"},
        **{"modality": "MRI", "base_type": "vqa"},
    }
    (slake / "train_en.json").write_text(json.dumps([record]))
    return tmp_path / "data"


def test_every_source_becomes_a_file(data, tmp_path, capsys):
    out = tmp_path / "out"
    assert main(["--data-dir", str(data), "--out", str(out), "--export", "swift"]) == 0
    names = {"boxes", "captions", "findings", "nih_reports", "slake_text"}
    assert {path.stem for path in out.glob("*.jsonl")} >= names
    items = {name: read_instructions(out / f"{name}.jsonl") for name in names}
    assert len({item.qid for own in items.values() for item in own}) == sum(map(len, items.values()))
    assert {item.answer for item in items["boxes"]} >= {"yes", "no"}
    assert items["slake_text"][0].image_path is None
    assert items["boxes"][0].image_path.resolve().is_file()
    assert (out / "swift" / "boxes.jsonl").read_text().count("\n") == len(items["boxes"])
    assert f"boxes.jsonl: {len(items['boxes'])}" in capsys.readouterr().out
    assert "P1" not in (out / "boxes.jsonl").read_text()


def test_lungs_come_from_the_grounder(data):
    def ground(image, phrases):
        return Regions(np.array([[0, 0, 9, 9]]), np.array([0.5]), np.array([0]), tuple(phrases), image.size)

    (report,) = training_sources(data, ground=ground)["nih_reports"]
    assert "Findings of pneumonia [R1]." in report.answer
    (plain,) = training_sources(data)["nih_reports"]
    assert plain.regions is None


def test_a_folder_without_data_is_told(tmp_path, capsys):
    with pytest.raises(SystemExit):
        main(["--data-dir", str(tmp_path), "--out", str(tmp_path / "out")])
    assert "holds none of" in capsys.readouterr().err


def test_the_real_folder(data_dir):
    sources = training_sources(data_dir)
    sizes = {name: len(items) for name, items in sources.items()}
    assert sizes["boxes"] > 4000
    assert sizes["slake_text"] == 4918
    assert sizes["nih_reports"] == 726
    qids = [item.qid for items in sources.values() for item in items]
    assert len(set(qids)) == len(qids)
