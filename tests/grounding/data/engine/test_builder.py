"""The pipeline: same bytes whatever the workers and the kills, and nothing lost."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
from filelock import FileLock
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pycocotools import mask as coco_mask

from grounding.data.engine import blocks, finalise
from grounding.data.engine.builder import build
from grounding.data.engine.config import READERS, BuildConfig, SourceConfig
from grounding.data.engine.regions import RegionRules
from grounding.data.schema import SCHEMA, iterate_rows, read_manifest

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[3]
FAULTS = ("missing", "bug", "late", "no picture", "mask size", "attributes", "text", "split", "overflow")
ALWAYS = ("missing", "bug", "late", "mask size", "overflow")  # the others where a slice is not thinned


@pytest.fixture(autouse=True)
def toy(monkeypatch):
    """Make the toy reader known here and, through sys.path, in the workers."""
    monkeypatch.syspath_prepend(str(HERE))
    monkeypatch.setitem(READERS, "toy", "toy_reader:ToyReader")


def source(**changes) -> SourceConfig:
    options = {"units_": 12, **changes.pop("options", {})}
    return SourceConfig("toy", Path("/toy"), name="toy", block_units=4, options=options, **changes)


def config(*sources: SourceConfig, **changes) -> BuildConfig:
    rules = RegionRules(min_area=4, min_area_fraction=0.0, training_size=48)
    return BuildConfig(sources or (source(),), regions=rules, **changes)


def make(what: BuildConfig, out: Path, **how):
    return build(what, out, progress=False, **how)


def digests(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != ".lock"
    }


def lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_writes_native_rows_logs_and_manifest(tmp_path):
    manifest = make(config(source(policy="components")), tmp_path)
    rows = list(iterate_rows(tmp_path))
    assert [name for name in rows[0]] == SCHEMA.names
    assert len(rows) == 12
    assert manifest == read_manifest(tmp_path)
    assert set(manifest["files"]) == set(digests(tmp_path)) - {"manifest.json"}
    assert manifest["files"] == {name: d for name, d in digests(tmp_path).items() if name != "manifest.json"}
    counts = manifest["sources"][0]["counts"]
    # units 0..11 have 1 + number % 4 annotations: liver always (3 parts, one of them a pixel), the lung in 9
    # (its box pokes out), an empty spleen in 6, a box of 2 pixels in 3
    assert counts["annotations"] == 12 + 9 + 6 + 3
    assert (counts["parts"], counts["clipped"], counts["regions_out"]) == (24, 9, 24 + 9)
    assert manifest["sources"][0]["regions_dropped"] == {"speck": 12, "empty mask": 6, "tiny box": 3}
    assert len(lines(tmp_path / "dropped.jsonl")) == 21
    assert lines(tmp_path / "dropped.jsonl")[0] == {
        "image": "toy/case0/slice0",
        "region": 0,
        "label": "liver",
        "reason": "speck",
    }
    assert not (tmp_path / "parts").exists()


def test_one_worker_is_two_workers_byte_for_byte(tmp_path):
    what = config(source(options={"faults": FAULTS}), duplicate_bits=2)
    make(what, tmp_path / "one")
    make(what, tmp_path / "two", workers=2)
    assert digests(tmp_path / "one") == digests(tmp_path / "two")


def test_a_patient_is_never_in_two_splits(tmp_path):
    make(config(source(options={"units_": 60}), val_fraction=0.3, test_fraction=0.3), tmp_path)
    sides: dict[str, set[str]] = {}
    for row in iterate_rows(tmp_path, pixels=False):
        sides.setdefault(row["patient"], set()).add(row["split"])
    assert len(sides) == 20
    assert all(len(splits) == 1 for splits in sides.values())
    assert {split for splits in sides.values() for split in splits} == {"train", "val", "test"}


def test_near_duplicates_are_found_across_parts(tmp_path):
    what = config(source(options={"units_": 12, "twins": (0, 5, 11)}))
    manifest = make(what, tmp_path)
    logged = [line for line in lines(tmp_path / "dropped.jsonl") if line["reason"] == "near-duplicate"]
    assert [(line["image"], line["of"]) for line in logged] == [
        ("toy/case1/slice5", "toy/case0/slice0"),
        ("toy/case3/slice11", "toy/case0/slice0"),
    ]
    assert manifest["sources"][0]["images_dropped"] == {"near-duplicate": 2}
    everything = make(replace(what, duplicate_bits=None), tmp_path / "all")
    assert everything["sources"][0]["counts"]["images_out"] == 12


def test_duplicates_are_sought_over_sources_and_ids_once(tmp_path):
    twice = (source(), replace(source(), name="again"))
    manifest = make(config(*twice), tmp_path)
    assert manifest["sources"][1]["images_dropped"] == {"near-duplicate": 12}
    with pytest.raises(ValueError, match="two sources are called toy"):
        make(config(source(), source()), tmp_path / "same")


def test_thinned_slices_are_counted(tmp_path):
    manifest = make(config(source(keep_every=3)), tmp_path)
    assert manifest["sources"][0]["images_dropped"] == {"thinned slice": 8}
    assert [row["slice_index"] for row in iterate_rows(tmp_path)] == [0, 3, 6, 9]


def test_every_fault_is_quarantined_with_its_reason(tmp_path):
    manifest = make(config(source(options={"faults": FAULTS})), tmp_path)
    quarantined = lines(tmp_path / "quarantine.jsonl")
    assert [line["unit"] for line in quarantined] == [
        f"case{number // 3}/slice{number}" for number in range(len(FAULTS))
    ]
    reasons = [line["reason"] for line in quarantined]
    assert reasons[0] == "case0/slice0: cannot be read; is the data set complete?"  # no place of the machine
    assert reasons[1] == "KeyError: 'a fault of the reader'"
    counts = manifest["sources"][0]["counts"]
    assert (counts["units"], counts["units_read"], counts["units_quarantined"]) == (12, 3, 9)
    assert len(list(iterate_rows(tmp_path))) == 3


@settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    faults=st.lists(st.sampled_from(("", "", *FAULTS)), max_size=8),
    twins=st.sets(st.integers(0, 7), max_size=4),
    policy=st.sampled_from(("keep", "union", "components", "largest")),
    side=st.sampled_from((48, 48, 640)),
    keep_every=st.integers(1, 3),
)
def test_nothing_is_lost(tmp_path_factory, faults, twins, policy, side, keep_every):
    out = tmp_path_factory.mktemp("build")
    options = {"units_": 8, "faults": tuple(faults), "twins": tuple(twins), "side": side}
    manifest = make(config(source(options=options, policy=policy, keep_every=keep_every)), out)
    (only,) = manifest["sources"]
    counts, dropped = only["counts"], only["regions_dropped"]
    assert counts["units"] == 8 == counts["units_read"] + counts["units_quarantined"]
    found = [fault for number, fault in enumerate(faults) if number % keep_every == 0 or fault in ALWAYS]
    assert counts["units_quarantined"] == sum(map(bool, found)) == len(lines(out / "quarantine.jsonl"))
    rows = list(iterate_rows(out, pixels=False))
    assert counts["images"] == len(rows) + sum(only["images_dropped"].values())
    kept = sum(len(row["regions"]) for row in rows)
    logged = sum(line.get("regions", 1) for line in lines(out / "dropped.jsonl"))
    assert counts["annotations"] + counts["parts"] - counts["merged"] == kept + logged
    assert logged == sum(dropped.values())


def test_negatives_come_from_annotated_labels_that_are_not_there(tmp_path):
    make(config(), tmp_path)
    for row in iterate_rows(tmp_path, pixels=False):
        number = int(row["file_name"].partition("slice")[2].removesuffix(".png"))
        drawn = [("right lung", "spleen", "unheard_of")[i] for i in range(number % 4)]
        assert set(row["absent_labels"]) == {"right lung", "spleen", "left lung"} - set(
            drawn
        )  # spleen: empty
        assert set(row["absent_labels"]) <= set(row["annotated_labels"])


def test_a_changed_configuration_is_refused_by_name(tmp_path):
    make(config(), tmp_path)
    with pytest.raises(ValueError, match=r"(?s)seed: 0 -> 1.*sources\[0\]\.policy|sources.*seed: 0 -> 1"):
        make(config(source(policy="largest"), seed=1), tmp_path)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.txt").touch()
    with pytest.raises(ValueError, match=r"holds thesis\.txt"):
        make(config(), tmp_path / "other")


def test_a_finished_build_is_returned_unless_its_units_changed(tmp_path, monkeypatch):
    manifest = make(config(), tmp_path)
    before = digests(tmp_path)
    assert make(config(), tmp_path) == manifest
    assert digests(tmp_path) == before
    import toy_reader

    monkeypatch.setattr(toy_reader.ToyReader, "units", lambda self: iter(()))
    with pytest.raises(ValueError, match="other units"):
        make(config(), tmp_path)


def test_a_second_build_in_the_folder_waits_for_nobody(tmp_path):
    with FileLock(tmp_path / ".lock"), pytest.raises(RuntimeError, match="another build runs"):
        make(config(), tmp_path)


def test_an_unknown_engine_is_refused(tmp_path):
    with pytest.raises(ValueError, match="engine pool or ray"):
        make(config(), tmp_path, engine="dask")


def test_finished_parts_are_not_computed_again(tmp_path, monkeypatch):
    import toy_reader

    read, seen = toy_reader.ToyReader.read, []

    def stop_at_unit_9(self, unit):
        seen.append(unit.key)
        if unit.payload["number"] == 9:
            raise MemoryError
        return read(self, unit)

    monkeypatch.setattr(toy_reader.ToyReader, "read", stop_at_unit_9)
    with pytest.raises(MemoryError):
        make(config(), tmp_path / "out")
    monkeypatch.setattr(
        toy_reader.ToyReader, "read", lambda self, unit: seen.append(unit.key) or read(self, unit)
    )
    del seen[:]
    make(config(), tmp_path / "out")
    assert seen == [f"case{number // 3}/slice{number}" for number in range(8, 12)]
    make(config(), tmp_path / "whole")
    assert digests(tmp_path / "out") == digests(tmp_path / "whole")


SCRIPT = """
import sys
from pathlib import Path
from grounding.data.engine import blocks, finalise
from grounding.data.engine.config import READERS
READERS["toy"] = "toy_reader:ToyReader"
from test_builder import config, make, source
make(config(source(options={"units_": 400, "side": 160})), Path(sys.argv[1]), workers=int(sys.argv[2]))
"""


@pytest.mark.slow
def test_killed_anywhere_it_goes_on_to_the_same_bytes(tmp_path):
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{HERE}"}

    def command(out: Path, workers: int) -> list[str]:
        return [sys.executable, "-c", SCRIPT, str(out), str(workers)]

    subprocess.run(command(tmp_path / "whole", 1), env=environment, check=True, timeout=120)
    out = tmp_path / "killed"
    for parts, workers in ((7, 1), (30, 2), (85, 1)):  # then in the middle of the second stage
        process = subprocess.Popen(command(out, workers), env=environment)
        wait_for_parts(process, out, parts)
        helpers = psutil.Process(process.pid).children(recursive=True)
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert not psutil.wait_procs(helpers, timeout=20)[1], "workers outlived the build"
        assert not (out / "manifest.json").exists()
    process = subprocess.Popen(command(out, 1), env=environment)
    while process.poll() is None and not (out / "data").exists():
        time.sleep(0.002)
    process.kill()
    process.wait()
    subprocess.run(command(out, 2), env=environment, check=True, timeout=120)
    assert digests(out) == digests(tmp_path / "whole")


def wait_for_parts(process: subprocess.Popen, out: Path, count: int) -> None:
    while process.poll() is None and len(list((out / "parts").glob("part-*.json"))) < count:
        time.sleep(0.002)
    assert process.poll() is None, "finished before it could be killed"


def test_shards_are_bounded_and_hold_the_rows_in_order(tmp_path, monkeypatch):
    for module in (blocks, finalise):
        monkeypatch.setattr(module, "GROUP_ROWS", 4)
    what = config(source(options={"units_": 40}), val_fraction=0.0, test_fraction=0.0)
    object.__setattr__(what, "shard_megabytes", 1e-4)  # a hundred bytes: every group of rows is a file
    make(what, tmp_path)
    files = sorted(path.name for path in (tmp_path / "data").iterdir())
    assert files == [f"train-{number:05d}-of-00010.parquet" for number in range(10)]
    assert [row["slice_index"] for row in iterate_rows(tmp_path)] == list(range(40))


def test_datasets_decodes_the_pictures(tmp_path):
    import datasets

    make(config(), tmp_path / "out")
    files = [str(path) for path in sorted((tmp_path / "out" / "data").glob("*.parquet"))]
    loaded = datasets.load_dataset("parquet", data_files=files, cache_dir=str(tmp_path / "cache"))["train"]
    assert loaded[0]["image"].size == (56, 48)
    assert len(loaded) == 12


@pytest.mark.parametrize("split", ["train", "val"])
def test_masks_of_real_organs_give_the_given_boxes(data_dir, tmp_path, split):
    """The set keeps the largest part of each organ, whose box its json states."""
    folder = data_dir / "grounding" / "ct_organs"
    organs = SourceConfig("coco", folder, policy="largest", options={"files": [f"{split}.json"]})
    rules = RegionRules(min_area=1, min_area_fraction=0.0, min_side=0.0)
    manifest = make(BuildConfig((organs,), duplicate_bits=None, regions=rules), tmp_path)
    content = json.loads((folder / f"{split}.json").read_text())
    names = {image["id"]: image["file_name"] for image in content["images"]}
    given = sorted((names[item["image_id"]], item["bbox"]) for item in content["annotations"])
    rows = list(iterate_rows(tmp_path, pixels=False))
    ours = sorted((row["file_name"], xywh(region["box"])) for row in rows for region in row["regions"])
    assert ours == given
    assert manifest["sources"][0]["counts"]["units_quarantined"] == 0
    for row in rows[:10]:
        for region in row["regions"]:
            encoded = {"size": [row["height"], row["width"]], "counts": region["mask"].encode()}
            assert coco_mask.toBbox(encoded).tolist() == xywh(region["box"])
            assert coco_mask.area(encoded) == region["area"]


def xywh(box: list[float]) -> list[float]:
    return [box[0], box[1], box[2] - box[0], box[3] - box[1]]
