"""A run that is killed anywhere, for real, and continued by the same command leaves the same files."""

import json
import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import run_vqa
from benchmarks.grounding_answers import CachedAnswers
from benchmarks.predictions import Predictions
from benchmarks.run_folder import RunFolder
from benchmarks.whole_files import write_whole

ROOT = Path(run_vqa.__file__).parents[1]
MAY_DIFFER = ("measured", "seconds")  # of manifest.json: how long the last process took


def start(step, folder, flags):
    """One process in `folder`, killed at `step`; 0: never."""
    command = [sys.executable, Path(__file__).with_name("dying_run.py"), str(step), *flags]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    folder.mkdir(exist_ok=True)
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)


def files(folder):
    """Every file that a run left, by its name; of the manifest all but what may differ."""
    found = {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    manifest = json.loads(found["manifest.json"])
    part, name = MAY_DIFFER
    assert manifest[part].pop(name) >= 0
    return found | {"manifest.json": manifest}


@pytest.fixture
def flags(data, regions, checkpoint, full):
    return full(data, regions, checkpoint(), "run")  # relative: the same command in any folder


@pytest.mark.slow
def test_a_run_killed_at_ten_random_points_continues_to_the_same_files(flags, tmp_path):
    whole = start(0, tmp_path / "whole", flags)
    assert whole.returncode == 0, whole.stderr
    steps = int(whole.stdout.splitlines()[-1])
    assert steps > 50
    expected = files(tmp_path / "whole" / "run")
    rng = random.Random(0)
    tenths = [(k * steps // 10, (k + 1) * steps // 10) for k in range(10)]
    for step in [1 + rng.randrange(*tenth) for tenth in tenths]:
        folder = tmp_path / f"killed-{step}"
        assert start(step, folder, flags).returncode == -signal.SIGKILL
        continued = start(0, folder, flags)
        assert continued.returncode == 0, (step, continued.stderr)
        assert files(folder / "run") == expected, step


@pytest.mark.slow
def test_a_run_killed_again_and_again_comes_to_its_end(flags, tmp_path):
    start(0, tmp_path / "whole", flags)
    folder, kills = tmp_path / "killed", 0
    while start(30, folder, flags).returncode == -signal.SIGKILL:  # about eight batches each
        kills += 1
        assert kills < 10
    assert kills > 1
    assert files(folder / "run") == files(tmp_path / "whole" / "run")


def test_reading_a_run_changes_no_file_of_it(tmp_path):
    """The reader's own part has the name of the writer's: pages and dry runs name none."""
    part = tmp_path / "parts" / "0-of-1.jsonl"
    part.parent.mkdir()
    row = {"qid": "1", "boxes": "none", "error": None}
    text = json.dumps(row) + '\n{"qid": "2", "box'  # its writer is in the middle of a line
    part.write_text(text)
    assert list(Predictions(tmp_path).rows) == [("1", "none")]
    assert RunFolder(tmp_path, "vqa", {}, {}).rows == {"none": [row]}
    assert part.read_text() == text
    with Predictions(tmp_path).writing():
        assert part.read_text() == json.dumps(row) + "\n"


def test_one_process_writes_a_part(tmp_path):
    first, second = Predictions(tmp_path), Predictions(tmp_path)
    with first.writing():
        first.append([{"qid": "1", "boxes": "none", "error": None}])
        with (
            pytest.raises(ValueError, match=r"0-of-1.jsonl: another process is writing it"),
            second.writing(),
        ):
            pass
        with Predictions(tmp_path, "1-of-2").writing():  # another part is free
            pass
    with second.writing():
        assert list(second.rows) == [("1", "none")]  # what the first wrote before


@pytest.mark.parametrize("before", [True, False])
def test_a_reader_misses_nothing_when_the_parts_are_merged_under_its_eyes(tmp_path, monkeypatch, before):
    """Just before it reads its first file, or just after."""
    row = {"qid": "1", "boxes": "none", "error": None}
    writer = Predictions(tmp_path)
    with writer.writing():
        writer.append([row])
    import benchmarks.predictions as module

    plain = module.read_rows

    def read_rows(path):
        monkeypatch.setattr(module, "read_rows", plain)
        rows = None if before else plain(path)
        writer.finish([], [])
        return plain(path) if rows is None else rows

    monkeypatch.setattr(module, "read_rows", read_rows)
    assert list(Predictions(tmp_path).rows) == [("1", "none")]


def test_a_file_is_replaced_whole_or_stays(tmp_path, monkeypatch):
    path = tmp_path / "new" / "a.json"
    write_whole(path, "before")

    def killed(_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", killed)
        with pytest.raises(KeyboardInterrupt):
            write_whole(path, "after")
    assert path.read_text() == "before"
    write_whole(path, "after")
    assert [p.name for p in path.parent.iterdir()] == ["a.json"] and path.read_text() == "after"


def test_a_detector_killed_while_its_answers_are_written_is_asked_again(tmp_path, monkeypatch):
    class Nothing:
        name, threshold, fingerprint = "nothing", None, "f"

    class NoTargets:
        name, targets = "set", ()

    def killed(_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", killed)
        with pytest.raises(KeyboardInterrupt):
            CachedAnswers(Nothing(), tmp_path).answer(NoTargets(), [])
    assert not list(tmp_path.glob("*.json"))
    assert CachedAnswers(Nothing(), tmp_path).answer(NoTargets(), []) == []
    assert len(list(tmp_path.glob("*.json"))) == 1
