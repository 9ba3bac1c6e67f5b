"""Our checkpoints make a round trip; what does not fit is refused with its keys, published ones too."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from grounding import checkpoint, packaged
from grounding.calibration import Calibration
from grounding.checkpoint import load_checkpoint, load_published, open_checkpoint, save_checkpoint
from grounding.preprocess import AspectInput, SquareInput


@pytest.fixture
def saved(make_tiny_model, tmp_path, monkeypatch):
    """(model, folder of its checkpoint); its text encoder stands in for the cached base weight."""
    model = make_tiny_model(seed=5, modalities=(("CR", "DX"), ("CT",)), box_threshold=0.25)
    model.config.labels = ["spleen", "left lung"]
    model.config.label_modalities = {"spleen": ["CT"], "left lung": ["CR", "DX"]}
    base = tmp_path / "base"
    base.mkdir()
    text = {name: tensor.clone() for name, tensor in model.model.text_backbone.state_dict().items()}
    save_file(text, base / "model.safetensors")
    monkeypatch.setattr("grounding.base_weights.fetch", lambda name: base)
    folder = tmp_path / "checkpoint"
    save_checkpoint(model.config, model.state_dict(), folder)
    return model, folder


def change(folder, edit):
    tensors = load_file(folder / "model.safetensors")
    edit(tensors)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def test_round_trip_is_exact_to_half_precision(saved):
    model, folder = saved
    loaded = load_checkpoint(folder)
    state = loaded.state_dict()
    assert set(state) == set(model.state_dict())
    for name, tensor in model.state_dict().items():
        is_ours = tensor.is_floating_point() and not name.startswith("model.text_backbone.")
        assert torch.equal(state[name], tensor.half().float() if is_ours else tensor), name
    assert not loaded.training
    assert loaded.config.box_threshold == 0.25
    assert loaded.config.modality_id("CT") == 2
    assert loaded.config.labels == ["spleen", "left lung"]
    assert loaded.config.label_modalities == {"spleen": ["CT"], "left lung": ["CR", "DX"]}


def test_heads_stay_tied_after_loading(saved):
    loaded = load_checkpoint(saved[1])
    assert loaded.bbox_embed[0].layers[0].weight is loaded.bbox_embed[1].layers[0].weight
    assert loaded.model.decoder.bbox_embed[0].layers[0].weight is loaded.bbox_embed[0].layers[0].weight


def test_text_encoder_is_not_written_and_tied_tensors_only_once(saved):
    names = set(load_file(saved[1] / "model.safetensors"))
    assert not any(name.startswith("model.text_backbone.") for name in names)
    assert sum(name.endswith("bbox_embed.0.layers.0.weight") for name in names) == 1
    assert not any("bbox_embed.1." in name for name in names)


def test_missing_tensor_is_named(saved):
    change(saved[1], lambda tensors: tensors.pop("model.enc_output.weight"))
    with pytest.raises(ValueError, match=r"missing \['model.enc_output.weight'\], left over \[\]"):
        load_checkpoint(saved[1])


def test_left_over_tensor_is_named(saved):
    change(saved[1], lambda tensors: tensors.update(stranger=torch.zeros(1)))
    with pytest.raises(ValueError, match=r"missing \[\], left over \['stranger'\]"):
        load_checkpoint(saved[1])


def test_misshapen_tensor_is_named(saved):
    change(saved[1], lambda tensors: tensors.update({"model.enc_output.bias": torch.zeros(31)}))
    with pytest.raises(ValueError, match=r"another shape.*model\.enc_output\.bias"):
        load_checkpoint(saved[1])


def test_absent_checkpoint_lists_the_packaged_ones(tmp_path, monkeypatch):
    monkeypatch.setattr(packaged, "PACKAGED", tmp_path / "packaged")
    (tmp_path / "packaged" / "small").mkdir(parents=True)
    with pytest.raises(
        FileNotFoundError, match=r"expected config\.json and model\.safetensors in .*\['small'\]"
    ):
        load_checkpoint(tmp_path / "nowhere")


# --- published checkpoints (bit-equal outputs: see test_modeling.py) ----------------------------------------


@pytest.fixture
def published(make_tiny_model, tmp_path):
    """A folder in the hub's layout: the library's model type, no modality embedding."""
    folder = tmp_path / "hub"
    model = make_tiny_model()
    model.save_pretrained(folder)
    change(folder, lambda tensors: tensors.pop("modality_embedding.weight"))
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "model_type": "mm-grounding-dino"}))
    return folder


def test_only_the_modality_embedding_may_be_missing(published):
    model = load_published(published)
    assert (model.modality_embedding.weight == 0).all()
    assert model.config.model_type == "medglip" and not model.training


def test_published_checkpoint_with_another_tensor_missing_is_refused(published):
    change(published, lambda tensors: tensors.pop("model.level_embed"))
    with pytest.raises(ValueError, match=r"does not fit its configuration: missing \['model.level_embed'\]"):
        load_published(published)


def test_published_checkpoint_with_a_tensor_left_over_is_refused(published):
    change(published, lambda tensors: tensors.update({"model.stranger": torch.zeros(1)}))
    with pytest.raises(ValueError, match=r"left over \['model.stranger'\]"):
        load_published(published)


def test_published_checkpoint_with_a_misshapen_tensor_is_refused(published):
    change(published, lambda tensors: tensors.update({"model.enc_output.bias": torch.zeros(31)}))
    with pytest.raises(ValueError, match=r"of another shape \['model.enc_output.bias'\]"):
        load_published(published)


def test_checkpoint_of_another_architecture_is_refused(published):
    (published / "config.json").write_text(json.dumps({"model_type": "bert"}))
    with pytest.raises(ValueError, match="expected a checkpoint of type 'mm-grounding-dino', got 'bert'"):
        load_published(published)


# --- what a name leads to -----------------------------------------------------------------------------------


@pytest.fixture
def no_base_tokenizer(monkeypatch, tokenizer):
    """Base weights are not needed: (folder asked for) -> the made tokenizer."""
    asked = []
    monkeypatch.setattr(checkpoint, "load_tokenizer", lambda folder=None: asked.append(folder) or tokenizer)
    return asked


def test_ours_keeps_its_square_and_takes_a_calibration_beside_it(saved, no_base_tokenizer):
    opened = open_checkpoint(saved[1])
    assert (opened.make_input, opened.calibration) == (SquareInput(128), None)
    Calibration(temperature=2.0, thresholds={"spleen": 0.4}).save(saved[1] / "calibration.json")
    calibration = open_checkpoint(saved[1]).calibration
    assert calibration is not None and calibration.threshold("spleen") == 0.4
    assert no_base_tokenizer == [None, None]


def test_packaged_names_come_first(saved, no_base_tokenizer, monkeypatch):
    monkeypatch.setattr(packaged, "PACKAGED", saved[1].parent)
    assert open_checkpoint("checkpoint").model.config.box_threshold == 0.25


def test_published_keeps_its_own_input_and_tokenizer(published, no_base_tokenizer):
    assert open_checkpoint(published).make_input == AspectInput()
    (published / "vocab.txt").touch()
    processor = {"size": {"shortest_edge": 96, "longest_edge": 160}, "image_mean": [0, 0, 0]}
    (published / "preprocessor_config.json").write_text(json.dumps(processor))
    assert open_checkpoint(str(published)).make_input == AspectInput(96, 160, (0, 0, 0))
    assert no_base_tokenizer == [None, published]


def test_a_hub_id_is_fetched_without_code_or_pickles(published, no_base_tokenizer, monkeypatch):
    calls = []

    def fetch(name, allow_patterns):
        calls.append((name, allow_patterns))
        return str(published)

    monkeypatch.setattr("huggingface_hub.snapshot_download", fetch)
    assert open_checkpoint("someone/mm-grounding-dino").make_input == AspectInput()
    assert calls == [("someone/mm-grounding-dino", ["*.json", "*.txt", "*.safetensors"])]


def test_a_hub_id_that_cannot_be_reached_says_what_was_expected(monkeypatch):
    def fail(name, allow_patterns):
        raise OSError("offline")

    monkeypatch.setattr("huggingface_hub.snapshot_download", fail)
    with pytest.raises(FileNotFoundError, match=r"or a hub id, got 'no/where'.*offline"):
        open_checkpoint("no/where")
