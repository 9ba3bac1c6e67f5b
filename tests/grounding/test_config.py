"""Configurations from YAML: nesting, overrides, and typos that name the nearest field."""

from dataclasses import dataclass, field
from pathlib import Path

import pytest

import grounding
from grounding.config import from_mapping, load_config
from grounding.train import TrainConfig


@dataclass(frozen=True)
class Inner:
    rate: float = 0.1
    count: int = 2


@dataclass(frozen=True)
class Outer:
    name: str
    learning_rate: float = 1.0
    inner: Inner = field(default_factory=Inner)


def write(folder, text):
    path = folder / "run.yaml"
    path.write_text(text)
    return path


def test_fields_nested_ones_and_defaults(tmp_path):
    path = write(tmp_path, "name: x\ninner:\n  count: 5\n")
    assert load_config(Outer, path) == Outer("x", 1.0, Inner(0.1, 5))


def test_overrides_win(tmp_path):
    path = write(tmp_path, "name: x\nlearning_rate: 2.0\n")
    assert load_config(Outer, path, {"learning_rate": 3.0}).learning_rate == 3.0


@pytest.mark.parametrize("written", ["4e-4", "4.0e-4", "0.0004"])
def test_a_float_may_be_written_without_a_full_stop(tmp_path, written):
    path = write(tmp_path, f"name: x\nlearning_rate: {written}\n")
    assert load_config(Outer, path).learning_rate == 0.0004


def test_a_float_that_is_no_number_is_refused(tmp_path):
    path = write(tmp_path, "name: x\nlearning_rate: fast\n")
    with pytest.raises(ValueError, match=r"run\.yaml: learning_rate: expected a number, got 'fast'"):
        load_config(Outer, path)


def test_typo_names_the_nearest_field(tmp_path):
    path = write(tmp_path, "name: x\nlerning_rate: 2.0\n")
    with pytest.raises(
        ValueError, match=r"run\.yaml: unknown field 'lerning_rate' of Outer; .*'learning_rate'"
    ):
        load_config(Outer, path)


def test_typo_in_a_nested_field_names_the_nearest_field():
    with pytest.raises(ValueError, match="unknown field 'cuont' of Inner; did you mean 'count'"):
        from_mapping(Outer, {"name": "x", "inner": {"cuont": 1}}, "flags")


def test_a_field_like_no_other_lists_what_there_is():
    with pytest.raises(ValueError, match=r"expected one of \['inner', 'learning_rate', 'name'\]"):
        from_mapping(Outer, {"name": "x", "zzz": 1}, "flags")


def test_a_missing_field_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"run\.yaml: .*name"):
        load_config(Outer, write(tmp_path, ""))


def test_packaged_configurations_are_valid():
    # fsdp.yaml is accelerate's, not a recipe
    paths = sorted((Path(grounding.__file__).parent / "configs").glob("nano*.yaml"))
    assert paths
    for path in paths:
        assert sum(load_config(TrainConfig, path).sets.values()) == pytest.approx(1.0)
