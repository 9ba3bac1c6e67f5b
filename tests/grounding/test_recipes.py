"""The shipped recipes are read, and take two steps on made pictures."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from grounding import train as training
from grounding.config import load_config
from grounding.train import TrainConfig, train

CONFIGS = Path(training.__file__).parent / "configs"
RECIPES = ["nano", "nano_v1", "nano_v1_gpu", "nano_v2", "nano_close"]


@pytest.mark.parametrize("name", RECIPES)
def test_recipes_are_read_and_name_all_sets(name):
    config = load_config(TrainConfig, CONFIGS / f"{name}.yaml")
    assert len(config.sets) == 10 and config.phantoms > 0
    if name != "nano":
        assert (
            config.denoising.queries and config.criterion.presence_weight and config.criterion.modality_weight
        )
        assert config.batch_size % 2 == 0  # two processes


@pytest.mark.parametrize("name", RECIPES[1:])
def test_recipe_takes_two_steps(name, make_tiny_model, tokenizer, tmp_path, monkeypatch):
    def new_tiny(image_size):
        model = make_tiny_model(image_size=image_size)
        model.model.text_backbone.requires_grad_(False)
        return model

    real = training.phantom_sets
    monkeypatch.setattr(training, "new_nano", new_tiny)
    monkeypatch.setattr(training, "load_tokenizer", lambda: tokenizer)
    monkeypatch.setattr(training, "phantom_sets", lambda folder, count: real(folder, 1)[:1])
    changes = {"steps": 2, "batch_size": 2, "image_size": 128, "workers": 0, "many_queries": 4, "start": None}
    config = load_config(TrainConfig, CONFIGS / f"{name}.yaml", changes)
    for each in config.sets:
        folder = tmp_path / "data" / "grounding" / each
        (folder / "images").mkdir(parents=True)
        Image.fromarray(np.full((60, 60, 3), 90, dtype=np.uint8)).save(folder / "images" / "1.png")
        box = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [10, 20, 30, 30]}
        image = {"id": 1, "file_name": "1.png", "height": 60, "width": 60, "modality_code": "CT"}
        content = {"images": [image], "annotations": [box], "categories": [{"id": 1, "name": each[:4]}]}
        (folder / "train.json").write_text(json.dumps(content))
    torch.manual_seed(0)
    train(config, tmp_path / "data", tmp_path / "out")
    entries = [json.loads(line) for line in (tmp_path / "out" / "log.jsonl").read_text().splitlines()]
    assert [entry["step"] for entry in entries] == [1, 2]
    assert all(np.isfinite(entry["loss"]) for entry in entries)
    assert {"presence", "modality", "images_s"} <= set(entries[0])
    assert json.loads((tmp_path / "out" / "checkpoint" / "config.json").read_text())["presence"] is True
