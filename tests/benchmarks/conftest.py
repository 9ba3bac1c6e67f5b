"""A toy VQA-RAD in the official layout, and models that answer from the boxes they are shown."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from grounding.types import Regions
from llm.types import Generation

ORGANS = ("CHEST", "HEAD", "ABD")


def record(qid, image, question, answer, answer_type="CLOSED", question_type="PRES"):
    return {
        "qid": qid,
        "image_name": f"{image}.png",
        "image_organ": ORGANS[image % 3],
        "question": question,
        "answer": answer,
        "answer_type": answer_type,
        "question_type": question_type,
    }


@pytest.fixture
def data(tmp_path):
    """Six images; 6 training and 12 test questions, half of them open."""
    root = tmp_path / "data" / "vqa" / "vqa_rad"
    (root / "images").mkdir(parents=True)
    for k in range(6):
        Image.new("L", (40 + k, 30), 40 * k).save(root / "images" / f"{k}.png")
    train = [record(k, k, f"is there a mass number {k}", "yes" if k % 2 else "no") for k in range(6)]
    test = [record(100 + k, k, "is there a mass" + " indeed" * k, "yes") for k in range(6)]
    test += [record(200 + k, k, "where is it" + "?" * k, "left lung", "OPEN", "POS, SIZE") for k in range(6)]
    (root / "trainset.json").write_text(json.dumps(train))
    (root / "testset.json").write_text(json.dumps(test))
    parts = {"train": list(range(6)), "val": [100], "test": [101, 102, 201, 202]}
    (root / "image_disjoint_split.json").write_text(json.dumps({"qids": parts}))
    return tmp_path / "data"


@pytest.fixture
def regions(data, tmp_path):
    path = tmp_path / "regions.jsonl"
    lines = []
    for qid in [*range(100, 106), *range(200, 206)]:
        found = Regions(
            boxes=np.array([[1, 2, 3 + qid % 100, 9]], dtype=np.float32),
            scores=np.array([0.9], dtype=np.float32),
            phrase_index=np.array([0]),
            asked=("mass",),
            image_size=(30, 40 + qid % 100),
        )
        lines.append(json.dumps({"qid": str(qid), "regions": found.to_dict()}) + "\n")
    path.write_text("".join(lines))
    return path


class FakeModel:
    """Answers from the box it is shown; dies at its `dies_at`-th batch, fails where a text says so."""

    def __init__(self, dies_at=None, fails_on=()):
        self.dies_at, self.fails_on, self.seen = dies_at, fails_on, []

    def generate(self, prompts, *, max_new_tokens):
        if self.dies_at is not None and len(self.seen) == self.dies_at:
            raise KeyboardInterrupt
        for prompt in prompts:
            if prompt.text in self.fails_on:
                raise RuntimeError(f"cannot answer {prompt.text}")
        self.seen.append([p.text for p in prompts])
        return [Generation(self.answer(p), 0.25 + len(prompts) / 16) for p in prompts]

    def answer(self, prompt):
        if "where" in prompt.text:
            return "the left lung" if prompt.regions is not None else "right lung"
        own = prompt.regions is not None and prompt.regions.boxes[0, 2] == 3 + prompt.image.width - 40
        return "Yes." if own else "no"


@pytest.fixture
def fake_model():
    return FakeModel


@pytest.fixture
def use_model(monkeypatch):
    """Let a model of ours come wherever one is loaded; None refuses to load."""

    def use(model):
        import llm.generate

        def load(config):
            assert model is not None, "no model was to be loaded"
            return model

        monkeypatch.setattr(llm.generate, "load_model", load)
        return model

    return use


@pytest.fixture
def checkpoint(tmp_path):
    """Make a folder that looks like a checkpoint."""

    def make(name="model", **config):
        folder = tmp_path / name
        folder.mkdir(parents=True)
        (folder / "config.json").write_text(json.dumps(config))
        (folder / "w.safetensors").write_bytes(b"weights")
        return folder

    return make


@pytest.fixture
def arguments():
    """The flags of a run of the toy VQA-RAD."""

    def build(data: Path, out: Path, *more, split="official-test"):
        fixed = ["--data-dir", data, "--split", split, "--out", out, "--batch-size", 5, *more]
        return [str(each) for each in fixed]

    return build


@pytest.fixture
def full(arguments):
    """The flags of a run of three conditions."""

    def build(data, regions, folder, out, *more):
        conditions = ["--boxes", "none", "predicted", "shuffled", "--regions", regions, "--model", folder]
        return arguments(data, out, *conditions, *more)

    return build
