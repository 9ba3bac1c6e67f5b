"""Processes for real: torchrun divides a run of the nano model, and a killed process is continued."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from benchmarks import run_vqa

ROOT = Path(run_vqa.__file__).parents[1]
RESULTS = ("predictions.jsonl", "metrics.json", "results.md", "identity.json")
ENVIRONMENT = {k: v for k, v in os.environ.items() if k != "OMP_NUM_THREADS"} | {"PYTHONPATH": str(ROOT)}


@pytest.fixture
def command(data, regions, arguments, base_weights):
    """The command of a run in float32, two conditions, into a folder."""

    def build(out, *launcher):
        boxes = ["--boxes", "none", "predicted", "--regions", regions]
        flags = arguments(data, out, *boxes, "--dtype", "float32", "--threads", "1", split="disjoint-test")
        flags[flags.index("--batch-size") + 1] = "1"  # four questions: four batches
        return [sys.executable, *launcher, "-m", "benchmarks.run_vqa", *flags]

    return build


def same(a, b):
    return [name for name in RESULTS if (a / name).read_bytes() != (b / name).read_bytes()] == []


@pytest.mark.slow
def test_two_processes_give_the_files_of_one(command, tmp_path):
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    for out, launcher in (("one", []), ("two", torchrun)):
        subprocess.run(command(tmp_path / out, *launcher), check=True, cwd=ROOT, env=ENVIRONMENT)
    assert same(tmp_path / "one", tmp_path / "two")
    assert '"processes": 2' in (tmp_path / "two" / "manifest.json").read_text()


@pytest.mark.slow
def test_a_process_killed_in_the_middle_is_continued_by_two_and_then_by_one(command, tmp_path):
    subprocess.run(command(tmp_path / "whole"), check=True, cwd=ROOT, env=ENVIRONMENT)
    out = tmp_path / "killed"
    process = subprocess.Popen(command(out), cwd=ROOT, env=ENVIRONMENT)
    part = out / "parts" / "0-of-1.jsonl"
    while not part.exists() and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (out / "predictions.jsonl").exists()
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    subprocess.run(command(out, *torchrun), check=True, cwd=ROOT, env=ENVIRONMENT)
    assert same(tmp_path / "whole", out)
