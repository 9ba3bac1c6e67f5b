"""The command end to end on a toy VQA-RAD with a fake model: controls, baselines, guard, comparison."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import run_vqa
from benchmarks.checkpoints import recorded_training
from benchmarks.compare import compare_runs
from benchmarks.compare import main as compare_main
from benchmarks.predictions import Predictions
from benchmarks.run_config import BASELINES_ONLY
from benchmarks.summary import pairs_of


def test_controls_baselines_and_breakdowns(
    data, regions, tmp_path, use_model, capsys, fake_model, checkpoint, full
):
    use_model(fake_model())
    folder = checkpoint("model", trained_on=["official-train"])
    run_vqa.main(full(data, regions, folder, tmp_path / "run"))
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())

    def mean(condition, cell):
        return metrics["conditions"][condition]["exact"][cell]["mean"]

    assert (mean("none", "overall"), mean("predicted", "overall"), mean("shuffled", "overall")) == (0, 1, 0.5)
    assert mean("shuffled", "answer type=OPEN") == 1
    assert mean("predicted", "organ=HEAD") == 1
    assert (
        metrics["conditions"]["none"]["exact"]["question type=SIZE"]["n"] == 6
    )  # of two types: counted in each
    assert metrics["conditions"]["none"]["token-f1"]["answer type=OPEN"]["mean"] == 0.5
    assert metrics["conditions"]["predicted"]["exact"]["overall"]["n_clusters"] == 6
    gain = metrics["comparisons"]["predicted - shuffled"]["overall"]
    assert gain["difference"]["mean"] == 0.5
    assert gain["mcnemar"] == {"only_a": 6, "only_b": 0, "p": 2 / 2**6}
    assert {"question-type-prior", "nearest-question"} <= metrics["conditions"].keys()
    table = capsys.readouterr().out
    assert "| predicted | 1.000 [1.000, 1.000] |" in table
    assert "| predicted - none |" in table
    manifest = json.loads((tmp_path / "run" / "manifest.json").read_text())
    assert manifest["settings"]["trained_on"] == ["official-train"]
    assert len(manifest["settings"]["model_sha256"]) == 64


def test_a_finished_run_loads_no_model(data, regions, tmp_path, use_model, fake_model, checkpoint, full):
    folder = checkpoint("model")
    use_model(fake_model())
    run_vqa.main(full(data, regions, folder, tmp_path / "run"))
    use_model(None)
    run_vqa.main(full(data, regions, folder, tmp_path / "run"))


def test_a_condition_can_be_added_later_and_the_others_stay(
    data, regions, tmp_path, use_model, fake_model, checkpoint, arguments
):
    folder = checkpoint("model")
    model = use_model(fake_model())
    run_vqa.main(arguments(data, tmp_path / "run", "--boxes", "none", "--model", folder))
    n = len(model.seen)
    run_vqa.main(
        arguments(data, tmp_path / "run", "--boxes", "predicted", "--model", folder, "--regions", regions)
    )
    assert len(model.seen) == 2 * n
    rows = Predictions(tmp_path / "run").rows
    assert {"none", "predicted"} <= {condition for _, condition in rows}


def test_a_folder_of_another_run_is_refused(data, regions, tmp_path, use_model, fake_model, checkpoint, full):
    use_model(fake_model())
    folder = checkpoint("model")
    run_vqa.main(full(data, regions, folder, tmp_path / "run"))
    (folder / "w.safetensors").write_bytes(b"other weights")
    with pytest.raises(ValueError, match=r"model_sha256.*choose another --out"):
        run_vqa.main(full(data, regions, folder, tmp_path / "run"))


@pytest.mark.parametrize(
    ("trained_on", "split"),
    [
        ("official-train", "disjoint-test"),
        (["official-train"], "disjoint-val"),
        (["disjoint-train"], "official-test"),
    ],
)
def test_a_checkpoint_never_meets_the_other_splits_test(
    data, tmp_path, trained_on, split, checkpoint, arguments
):
    folder = checkpoint("model", trained_on=trained_on)
    with pytest.raises(ValueError, match="would measure memory"):
        run_vqa.main(arguments(data, tmp_path / "run", "--boxes", "none", "--model", folder, split=split))
    assert not (tmp_path / "run").exists()


def test_the_training_recipe_tells_where_the_configuration_does_not(data, tmp_path, checkpoint, arguments):
    folder = checkpoint("model", hidden_size=8)
    assert recorded_training(folder) == []
    (folder / "recipe.json").write_text(json.dumps({"train_split": "official-train"}))
    assert recorded_training(folder) == ["official-train"]
    with pytest.raises(ValueError, match="would measure memory"):
        run_vqa.main(
            arguments(data, tmp_path / "run", "--boxes", "none", "--model", folder, split="disjoint-test")
        )


def test_its_own_test_is_allowed(data, tmp_path, use_model, fake_model, checkpoint, arguments):
    use_model(fake_model())
    folder = checkpoint("model", trained_on="disjoint-train")
    run_vqa.main(
        arguments(data, tmp_path / "run", "--boxes", "none", "--model", folder, split="disjoint-test")
    )
    assert json.loads((tmp_path / "run" / "metrics.json").read_text())["n"] == 4


@pytest.mark.parametrize("how", [["-m", "benchmarks.run_vqa"], [str(Path(run_vqa.__file__))]])
def test_script_works_as_a_file_and_as_a_module_and_loads_no_heavy_library(how, data, tmp_path, arguments):
    root = str(Path(run_vqa.__file__).parents[1])
    arguments_ = arguments(data, tmp_path / "run", "--model", "baselines")
    command = [sys.executable, "-X", "importtime", *how, *arguments_]
    environment = {"PYTHONPATH": root, "PATH": ""}
    done = subprocess.run(command, capture_output=True, text=True, cwd=root, env=environment, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "| nearest-question |" in done.stdout
    imported = {line.rsplit("|", 1)[-1].strip() for line in done.stderr.splitlines() if "|" in line}
    assert not imported & {"torch", "transformers", "evaluate", "datasets"}


def test_runs_are_compared_by_question(
    data, regions, tmp_path, use_model, fake_model, checkpoint, arguments, full, capsys
):
    use_model(fake_model())
    a, b, c = (str(tmp_path / name) for name in "abc")
    run_vqa.main(full(data, regions, checkpoint(), a))
    run_vqa.main(arguments(data, b, "--model", "baselines"))
    capsys.readouterr()
    assert compare_main([f"{a}:predicted", f"{a}:none"]) == 0
    table = capsys.readouterr().out
    assert "| a:predicted - a:none | 1.000 [1.000, 1.000] | 1.000 [1.000, 1.000] |" in table
    assert "12 / 0 |" in table
    _, found, protocol = compare_runs(a, b)
    assert protocol == "exact"
    assert found["a:nearest-question - b:nearest-question"]["overall"]["difference"]["mean"] == 0
    assert compare_main([f"{a}:predicted", f"{a}:none", "--protocol", "vila-m3", "--json"]) == 0
    cells = json.loads(capsys.readouterr().out)["a:predicted - a:none"]
    assert (cells["overall"]["difference"]["n"], "answer type=OPEN" in cells) == (6, False)
    with pytest.raises(ValueError, match="got 'oracle'"):
        compare_runs(f"{a}:oracle", f"{a}:none")
    with pytest.raises(ValueError, match=r"exact, token-f1.*got 'bleu'"):
        compare_runs(a, b, "bleu")
    run_vqa.main(arguments(data, c, "--model", "baselines", split="disjoint-test"))
    with pytest.raises(ValueError, match=r"on the same data.*official-test.*disjoint-test"):
        compare_runs(b, c)


def test_settings_that_do_not_fit_are_told(data, tmp_path, capsys):
    for flags, told in (
        ([], "data_dir is needed"),
        (["--data-dir", str(data)], "out is needed: --out FOLDER"),
        (["--data-dir", "d", "--out", "o", "--shard", "4/4"], "shard must be I/N"),
        (["--data-dir", "d", "--out", "o", "--batch-size", "0"], "batch_size must be at least 1"),
    ):
        with pytest.raises(SystemExit) as stop:
            run_vqa.main(flags)
        assert stop.value.code == 2
        assert told in capsys.readouterr().err
    flags = ["--data-dir", str(data), "--out", str(tmp_path / "o")]
    with pytest.raises(ValueError, match="vqa_rad has no true boxes"):
        run_vqa.main([*flags, "--boxes", "oracle"])
    with pytest.raises(ValueError, match=r"has the splits disjoint-test, .*got 'test'"):
        run_vqa.main([*flags, "--split", "test", "--model", "baselines"])
    with pytest.raises(ValueError, match="no sample left of 4 with offset 9"):
        run_vqa.main([*flags, "--offset", "9", "--model", "baselines"])


def test_the_controls_are_compared_with_each_other():
    every = ["none", "predicted", "oracle", "shuffled", "most-frequent"]
    model = {"model": "nano"}
    assert pairs_of(every, model) == [
        ("predicted", "none"),
        ("predicted", "oracle"),
        ("predicted", "shuffled"),
        ("predicted", "most-frequent"),
        ("shuffled", "none"),
    ]
    assert pairs_of(["none", "shuffled"], model) == [("none", "shuffled")]
    assert pairs_of(every, {"model": BASELINES_ONLY}) == []
