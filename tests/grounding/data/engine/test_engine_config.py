"""YAML to a configuration and to readers; mistakes are named."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

import pytest

from grounding.data.engine.config import (
    READERS,
    BuildConfig,
    SourceConfig,
    changed_fields,
    config_mapping,
    load_build_config,
    open_reader,
)

YAML = """
seed: 3
duplicate_bits: null
val_fraction: 2e-1
regions: {min_area: 9}
sources:
  - {reader: sa_med2d, path: /data/sa, policy: components, licence: mine, options: {index: part.json}}
  - {reader: nifti, path: /data/vol, name: volumes, modality: CT, body_region: abdomen, keep_every: 2,
     options: {axes: [axial], stride: 3,
               layout: {folders: "*", images: {"": image}, modality: CT, label_map: seg}}}
"""


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "build.yaml"
    path.write_text(text)
    return path


def test_yaml_fills_the_configuration(tmp_path):
    config = load_build_config(written(tmp_path, YAML))
    assert (config.seed, config.duplicate_bits, config.val_fraction, config.regions.min_area) == (
        3,
        None,
        0.2,
        9,
    )
    assert [source.path for source in config.sources] == [Path("/data/sa"), Path("/data/vol")]
    assert config_mapping(config)["sources"][0]["path"] == "/data/sa"


def test_readers_get_their_options_and_what_the_manifest_says(tmp_path):
    first, second = (open_reader(source) for source in load_build_config(written(tmp_path, YAML)).sources)
    assert (first.info.name, first.info.licence, first.index) == ("sa_med2d_20m", "mine", "part.json")
    assert (second.info.name, second.info.body_region, second.axes, second.stride) == (
        "volumes",
        "abdomen",
        ("axial",),
        3,
    )
    assert type(second.layout).__name__ == "CaseFolders"


def test_the_folder_names_a_source_that_nobody_names():
    assert open_reader(SourceConfig("yolo", Path("/data/cells"))).info.name == "cells"


@pytest.mark.parametrize("name", READERS)
def test_every_reader_is_there_and_takes_root_and_info(name):
    module, _, kind = READERS[name].partition(":")
    assert {"root", "info"} <= set(
        getattr(import_module(module, "grounding.data.engine"), kind).__dataclass_fields__
    )


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("sources: [{reader: coco, path: a, polcy: keep}]", r"sources\[0\].*'polcy'.*'policy'"),
        ("sources: [{reader: cocoo, path: a}]", "did you mean 'coco'"),
        ("sources: [{reader: coco, path: a, policy: biggest}]", "policy"),
        ("{sources: [{reader: coco, path: a}], sed: 1}", "did you mean 'seed'"),
        ("sources: [{reader: coco}]", "path"),
        ("sources: []", "at least one source"),
        ("seed: 1", "list of `sources`"),
        ("{sources: [{reader: coco, path: a}], regions: {min_aera: 1}}", "min_area"),
        ("{sources: [{reader: coco, path: a}], val_fraction: 0.9, test_fraction: 0.9}", "at most 1"),
        ("{sources: [{reader: coco, path: a}], duplicate_bits: 40}", "0 to 4"),
        ("sources: [{reader: coco, path: a, keep_every: 0}]", "1 or more"),
    ],
)
def test_mistakes_are_named(tmp_path, text, told):
    with pytest.raises(ValueError, match=told):
        load_build_config(written(tmp_path, text))


def test_an_unknown_option_of_a_reader_is_named():
    with pytest.raises(ValueError, match=r"'exhaustiv'.*'exhaustive'"):
        open_reader(SourceConfig("yolo", Path("x"), options={"exhaustiv": True}))


def test_changed_fields_are_named():
    one = config_mapping(BuildConfig((SourceConfig("coco", Path("a")),)))
    other = config_mapping(BuildConfig((SourceConfig("coco", Path("a"), policy="largest"),), seed=4))
    assert changed_fields(one, other) == ["sources[0].policy: 'keep' -> 'largest'", "seed: 0 -> 4"]
    assert changed_fields(one, one) == []
