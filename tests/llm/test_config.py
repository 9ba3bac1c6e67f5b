"""Recipes: defaults, flags, and errors that name the nearest field."""

from dataclasses import replace
from pathlib import Path

import pytest

from llm.config import ModelConfig, TrainConfig, load_config, read_config

CONFIGS = Path(__file__).parents[2] / "llm" / "configs"


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def test_a_typo_names_the_nearest_field(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"'lern_rate'.*'learning_rate'"):
        load_config(write(tmp_path / "c.yaml", "lern_rate: 1"))


def test_flags_outrank_the_file(tmp_path: Path) -> None:
    path = write(tmp_path / "c.yaml", "epochs: 3\nlearning_rate: 1e-3\n")
    assert load_config(path, epochs=5, seed=None) == TrainConfig(epochs=5, learning_rate=1e-3)


@pytest.mark.parametrize(
    "text", ["epochs: many", "epochs: 1.5", "learning_rate: fast", "epochs: true", "- 1"]
)
def test_wrong_types_are_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(ValueError, match=r"epochs|learning_rate|fields"):
        load_config(write(tmp_path / "c.yaml", text))


def test_test_splits_and_crossed_splits_are_refused() -> None:
    with pytest.raises(ValueError, match="test split"):
        TrainConfig(train_split="official-test")
    with pytest.raises(ValueError, match="share images"):
        TrainConfig(train_split="official-train", val_split="disjoint-val")


@pytest.mark.parametrize("text", ["instructions: 5", "instructions: {boxes: 0}", "instructions: [boxes]"])
def test_sources_are_names_with_numbers(tmp_path: Path, text: str) -> None:
    with pytest.raises(ValueError, match="boxes: 3200"):
        load_config(write(tmp_path / "c.yaml", text))
    with pytest.raises(ValueError, match="watched"):
        TrainConfig(watched=1.0)


def test_the_two_shipped_recipes_differ_in_their_splits_only() -> None:
    disjoint, official = (load_config(CONFIGS / f"vqa_rad_{name}.yaml") for name in ("disjoint", "official"))
    assert (disjoint.train_split, disjoint.val_split) == ("disjoint-train", "disjoint-val")
    assert official == replace(disjoint, train_split="official-train", val_split=None)
    assert disjoint.instructions


def test_which_model_answers_is_one_file(tmp_path: Path) -> None:
    path = write(
        tmp_path / "m.yaml", "model: Qwen/Qwen3-VL-8B-Instruct\nquantization: 4bit\nadapter: out/chest\n"
    )
    expected = ModelConfig(model="Qwen/Qwen3-VL-8B-Instruct", quantization="4bit", adapter="out/chest")
    assert read_config(ModelConfig, path) == expected
    assert read_config(ModelConfig, path, quantization="8bit", device=None).quantization == "8bit"
    with pytest.raises(ValueError, match=r"'quantisation'.*'quantization'"):
        read_config(ModelConfig, write(path, "quantisation: 4bit"))


@pytest.mark.parametrize(
    "fields",
    [
        {"quantization": "3bit"},
        {"server": "localhost:8000"},
        {"server": "file:///etc/passwd"},
        {"server": "http://127.0.0.1:8000/v1", "quantization": "4bit"},
        {"requests": 0},
    ],
)
def test_models_that_cannot_be_loaded_are_refused(fields: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"quantization|server|requests"):
        ModelConfig(**fields)  # type: ignore[arg-type]
