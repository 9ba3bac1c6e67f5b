"""The ablation and the peer comparison, with a tiny network and made pictures: one or two steps a run."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

import grounding.base_weights
import grounding.checkpoint
import grounding.predictor
from benchmarks import ablate_grounding, forget_grounding, peer_grounding, small_runs
from benchmarks.ablate_grounding import ROWS, FaultyCriterion
from benchmarks.peer_grounding import stock_twin
from grounding import train as training
from grounding.criterion import CriterionConfig, GroundingCriterion, GroundingTarget
from grounding.outputs import GroundingOutput


@pytest.fixture(scope="module")
def tokenizer():
    from transformers import BertTokenizerFast

    letters = "abcdefghijklmnopqrstuvwxyz"
    vocabulary = {"[PAD]": 0, "[UNK]": 100, "[CLS]": 101, "[SEP]": 102, "[MASK]": 103, ".": 1012, "?": 1029}
    pieces = [*letters, *(f"##{letter}" for letter in letters)]
    return BertTokenizerFast(vocab=vocabulary | {piece: 2000 + i for i, piece in enumerate(pieces)})


def tiny(image_size=128):
    from transformers import BertConfig

    from grounding.backbone import EfficientNetLiteConfig
    from grounding.modeling import MedGLIPConfig, MedGLIPForGrounding

    fields = {
        "d_model": 32,
        "num_queries": 12,
        "num_feature_levels": 3,
        "dropout": 0.0,
        "fusion_droppath": 0.0,
    }
    for part in ("encoder", "decoder"):
        fields |= {f"{part}_layers": 2, f"{part}_ffn_dim": 32, f"{part}_attention_heads": 2}
        fields |= {f"{part}_n_points": 2}
    text = BertConfig(hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32)
    model = MedGLIPForGrounding(
        MedGLIPConfig(
            backbone_config=EfficientNetLiteConfig(), text_config=text, image_size=image_size, **fields
        )
    )
    model.model.text_backbone.requires_grad_(False)
    return model


@pytest.fixture
def tiny_runs(monkeypatch, tokenizer):
    """Trainings start from a tiny network, phantoms are few, and nothing is fetched."""
    real = training.phantom_sets
    monkeypatch.setattr(training, "new_nano", tiny)
    monkeypatch.setattr(training, "phantom_sets", lambda folder, count: real(folder, 1)[:1])
    for module in (training, peer_grounding, grounding.predictor, grounding.checkpoint):
        monkeypatch.setattr(module, "load_tokenizer", lambda *a: tokenizer, raising=False)
    monkeypatch.setattr(grounding.checkpoint, "load_text_encoder", lambda model, folder: None)
    monkeypatch.setattr(grounding.base_weights, "fetch", lambda name: None)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    root = tmp_path_factory.mktemp("data")
    for name, label, code in (("bright", "polyp", "ES"), ("dark", "lung", "DX")):
        folder = root / "grounding" / name
        (folder / "images").mkdir(parents=True)
        pixels = np.full((80, 80, 3), 40, dtype=np.uint8)
        pixels[20:50, 10:40] = 220 if name == "bright" else 0
        Image.fromarray(pixels).save(folder / "images" / "1.png")
        box = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [10, 20, 30, 30], "area": 900, "iscrowd": 0}
        image = {"id": 1, "file_name": "1.png", "height": 80, "width": 80, "modality_code": code}
        content = {"images": [image], "annotations": [box], "categories": [{"id": 1, "name": label}]}
        for split in ("train", "val"):
            (folder / f"{split}.json").write_text(json.dumps(content))
    return root


def flags(data, out, *more):
    sizes = ["--sets", "bright,dark", "--steps", "1", "--batch-size", "2", "--image-size", "128"]
    return ["--data-dir", str(data), "--out", str(out), *sizes, "--workers", "0", *more]


def test_rows_of_the_ablation(tiny_runs, data, tmp_path, capsys, monkeypatch):
    for row in ("fault_a", "no_negatives", "phantoms"):
        ablate_grounding.main(flags(data, tmp_path, "--row", row))
    text = (tmp_path / "table.md").read_text()
    assert text in capsys.readouterr().out
    assert "AP50 on validation after 1 steps of 2 images at 128 px" in text
    assert [line.split("|")[1].strip() for line in text.splitlines()[4:]] == [
        ROWS[row].what for row in ("fault_a", "no_negatives", "phantoms")
    ]
    assert (tmp_path / "phantoms-0" / "phantoms_first" / "checkpoint" / "model.safetensors").exists()
    monkeypatch.setattr(ablate_grounding, "train", lambda *a: pytest.fail("a finished row is trained again"))
    ablate_grounding.main(flags(data, tmp_path, "--row", "fault_a"))


def test_rows_change_what_they_say(tmp_path):
    base = small_runs.Budget(tmp_path, tmp_path).config(3)
    assert base.seed == 3 and base.denoising.queries > 0 and base.modality_conditioning
    assert replace(base, **ROWS["no_denoising"].changes).denoising.queries == 0
    assert not replace(base, **ROWS["no_modality"].changes).modality_conditioning
    negatives = replace(base.augment, **ROWS["no_negatives"].augment)
    assert (negatives.absent_phrases, negatives.annotated_absent) == (0, 0.0)


def predictions_of(requires_grad=True):
    logits, boxes = torch.zeros(2, 3, 4), torch.full((2, 3, 4), 0.4)
    leaves = [tensor.clone().requires_grad_(requires_grad) for tensor in (logits, boxes, logits, boxes)]
    real, places, proposed, proposals = leaves
    return GroundingOutput(real, places, real[None], places[None], proposed, proposals), leaves


def targets_of():
    one = torch.tensor([[0, 1, 0, 0], [0, 0, 1, 0]]).bool()
    other = torch.tensor([[1, 0, 0, 0], [0, 0, 0, 1]]).bool()
    box, first = torch.tensor([[0.5, 0.5, 0.2, 0.2]]), torch.tensor([0])
    return [GroundingTarget(box, first, one), GroundingTarget(box, first, other)]


def test_fault_a_takes_the_rows_that_the_library_takes():
    targets, zero = targets_of(), torch.zeros(1, 1, dtype=torch.long)
    faulty = FaultyCriterion(CriterionConfig(), fault_a=True, fault_b=False)
    assert faulty._token_targets(targets, 0, zero).int().tolist() == [[[0, 1, 0, 0]]]
    # Of two images with two phrases each, the offset is right by chance; with one phrase more it is not.
    assert faulty._token_targets(targets, 1, zero).int().tolist() == [[[1, 0, 0, 0]]]
    longer = torch.cat([targets[0].positive_map, torch.tensor([[1, 1, 1, 1]]).bool()])
    targets[0] = replace(targets[0], positive_map=longer)
    assert faulty._token_targets(targets, 1, zero).int().tolist() == [[[1, 1, 1, 1]]]
    right = GroundingCriterion()._token_targets(targets, 1, zero)
    assert right.int().tolist() == [[[1, 0, 0, 0]]]


@pytest.mark.parametrize("fault_b", [False, True])
def test_fault_b_takes_the_gradient_of_the_proposals(fault_b):
    output, leaves = predictions_of()
    criterion = FaultyCriterion(CriterionConfig(), fault_a=False, fault_b=fault_b)
    criterion(output, targets_of(), torch.ones(2, 4).bool())["loss"].backward()
    assert all(leaf.grad is not None for leaf in leaves[:2])
    assert all((leaf.grad is None) == fault_b for leaf in leaves[2:])


def test_peer(tiny_runs, data, tmp_path, capsys):
    peer_grounding.main(flags(data, tmp_path, "--seeds", "0"))
    text = (tmp_path / "table.md").read_text()
    assert text in capsys.readouterr().out
    assert "| ours | " in text and "| stock | " in text and "seed 0: mean AP50 ours - stock " in text
    stock = json.loads((tmp_path / "stock-0" / "result.json").read_text())
    assert "- bright: " in text and "- mean over sets: " in text
    assert stock["failed_steps"] in (0, 1) and set(stock["figures"]) == {"bright", "dark"}


def test_forgetting(tiny_runs, data, tmp_path, capsys):
    sets = ["--old", "bright", "--new", "dark"]
    forget_grounding.main(flags(data, tmp_path, *sets))
    text = (tmp_path / "table.md").read_text()
    assert text in capsys.readouterr().out
    assert [line.split("|")[1].strip() for line in text.splitlines()[4:]] == [
        "before",
        *forget_grounding.WAYS,
    ]
    config = json.loads((tmp_path / "lora-30-replay-0" / "config.json").read_text())
    assert (
        config["replay"] == {"bright": 1.0} and config["sets"] == {"dark": 1.0} and config["tune"] == "lora"
    )


def test_stock_starts_from_the_same_weights():
    torch.manual_seed(0)
    ours = tiny()
    stock = stock_twin(ours)
    state = ours.state_dict()
    assert all(torch.equal(tensor, state[name]) for name, tensor in stock.state_dict().items())
    assert type(stock).__name__ == "MMGroundingDinoForObjectDetection"
    frozen = {name for name, p in stock.named_parameters() if not p.requires_grad}
    assert frozen == {name for name, p in ours.named_parameters() if not p.requires_grad}
