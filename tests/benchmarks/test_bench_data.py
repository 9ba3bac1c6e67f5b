"""The benchmark on a few dozen masks: its data can be read, its figures are what they say."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import bench_data
from benchmarks.bench_data import Run, main, project, run_build, table, write_dataset
from grounding.data.schema import iterate_rows, read_manifest

ROOT = Path(__file__).resolve().parents[2]


def test_the_data_set_is_in_the_layout_and_seeded(tmp_path):
    assert write_dataset(tmp_path / "one", 42, side=64, seed=3) == 44  # four a picture
    write_dataset(tmp_path / "two", 42, side=64, seed=3)
    files = [
        sorted(path for path in (tmp_path / name).rglob("*") if path.is_file()) for name in ("one", "two")
    ]
    assert [path.read_bytes() for path in files[0]] == [path.read_bytes() for path in files[1]]
    index = json.loads((tmp_path / "one" / bench_data.INDEX).read_text())
    assert sum(map(len, index.values())) == 44
    assert list(json.loads((tmp_path / "one" / bench_data.TENTH).read_text())) == list(index)[:1]


def test_the_measured_build_reads_it_whole(tmp_path):
    write_dataset(tmp_path / "data", 24, side=64, seed=0)
    run_build(tmp_path / "data", bench_data.INDEX, tmp_path / "out", 1)
    counts = read_manifest(tmp_path / "out")["sources"][0]["counts"]
    assert (counts["units_read"], counts["units_quarantined"], counts["annotations"]) == (6, 0, 24)
    assert len(list(iterate_rows(tmp_path / "out", pixels=False))) == 6  # none looks like another


def test_projection_by_hand():
    one = Run(masks=1000, workers=1, seconds=11.0, second_stage=1.0, peak_mb=1.0)  # 100 a second
    two = Run(masks=1000, workers=2, seconds=7.25, second_stage=1.0, peak_mb=1.0)  # 80 a second a worker
    expected = 5_300_000 / (100 * 16 * 0.8) + 5_300_000 / 1000
    assert project(one, two, 16) == pytest.approx(expected / 3600)


@pytest.mark.slow
def test_the_whole_benchmark_runs(tmp_path, capsys):
    main(["--masks", "80", "--side", "48", "--work", str(tmp_path), "--out", str(tmp_path / "result.json")])
    result = json.loads((tmp_path / "result.json").read_text())
    assert result["identical"]
    assert result["masks"] == 80
    assert table(result).strip() == capsys.readouterr().out.strip()
    assert "DIFFERENT" not in table(result)
    assert [path.name for path in tmp_path.iterdir()] == ["result.json"]


def test_it_runs_as_a_file():
    script = str(ROOT / "benchmarks" / "bench_data.py")
    done = subprocess.run([sys.executable, script, "--help"], capture_output=True, text=True, check=True)
    assert "--masks" in done.stdout
