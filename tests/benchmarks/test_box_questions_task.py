"""The task on true boxes: four conditions end to end with a model that believes whatever it is shown."""

import json

import numpy as np
import pytest
from PIL import Image

from benchmarks import run_vqa
from benchmarks.box_conditions import shuffle_alike
from benchmarks.tasks.base import Sample
from benchmarks.tasks.box_questions import BoxQuestions, only, write_regions
from grounding.types import Regions
from llm.data.regions import region_writer
from llm.types import Generation


def write_set(folder, split, first, count):
    """Pictures with no, one or two polyps, a polyp being on the left in every other one."""
    (folder / "images").mkdir(parents=True, exist_ok=True)
    images, annotations = [], []
    for k in range(first, first + count):
        Image.new("L", (100, 80), k).save(folder / "images" / f"{k}.png")
        images.append({"id": k, "file_name": f"{k}.png", "width": 100, "height": 80, "modality_code": "ES"})
        boxes = [[5 if k % 2 else 70, 10, 20, 10 + k % 5], [40, 60, 10, 10]][: k % 3]
        annotations += [
            {"id": 10 * k + j, "image_id": k, "category_id": 3, "bbox": box} for j, box in enumerate(boxes)
        ]
    content = {"images": images, "annotations": annotations, "categories": [{"id": 3, "name": "polyp"}]}
    (folder / f"{split}.json").write_text(json.dumps(content))


@pytest.fixture
def data(tmp_path):
    folder = tmp_path / "data" / "grounding" / "toy"
    write_set(folder, "train", 100, 18)
    write_set(folder, "val", 0, 18)
    return tmp_path / "data"


class BelievesBoxes:
    """Answers three kinds of question from the boxes in the prompt alone."""

    def generate(self, prompts, *, max_new_tokens):
        return [Generation(self.answer(p), 0.5) for p in prompts]

    def answer(self, prompt):
        found = prompt.regions
        if found is None:
            return "no"
        text = prompt.text.lower()
        if text.startswith(("how many", "count", "what is the number")):
            return str(len(found))
        if not len(found):
            return "no"
        x = float(found.boxes[0, [0, 2]].mean()) / prompt.image.width
        side = "left" if x < 0.5 else "right"
        if "left" in text and "right" in text:
            return side
        if "left" in text or "right" in text:
            return "yes" if side in text else "no"
        return "yes"


class Asked:
    """Finds the true boxes or nothing; with a threshold of 0 the true boxes in any case."""

    def __init__(self, regions, finds):
        self.regions, self.finds = regions, finds

    def ground(self, phrases, *, box_threshold=None):
        return self.regions if self.finds or box_threshold == 0 else self.regions[[]]


class Shifted:
    """A grounder that finds the true boxes of every other image and nothing in the others."""

    name, fingerprint = "shifted", "f"

    def __init__(self, task):
        self.true = {}
        for item in task.instructions:
            self.true.setdefault(item.image_path, {})[item.phrases] = item.regions

    def ask_batch(self, images, phrases_per_image):
        (image,) = images
        number = int(image.pixels[0, 0, 0])
        path = next(path for path in self.true if path.stem == str(number))
        return [Asked(self.true[path]["polyp",], number % 4 != 0)]


def test_conditions_end_to_end(data, tmp_path, monkeypatch, capsys):
    import grounding
    import llm.generate

    task = BoxQuestions(data)
    monkeypatch.setattr(llm.generate, "load_model", lambda *a, **k: BelievesBoxes())
    monkeypatch.setattr(grounding.Grounder, "from_pretrained", lambda *a, **k: Shifted(task))
    out = tmp_path / "run"
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    flags = ["--task", "boxes", "--data-dir", str(data), "--out", str(out), "--model", str(folder)]
    run_vqa.main([*flags, "--boxes", "none", "predicted", "oracle", "shuffled"])
    metrics = json.loads((out / "metrics.json").read_text())

    def mean(condition, cell):
        return metrics["conditions"][condition]["exact"][cell]["mean"]

    for kind in ("presence", "count"):
        assert mean("oracle", f"kind={kind}") == 1
        assert mean("shuffled", f"kind={kind}") < 0.9
        assert mean("none", f"kind={kind}") <= 0.5
    assert mean("shuffled", "overall") < mean("predicted", "overall") < mean("oracle", "overall")
    assert "oracle" in capsys.readouterr().out
    assert set(metrics["comparisons"]) >= {"predicted - none", "predicted - oracle", "predicted - shuffled"}


def test_a_checkpoint_trained_on_the_validation_questions_is_refused(data, tmp_path):
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text('{"trained_on": ["boxes-val"]}')
    flags = ["--task", "boxes", "--data-dir", str(data), "--out", str(tmp_path / "o"), "--boxes", "none"]
    with pytest.raises(ValueError, match="would measure memory"):
        run_vqa.main([*flags, "--model", str(folder)])


def regions(x, phrase=0, size=(80, 100)):
    return Regions(np.array([[x, 0, x + 5, 5]]), np.array([0.5]), np.array([phrase]), ("polyp", "cell"), size)


def sample(number, image, cluster, stratum="toy/where/polyp"):
    return Sample(str(number), data_path(image), "q", "a", cluster, {}, stratum)


def data_path(image):
    from pathlib import Path

    return Path(f"{image}.png")


def test_a_question_gets_only_its_phrases_best_first():
    found = Regions(
        np.array([[0, 0, 5, 5], [1, 0, 5, 5], [2, 0, 5, 5]]),
        np.array([0.3, 0.9, 0.6]),
        np.array([0, 1, 0]),
        ("polyp", "cell", "fold"),
        (80, 100),
    )
    chosen = only(found, ("fold", "polyp"))
    assert chosen.boxes[:, 0].tolist() == [2, 0]
    assert chosen.phrases == ("polyp", "polyp")
    assert chosen.missing == ("fold",)


def test_shuffled_regions_are_of_a_like_question_of_another_patient():
    samples = [
        sample(0, "a", "p"),
        sample(1, "b", "p"),
        sample(2, "c", "q"),
        sample(3, "a", "p", "toy/count/cell"),
        sample(4, "d", "r", "toy/count/cell"),
    ]
    own = {str(k): regions(10 * k, phrase=int(k > 2)) for k in range(5)}
    for seed in range(5):
        given = {name: float(r.boxes[0, 0]) / 10 for name, r in shuffle_alike(samples, own, seed).items()}
        assert given["0"] == given["1"] == 2
        assert given["2"] in (0, 1)
        assert (given["3"], given["4"]) == (4, 3)


def test_a_lone_question_borrows_from_any_image_and_one_image_is_refused():
    samples = [sample(0, "a", "p"), sample(1, "a", "p", "x"), sample(2, "b", "p", "y")]
    own = {str(k): regions(10 * k) for k in range(3)}
    assert shuffle_alike(samples, own, 0)["0"].boxes[0, 0] == 20
    with pytest.raises(ValueError, match="two images"):
        shuffle_alike(samples[:2], own, 0)


def test_regions_are_scaled_to_the_image_that_gets_them():
    own = {"0": regions(10), "1": regions(20, size=(160, 200))}
    given = shuffle_alike([sample(0, "a", "p"), sample(1, "b", "q")], own, 0)
    assert given["0"].boxes.tolist() == [[10, 0, 12.5, 2.5]]
    assert given["1"].image_size == (160, 200)


def test_regions_file_is_what_the_runner_reads(tmp_path):
    from benchmarks.box_conditions import read_regions

    write_regions(tmp_path / "r.jsonl", iter([("0", regions(3))]), {"grounder": "g", "grounder_sha256": "f"})
    assert region_writer(tmp_path / "r.jsonl") == "f"
    assert read_regions(tmp_path / "r.jsonl", [sample(0, "a", "p")])["0"].boxes[0, 0] == 3
    assert not list(tmp_path.glob("*.partial"))


def test_real_validation_questions(data_dir):
    task = BoxQuestions(data_dir)
    samples = task.samples()
    oracle = task.oracle_regions()
    assert len({s.sample_id for s in samples}) == len(samples) == len(oracle) > 1000
    shuffled = task.shuffle_regions(samples, oracle, 0)
    assert all(shuffled[s.sample_id].asked for s in samples)
    assert {s.groups["kind"][0] for s in samples} == {"presence", "count", "side", "larger", "where"}
