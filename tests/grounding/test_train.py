"""Training on made pictures: the loss falls, a run resumes exactly, schedules by hand."""

import json
import shutil
import sys

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from grounding import checkpoint as checkpoints
from grounding import train as training
from grounding.criterion import CriterionConfig
from grounding.data.coco import read_coco
from grounding.data.mixture import AugmentConfig, GroundingMixture, collate
from grounding.denoising import DenoisingConfig
from grounding.modeling import MedGLIPConfig
from grounding.schedule import freeze_stages, parameter_groups, rate_factor
from grounding.train import TrainConfig, Trainer, state_labels, step_positions, train, training_sets


@pytest.fixture(scope="module")
def data_folder(tmp_path_factory):
    """Two sets of four pictures: a bright square on dark ground, annotated."""
    root = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(0)
    for name, label, code in (("bright", "polyp", "ES"), ("dark", "left lung", "DX")):
        folder = root / "grounding" / name
        (folder / "images").mkdir(parents=True)
        images, annotations = [], []
        for number in range(1, 5):
            x, y = (int(v) for v in rng.integers(5, 40, 2))
            pixels = np.full((80, 80, 3), 40, dtype=np.uint8)
            pixels[y : y + 30, x : x + 30] = 220 if name == "bright" else 0
            Image.fromarray(pixels).save(folder / "images" / f"{number}.png")
            images.append({"id": number, "file_name": f"{number}.png", "height": 80, "width": 80})
            images[-1]["modality_code"] = code
            annotations.append({"id": number, "image_id": number, "category_id": 1, "bbox": [x, y, 30, 30]})
        content = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": label}]}
        (folder / "train.json").write_text(json.dumps(content))
    return root


def config_for(**changes):
    fields = {"sets": {"bright": 0.5, "dark": 0.5}, "image_size": 128, "batch_size": 2, "steps": 4}
    fields |= {"warmup_steps": 2, "save_every": 2, "workers": 0, "bf16": False, "frozen_stages": 6}
    return TrainConfig(**{**fields, **changes})


@pytest.fixture
def tiny_training(monkeypatch, make_tiny_model, tokenizer):
    """`train` starts from a tiny random network and reads the made vocabulary."""

    def new_tiny(image_size):
        model = make_tiny_model(seed=int(torch.initial_seed()), image_size=image_size)
        model.model.text_backbone.requires_grad_(False)
        return model

    monkeypatch.setattr(training, "new_nano", new_tiny)
    monkeypatch.setattr(training, "load_tokenizer", lambda: tokenizer)
    return new_tiny


@pytest.fixture
def trainer(tiny_training):
    return Trainer(config_for(), tiny_training(128))


@pytest.fixture
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def test_loss_falls_on_one_repeated_batch(tiny_training, data_folder, tokenizer):
    config = config_for(steps=1000, warmup_steps=1, learning_rate=2e-3)
    trainer = Trainer(config, tiny_training(128))
    sets = [read_coco(data_folder / "grounding" / name, "train") for name in config.sets]
    model_config = trainer.model.config
    mixture = GroundingMixture(
        sets, [1, 1], tokenizer, model_config, AugmentConfig(), np.full(2, model_config.image_size), seed=0
    )
    batch = collate([mixture[0], mixture[1]])
    losses = [trainer.train_step([batch])["loss"] for _ in range(12)]
    assert losses[-1] < 0.7 * losses[0]


def test_interrupted_run_equals_the_uninterrupted_one_bit_for_bit(
    tiny_training, data_folder, tmp_path, monkeypatch, one_thread
):
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    train(config_for(), data_folder, whole)

    def interrupted(self, batches, step=Trainer.train_step):
        if self.step == 3:
            raise KeyboardInterrupt
        return step(self, batches)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Trainer, "train_step", interrupted)
        train(config_for(), data_folder, broken)
    assert torch.load(broken / "state.pt", weights_only=True)["step"] == 2
    train(config_for(), data_folder, broken)

    states = [torch.load(folder / "state.pt", weights_only=True) for folder in (whole, broken)]
    for part in ("weights", "average"):
        assert all(torch.equal(states[0][part][name], value) for name, value in states[1][part].items())
    checkpoints = [load_file(folder / "checkpoint" / "model.safetensors") for folder in (whole, broken)]
    assert set(checkpoints[0]) == set(checkpoints[1])
    assert all(torch.equal(checkpoints[0][name], value) for name, value in checkpoints[1].items())
    logs = [
        [json.loads(line) for line in (f / "log.jsonl").read_text().splitlines()] for f in (whole, broken)
    ]
    assert [entry["step"] for entry in logs[1]] == [1, 2, 3, 4]  # step 3 was logged twice, once is kept
    assert [entry["loss"] for entry in logs[0]] == [entry["loss"] for entry in logs[1]]
    assert (broken / "loss.png").stat().st_size > 0


def test_a_finished_run_is_not_continued(tiny_training, data_folder, tmp_path):
    config = config_for(steps=1)
    folder = train(config, data_folder, tmp_path)
    before = (tmp_path / "log.jsonl").read_text()
    assert train(config, data_folder, tmp_path) == folder == tmp_path / "checkpoint"
    assert (tmp_path / "log.jsonl").read_text() == before


@pytest.mark.parametrize(
    ("step", "factor"),
    [
        (0, 0.01),  # linear warm-up over 100 steps
        (49, 0.5),
        (99, 1.0),
        (100, 1.0),
        (1200, 1.0),  # the last 40 % of 2000 steps decay
        (1400, 0.5 * (1 + 0.5**0.5)),  # a quarter of the way: cos 45 degrees
        (1600, 0.5),
        (2000, 0.0),
        (2100, 0.0),
    ],
)
def test_learning_rate_by_hand(step, factor):
    config = config_for(steps=2000, warmup_steps=100, decay_fraction=0.4)
    assert rate_factor(step, config) == pytest.approx(factor)


def test_step_uses_the_scheduled_rates(trainer, monkeypatch):
    def backward(self, batches):
        self.model.model.level_embed.sum().backward()
        return {"loss": 0.0}

    monkeypatch.setattr(Trainer, "backward", backward)
    entry = trainer.train_step([])
    assert entry["learning_rate"] == pytest.approx(2e-4)  # first of two warm-up steps
    assert {group["lr"] for group in trainer.optimizer.param_groups} == {2e-4, 0.25 * 2e-4}
    assert entry["gradient_norm"] == pytest.approx((3 * 32) ** 0.5)  # before clipping


def test_every_trainable_parameter_is_in_one_group(trainer):
    groups = parameter_groups(trainer.model, trainer.config)
    grouped = [id(p) for group in groups for p in group["params"]]
    assert sorted(grouped) == sorted(id(p) for p in trainer.model.parameters() if p.requires_grad)
    names = {id(p): name for name, p in trainer.model.named_parameters()}
    for group in groups:
        for parameter in group["params"]:
            name = names[id(parameter)]
            assert group["lr"] == (1e-4 if "conv_encoder" in name else 4e-4), name
            plain = parameter.ndim < 2 or name.endswith(
                ("level_embed", "modality_embedding.weight", "position_embeddings.weight")
            )
            assert group["weight_decay"] == (0.0 if plain else 1e-4), name


def test_frozen_stages(trainer):
    network = trainer.model.model.backbone.conv_encoder.model.network
    assert not network.stem.weight.requires_grad
    trained = [any(p.requires_grad for p in stage.parameters()) for stage in network.stages]
    assert trained == [False] * 6 + [True]
    network.requires_grad_(True)
    freeze_stages(trainer.model, 0)
    assert all(p.requires_grad for p in network.parameters())


def test_text_encoder_stays_frozen_and_in_evaluation_mode(trainer):
    assert trainer.model.training and not trainer.model.model.text_backbone.training
    assert not any("text_backbone" in name for name in trainer.trainable)


def test_moving_average_by_hand(trainer):
    name = "model.enc_output.bias"
    with torch.no_grad():
        trainer.average[name].fill_(1.0)
        trainer.trainable[name].fill_(12.0)
    trainer.step = 1  # early, the decay is (1 + 1) / (10 + 1)
    trainer._update_average()
    torch.testing.assert_close(trainer.average[name], torch.full((32,), 10.0))
    trainer.step = 10**6  # late, it is 0.998
    trainer._update_average()
    torch.testing.assert_close(trainer.average[name], torch.full((32,), 10.004))
    assert torch.equal(trainer.averaged_state()[name], trainer.average[name])


def test_averaged_state_covers_tied_names_and_keeps_the_rest(trainer):
    with torch.no_grad():
        for value in trainer.average.values():
            value.add_(1.0)
    state, trained = trainer.averaged_state(), trainer.model.state_dict()
    for name in ("bbox_embed.1.layers.0.bias", "model.decoder.bbox_embed.0.layers.0.bias"):
        torch.testing.assert_close(state[name], trained[name] + 1)
    frozen = "model.backbone.conv_encoder.model.network.stem.weight"
    assert torch.equal(state[frozen], trained[frozen])
    assert set(state) == set(trained)


def test_command_line_needs_data(monkeypatch, capsys, tmp_path):
    monkeypatch.delenv("MEDGLIP_DATA", raising=False)
    monkeypatch.setattr(sys, "argv", ["train", "--config", "x.yaml", "--out", str(tmp_path)])
    with pytest.raises(SystemExit):
        training.main()
    assert "expected --data-dir or the environment variable MEDGLIP_DATA" in capsys.readouterr().err


def test_phantoms_join_the_mixture(data_folder, tmp_path, tiny_training, monkeypatch):
    asked = []
    real = training.phantom_sets

    def fewer(folder, count):
        asked.append(count)
        return real(folder, count)[:1]

    monkeypatch.setattr(training, "phantom_sets", fewer)
    train(config_for(sets={"bright": 0.0}, phantoms=1.0, phantom_images=1, steps=1), data_folder, tmp_path)
    assert asked == [1]
    assert (tmp_path / "checkpoint" / "model.safetensors").exists()
    config = json.loads((tmp_path / "checkpoint" / "config.json").read_text())
    assert config["labels"] == ["polyp"]  # of the sets, not of the phantoms


def test_the_checkpoint_states_its_labels_in_the_order_of_the_sets(data_folder):
    sets = [read_coco(data_folder / "grounding" / name, "train") for name in ("dark", "bright")]
    config = MedGLIPConfig()
    state_labels(config, sets)
    assert config.labels == ["left lung", "polyp"]
    assert config.label_modalities == {"left lung": ["CR", "DX"], "polyp": ["ES"]}


# --- larger steps, other starts, what is tuned --------------------------------------------------------------


def test_positions_of_all_processes_make_up_the_step():
    config = config_for(batch_size=8, accumulate=2, steps=3)
    parts = [step_positions(config, 1, process, 2) for process in (0, 1)]
    assert parts[0] == [[8, 9], [10, 11], [16, 17], [18, 19]]
    assert parts[1] == [[12, 13], [14, 15], [20, 21], [22, 23]]
    with pytest.raises(ValueError, match="divides among 3 processes x 2 micro-batches, got 8"):
        step_positions(config, 0, 0, 3)


FULL = {
    "denoising": DenoisingConfig(queries=8),
    "criterion": CriterionConfig(presence_weight=1.0, modality_weight=1.0),
    "many_queries": 6,
}


@pytest.fixture
def examples(tiny_training, data_folder, tokenizer):
    """Four examples with everything that is trained."""
    sets = [read_coco(data_folder / "grounding" / name, "train") for name in ("bright", "dark")]
    config = MedGLIPConfig(image_size=128)
    augment = AugmentConfig(unknown_modality=0.0)
    mixture = GroundingMixture(
        sets, [1, 1], tokenizer, config, augment, np.full(4, config.image_size), 0, FULL["denoising"]
    )
    return [mixture[i] for i in range(4)]


def test_micro_batches_give_the_gradients_of_one_batch(tiny_training, examples):
    results = []
    for parts in ([examples], [examples[:2], examples[2:]]):
        trainer = Trainer(config_for(seed=1, **FULL), make_seeded(tiny_training))
        losses = trainer.backward([collate(part) for part in parts])
        results.append((losses, {name: p.grad for name, p in trainer.trainable.items()}))
    (whole, expected), (parts, got) = results
    assert {"class_denoising", "giou_many", "presence", "modality"} <= set(whole)
    assert parts == pytest.approx(whole, rel=1e-3, abs=1e-5)
    for name, gradient in expected.items():
        torch.testing.assert_close(got[name], gradient, rtol=1e-3, atol=1e-4)


def make_seeded(make):
    torch.manual_seed(0)
    return make(128)


def test_heads_without_a_loss_are_not_trained(trainer, tiny_training):
    heads = ("presence_head", "modality_head", "denoising_projection")
    assert not any(name.startswith(heads) for name in trainer.trainable)
    assert not trainer.model.config.presence
    full = Trainer(config_for(**FULL, modality_conditioning=False), tiny_training(128))
    for head in heads:
        assert any(name.startswith(head) for name in full.trainable)
    assert full.model.config.presence and "modality_embedding.weight" not in full.trainable


@pytest.mark.parametrize("tune", ["frozen_backbone", "lora"])
def test_tuning_from_a_checkpoint(tune, tiny_training, data_folder, tmp_path, monkeypatch):
    first = train(config_for(sets={"dark": 1.0}, steps=1), data_folder, tmp_path / "first")
    monkeypatch.setattr(checkpoints, "load_text_encoder", lambda model, folder: None)
    monkeypatch.setattr("grounding.base_weights.fetch", lambda name: None)
    config = config_for(
        sets={"bright": 1.0},
        replay={"dark": 1.0},
        start=str(first),
        tune=tune,
        steps=2,
        save_every=1,
        recompute=True,
    )
    second = train(config, data_folder, tmp_path / "second")
    before, after = (load_file(folder / "model.safetensors") for folder in (first, second))
    assert before.keys() == after.keys()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed
    assert tune == "lora" or not any("conv_encoder" in name for name in changed)
    stated = json.loads((second / "config.json").read_text())
    assert stated["labels"] == ["left lung", "polyp"]
    assert stated["label_modalities"] == {"left lung": ["CR", "DX"], "polyp": ["ES"]}


def test_replay_gets_its_share(data_folder, tmp_path):
    config = config_for(sets={"bright": 3.0}, replay={"dark": 2.0}, replay_share=0.25)
    sets, weights = training_sets(config, data_folder, tmp_path, MedGLIPConfig())
    assert [each.name for each in sets] == ["bright", "dark"]
    assert weights == pytest.approx([0.75, 0.25])


def test_turned_sets_are_those_that_the_recipe_names(data_folder, tmp_path):
    config = config_for(sets={"bright": 1.0}, replay={"dark": 1.0}, turned=["dark"])
    with pytest.raises(ValueError, match=r"dark: .*'left lung'.* have sides"):
        training_sets(config, data_folder, tmp_path, MedGLIPConfig())
    own = shutil.copytree(data_folder, tmp_path / "own")
    path = own / "grounding" / "dark" / "train.json"
    path.write_text(path.read_text().replace("left lung", "cell"))
    sets, _ = training_sets(config, own, tmp_path, MedGLIPConfig())
    assert [(each.name, each.turned) for each in sets] == [("bright", False), ("dark", True)]


def test_a_missing_start_is_named():
    with pytest.raises(FileNotFoundError, match="a packaged name, got 'nowhere'"):
        training.starting_model(config_for(start="nowhere"))


def test_impossible_configurations_are_refused():
    with pytest.raises(ValueError, match="expected tune to be one of"):
        config_for(tune="all")
    with pytest.raises(ValueError, match="replay_share in"):
        config_for(replay_share=1.0)
    with pytest.raises(ValueError, match="turned to name sets of the run"):
        config_for(turned=["elsewhere"])


def test_stages_of_another_backbone_are_refused(trainer):
    del trainer.model.model.backbone.conv_encoder.model.network
    with pytest.raises(ValueError, match="expected an EfficientNet backbone for frozen_stages=2"):
        freeze_stages(trainer.model, 2)


def test_log_holds_speed_and_tensorboard_is_optional(tiny_training, data_folder, tmp_path):
    train(config_for(steps=1, tensorboard=True), data_folder, tmp_path)
    entry = json.loads((tmp_path / "log.jsonl").read_text())
    assert entry["images_s"] > 0 and entry["seconds"] > 0
