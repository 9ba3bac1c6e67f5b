"""The command end to end on a toy VQA-RAD with a fake model: controls, resume, guard, comparison."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks import run_vqa
from benchmarks.checkpoints import recorded_training
from benchmarks.runner import Predictions, batches, check_identity
from grounding.types import Regions
from llm.types import Generation

ORGANS = ("CHEST", "HEAD", "ABD")


def record(qid, image, question, answer, answer_type="CLOSED", question_type="PRES"):
    return {
        "qid": qid,
        "image_name": f"{image}.png",
        "image_organ": ORGANS[image % 3],
        "question": question,
        "answer": answer,
        "answer_type": answer_type,
        "question_type": question_type,
    }


@pytest.fixture
def data(tmp_path):
    """Six images; 6 training and 12 test questions, half of them open."""
    root = tmp_path / "data" / "vqa" / "vqa_rad"
    (root / "images").mkdir(parents=True)
    for k in range(6):
        Image.new("L", (40 + k, 30), 40 * k).save(root / "images" / f"{k}.png")
    train = [record(k, k, f"is there a mass number {k}", "yes" if k % 2 else "no") for k in range(6)]
    test = [record(100 + k, k, "is there a mass" + " indeed" * k, "yes") for k in range(6)]
    test += [record(200 + k, k, "where is it" + "?" * k, "left lung", "OPEN", "POS, SIZE") for k in range(6)]
    (root / "trainset.json").write_text(json.dumps(train))
    (root / "testset.json").write_text(json.dumps(test))
    parts = {"train": list(range(6)), "val": [100], "test": [101, 102, 201, 202]}
    (root / "image_disjoint_split.json").write_text(json.dumps({"qids": parts}))
    return tmp_path / "data"


@pytest.fixture
def regions(data, tmp_path):
    path = tmp_path / "regions.jsonl"
    lines = []
    for qid in [*range(100, 106), *range(200, 206)]:
        found = Regions(
            boxes=np.array([[1, 2, 3 + qid % 100, 9]], dtype=np.float32),
            scores=np.array([0.9], dtype=np.float32),
            phrase_index=np.array([0]),
            asked=("mass",),
            image_size=(30, 40 + qid % 100),
        )
        lines.append(json.dumps({"qid": str(qid), "regions": found.to_dict()}) + "\n")
    path.write_text("".join(lines))
    return path


class FakeModel:
    """Answers from the box it is shown; dies at its `dies_at`-th batch; records batches."""

    def __init__(self, dies_at=None):
        self.dies_at, self.seen = dies_at, []

    def generate(self, prompts, *, max_new_tokens):
        assert max_new_tokens == 16
        if self.dies_at is not None and len(self.seen) == self.dies_at:
            raise KeyboardInterrupt
        self.seen.append([p.text for p in prompts])
        return [Generation(self._answer(p), 0.25 + len(prompts) / 8) for p in prompts]

    @staticmethod
    def _answer(prompt):
        if "where" in prompt.text:
            return "the left lung" if prompt.regions is not None else "right lung"
        own = prompt.regions is not None and prompt.regions.boxes[0, 2] == 3 + prompt.image.width - 40
        return "Yes." if own else "no"


@pytest.fixture
def use_model(monkeypatch):
    def use(model):
        import llm.generate

        monkeypatch.setattr(llm.generate.VisionLanguageModel, "from_pretrained", lambda *a, **k: model)
        return model

    return use


def checkpoint(folder, **config):
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "w.safetensors").write_bytes(b"weights")
    return folder


def arguments(data, out, *more, split="official-test"):
    return [
        "--data-dir",
        str(data),
        "--split",
        split,
        "--out",
        str(out),
        "--batch-size",
        "5",
        *map(str, more),
    ]


def full(data, regions, folder, out):
    return arguments(
        data, out, "--boxes", "none", "predicted", "shuffled", "--regions", regions, "--model", folder
    )


def test_controls_baselines_and_breakdowns(data, regions, tmp_path, use_model, capsys):
    use_model(FakeModel())
    folder = checkpoint(tmp_path / "model", trained_on=["official-train"])
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


@pytest.mark.parametrize("dies_at", [0, 1, 4])
def test_a_killed_run_continues_to_the_same_files(data, regions, tmp_path, use_model, dies_at):
    folder = checkpoint(tmp_path / "model")
    whole = use_model(FakeModel())
    run_vqa.main(full(data, regions, folder, tmp_path / "whole"))
    killed = use_model(FakeModel(dies_at))
    with pytest.raises(KeyboardInterrupt):
        run_vqa.main(full(data, regions, folder, tmp_path / "killed"))
    path = tmp_path / "killed" / "predictions.jsonl"
    if path.exists():
        path.write_text(path.read_text()[:-30])  # and the last line was cut short
    resumed = use_model(FakeModel())
    run_vqa.main(full(data, regions, folder, tmp_path / "killed"))
    for name in ("predictions.jsonl", "metrics.json", "results.md"):
        assert (tmp_path / "killed" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    assert len(resumed.seen) == len(whole.seen) - len(killed.seen) + bool(killed.seen)
    assert resumed.seen == whole.seen[-len(resumed.seen) :]  # the same batches, the broken one in full


def test_a_finished_run_loads_no_model(data, regions, tmp_path, use_model):
    folder = checkpoint(tmp_path / "model")
    use_model(FakeModel())
    run_vqa.main(full(data, regions, folder, tmp_path / "run"))
    use_model(None)
    run_vqa.main(full(data, regions, folder, tmp_path / "run"))


def test_a_condition_can_be_added_later_and_the_others_stay(data, regions, tmp_path, use_model):
    folder = checkpoint(tmp_path / "model")
    model = use_model(FakeModel())
    run_vqa.main(arguments(data, tmp_path / "run", "--boxes", "none", "--model", folder))
    n = len(model.seen)
    run_vqa.main(
        arguments(data, tmp_path / "run", "--boxes", "predicted", "--model", folder, "--regions", regions)
    )
    assert len(model.seen) == 2 * n
    rows = Predictions(tmp_path / "run" / "predictions.jsonl").rows
    assert {"none", "predicted"} <= {condition for _, condition in rows}


def test_a_folder_of_another_run_is_refused(data, regions, tmp_path, use_model):
    use_model(FakeModel())
    folder = checkpoint(tmp_path / "model")
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
def test_a_checkpoint_never_meets_the_other_splits_test(data, tmp_path, trained_on, split):
    folder = checkpoint(tmp_path / "model", trained_on=trained_on)
    with pytest.raises(ValueError, match="would measure memory"):
        run_vqa.main(arguments(data, tmp_path / "run", "--boxes", "none", "--model", folder, split=split))
    assert not (tmp_path / "run").exists()


def test_the_training_recipe_tells_where_the_configuration_does_not(data, tmp_path):
    folder = checkpoint(tmp_path / "model", hidden_size=8)
    assert recorded_training(folder) == []
    (folder / "recipe.json").write_text(json.dumps({"train_split": "official-train"}))
    assert recorded_training(folder) == ["official-train"]
    with pytest.raises(ValueError, match="would measure memory"):
        run_vqa.main(
            arguments(data, tmp_path / "run", "--boxes", "none", "--model", folder, split="disjoint-test")
        )


def test_its_own_test_is_allowed(data, tmp_path, use_model):
    use_model(FakeModel())
    folder = checkpoint(tmp_path / "model", trained_on="disjoint-train")
    run_vqa.main(
        arguments(data, tmp_path / "run", "--boxes", "none", "--model", folder, split="disjoint-test")
    )
    assert json.loads((tmp_path / "run" / "metrics.json").read_text())["n"] == 4


def test_runs_are_compared_by_question(data, regions, tmp_path, use_model):
    use_model(FakeModel())
    folder = checkpoint(tmp_path / "model")
    run_vqa.main(full(data, regions, folder, tmp_path / "a"))
    run_vqa.main(arguments(data, tmp_path / "b", "--model", "baselines"))
    table = run_vqa.compare_runs(f"{tmp_path}/a:predicted", f"{tmp_path}/a:none")
    assert "| a:predicted - a:none | 1.000 [1.000, 1.000] | 1.000 [1.000, 1.000] |" in table
    assert "12 / 0 |" in table
    assert "a:nearest-question - b:nearest-question | 0.000" in run_vqa.compare_runs(
        f"{tmp_path}/a", f"{tmp_path}/b"
    )
    with pytest.raises(ValueError, match="got 'oracle'"):
        run_vqa.compare_runs(f"{tmp_path}/a:oracle", f"{tmp_path}/a:none")
    run_vqa.main(arguments(data, tmp_path / "c", "--model", "baselines", split="disjoint-test"))
    with pytest.raises(ValueError, match="over the same questions"):
        run_vqa.compare_runs(f"{tmp_path}/b", f"{tmp_path}/c")


def test_batches_hold_similar_lengths_and_depend_on_the_whole_set(data):
    samples = run_vqa.VqaRad(data, "official-test").samples()
    cut = batches(samples, 5)
    assert [len(b) for b in cut] == [5, 5, 2]
    lengths = [len(s.prompt) for b in cut for s in b]
    assert lengths == sorted(lengths)
    assert batches(samples[::-1], 5) == cut


def test_identity_names_what_differs(tmp_path):
    check_identity(tmp_path / "run" / "identity.json", {"seed": 0, "model": "a"})
    check_identity(tmp_path / "run" / "identity.json", {"seed": 0, "model": "a"})
    with pytest.raises(ValueError, match="model: 'a' there, 'b' now"):
        check_identity(tmp_path / "run" / "identity.json", {"seed": 0, "model": "b"})


def test_missing_flags_are_told(capsys):
    with pytest.raises(SystemExit):
        run_vqa.main([])
    assert "--data-dir and --out are needed" in capsys.readouterr().err


@pytest.mark.parametrize("how", [["-m", "benchmarks.run_vqa"], [str(Path(run_vqa.__file__))]])
def test_script_works_as_a_file_and_as_a_module_and_loads_no_heavy_library(how, data, tmp_path):
    root = str(Path(run_vqa.__file__).parents[1])
    arguments_ = arguments(data, tmp_path / "run", "--model", "baselines")
    command = [sys.executable, "-X", "importtime", *how, *arguments_]
    environment = {"PYTHONPATH": root, "PATH": ""}
    done = subprocess.run(command, capture_output=True, text=True, cwd=root, env=environment, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "| nearest-question |" in done.stdout
    imported = {line.rsplit("|", 1)[-1].strip() for line in done.stderr.splitlines() if "|" in line}
    assert not imported & {"torch", "transformers", "evaluate", "datasets"}
