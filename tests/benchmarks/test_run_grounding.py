"""The grounding benchmark's files, with a grounder that answers one box a phrase."""

import json

import numpy as np
from PIL import Image

import grounding.predictor
from benchmarks import run_grounding
from grounding.types import Regions


class OneBox:
    def ground_batch(self, images, phrases_per_image, *, box_threshold=None):
        return [
            Regions(
                boxes=np.array([[10, 10, 30, 30]] * len(phrases), dtype=np.float32),
                scores=np.full(len(phrases), 0.5, dtype=np.float32),
                phrase_index=np.arange(len(phrases)),
                asked=tuple(phrases),
                image_size=image.size,
            )
            for image, phrases in zip(images, phrases_per_image, strict=True)
        ]


def test_results_plot_and_manifest(tmp_path, monkeypatch, capsys):
    folder = tmp_path / "grounding" / "toy"
    (folder / "images").mkdir(parents=True)
    Image.new("L", (100, 80)).save(folder / "images" / "a.png")
    box = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [10, 10, 20, 20], "area": 400, "iscrowd": 0}
    coco = {
        "images": [{"id": 1, "file_name": "a.png", "width": 100, "height": 80}],
        "categories": [{"id": 1, "name": "lung"}],
        "annotations": [box],
    }
    (folder / "val.json").write_text(json.dumps(coco))
    monkeypatch.setattr(grounding.predictor.Grounder, "from_pretrained", lambda *a, **k: OneBox())
    run_grounding.main(["--data-dir", str(tmp_path), "--out", str(tmp_path / "out")])
    assert "| toy | 1 | 1 | 1.000 | 1.000 | 1.000 | 1.000 |" in capsys.readouterr().out
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert results["toy"]["per_category"] == {"lung": {"ap": 1, "ap50": 1, "n_boxes": 1}}
    assert Image.open(tmp_path / "out" / "results.png").size[0] > 400
    settings = json.loads((tmp_path / "out" / "manifest.json").read_text())["settings"]
    assert settings["checkpoint"] == "nano"
    assert len(settings["data_sha256"]["toy"]) == 64
