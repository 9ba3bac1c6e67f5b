"""Ray Data on a local cluster of two workers: the bytes of the pool, and nothing left running."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from grounding.data.engine.builder import build
from grounding.data.engine.config import READERS, BuildConfig, SourceConfig

HERE = Path(__file__).resolve().parent


@pytest.mark.slow
def test_ray_writes_the_bytes_of_the_pool(tmp_path, monkeypatch):
    pytest.importorskip("ray.data", reason="Ray Data is not installed (extra `scale`)")
    import ray

    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(HERE.parents[3]), str(HERE)]))
    monkeypatch.syspath_prepend(str(HERE))
    monkeypatch.setitem(READERS, "toy", "toy_reader:ToyReader")
    toy = SourceConfig(
        "toy", Path("/toy"), name="toy", block_units=4, options={"units_": 30, "faults": ["", "bug"]}
    )
    config = BuildConfig((toy,))
    by_pool = build(config, tmp_path / "pool", progress=False)
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    try:
        by_ray = build(config, tmp_path / "ray", workers=2, engine="ray", progress=False)
    finally:
        ray.shutdown()
    assert by_ray == by_pool
    assert (tmp_path / "ray" / "manifest.json").read_bytes() == (
        tmp_path / "pool" / "manifest.json"
    ).read_bytes()
