"""The lmms-eval task files: their fields, the functions they name, and figures as of our own protocols.

lmms-eval is not needed: its loader is imitated as far as the files use it. `FIELDS` are those of its task
guide (docs/guides/task_guide.md there) and of its TaskConfig.
"""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from PIL import Image

import benchmarks.lmms_eval as package
from benchmarks.lmms_eval import documents
from benchmarks.lmms_eval.scoring import doc_to_text, doc_to_visual, process_results
from benchmarks.tasks.slake import Slake
from benchmarks.tasks.vqa_rad import VqaRad

FOLDER = Path(package.__file__).parent
FILES = sorted(FOLDER.glob("*.yaml"))
FIELDS = {
    "include", "task", "task_alias", "tag", "dataset_path", "dataset_kwargs", "test_split", "output_type",
    "doc_to_visual", "doc_to_text", "doc_to_target", "process_results", "generation_kwargs",
    "lmms_eval_specific_kwargs", "metric_list", "metadata",
}  # fmt: skip


class Loader(yaml.SafeLoader):
    """Knows `!function FILE.NAME`: a function of a file beside, loaded by its path."""


def function(loader, node):
    file, name = loader.construct_scalar(node).split(".")
    spec = importlib.util.spec_from_file_location(file, FOLDER / f"{file}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return getattr(module, name)


Loader.add_constructor("!function", function)


def load(path):
    config = yaml.load(path.read_text(encoding="utf-8"), Loader)
    included = config.pop("include", None)
    return (load(path.parent / included) if included else {}) | config


def doc(answer, answer_type="OPEN", **more):
    return {
        "qid": "1",
        "image": "",
        "question": "Where?",
        "answer": answer,
        "answer_type": answer_type,
        **more,
    }


def test_task_files_hold_known_fields_and_name_what_exists():
    tasks = {path.stem: load(path) for path in FILES}
    assert [t["task"] for t in tasks.values()] == [f"medglip_{name}" for name in tasks]
    assert list(tasks) == ["slake", "vqa_rad", "vqa_rad_official"]
    splits = {str(documents.FOLDER / f"{name}-{split}.jsonl") for name, split in documents.SPLITS}
    assert {t["dataset_kwargs"]["data_files"][t["test_split"]] for t in tasks.values()} == splits
    for config in tasks.values():
        assert config.keys() <= FIELDS
        assert config["output_type"] == "generate_until"
        for name in ("doc_to_visual", "doc_to_text", "process_results"):
            assert callable(config[name])
        names = [m["metric"] for m in config["metric_list"]]
        scored = [config["process_results"](doc("a", kind), ["a"]) for kind in ("OPEN", "CLOSED")]
        assert sorted(names) == sorted({name for scores in scored for name in scores})
        assert all(m.keys() == {"metric", "aggregation", "higher_is_better"} for m in config["metric_list"])
        assert {(m["aggregation"], m["higher_is_better"]) for m in config["metric_list"]} == {("mean", True)}


def test_answers_are_judged_by_our_protocols():
    right = {"exact": 1.0, "token_f1": 1.0, "exact_closed": 1.0, "token_f1_closed": 1.0}
    assert process_results(doc("Yes", "CLOSED"), ["yes."]) == right
    half = process_results(doc("the left lung"), ["Left"])  # one word of two: 2 * 1 / (1 + 2)
    assert half == pytest.approx({"exact": 0.0, "token_f1": 2 / 3, "exact_open": 0.0, "token_f1_open": 2 / 3})
    assert set(process_results(doc("x"), [""]).values()) == {0.0}


def test_scoring_needs_none_of_our_libraries():
    """It runs in lmms-eval's environment."""
    code = f"""
import sys
before = set(sys.modules)
sys.path.insert(0, {str(FOLDER.parents[1])!r})
import benchmarks.lmms_eval.scoring
tops = {{name.split(".")[0] for name in set(sys.modules) - before}}
print(*sorted(tops - set(sys.stdlib_module_names)))
"""
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert set(found.stdout.split()) <= {"PIL", "benchmarks", "defusedxml", "cffi", "_cffi_backend"}


def test_a_question_is_asked_between_the_texts_of_the_task_file():
    kwargs = load(FILES[0])["lmms_eval_specific_kwargs"]["default"]
    assert doc_to_text(doc("x"), kwargs) == "Where?\nAnswer the question using a single word or phrase."
    assert doc_to_text(doc("x"), {"pre_prompt": "Q: "}) == "Q: Where?"
    assert doc_to_text(doc("x")) == "Where?"


def test_an_image_is_opened_in_colour(tmp_path):
    Image.new("L", (5, 3), 7).save(tmp_path / "a.png")
    (image,) = doc_to_visual(doc("x", image=str(tmp_path / "a.png")))
    assert (image.mode, image.size, image.getpixel((4, 2))) == ("RGB", (5, 3), (7, 7, 7))


def test_documents_are_the_questions_of_our_own_splits(data, tmp_path, monkeypatch, capsys):
    root = data / "vqa" / "slake"
    (root / "imgs" / "xmlab1").mkdir(parents=True)
    Image.new("L", (4, 4)).save(root / "imgs" / "xmlab1" / "source.jpg")
    record = {
        "img_id": 1, "img_name": "xmlab1/source.jpg", "question": "What organ?", "answer": "Liver",
        "q_lang": "en", "location": "Abdomen", "modality": "CT", "answer_type": "OPEN", "base_type": "vqa",
        "content_type": "Organ", "qid": 9,
    }  # fmt: skip
    chinese = {**record, "qid": 10, "q_lang": "zh"}
    (root / "test.json").write_text(json.dumps([record, chinese]))
    monkeypatch.chdir(tmp_path)
    assert documents.main(["--data-dir", str(data)]) == 0
    assert capsys.readouterr().err == ""
    for path in FILES:
        file = Path(load(path)["dataset_kwargs"]["data_files"]["test"])
        name, _, split = file.stem.partition("-")
        samples = {"vqa_rad": VqaRad, "slake": Slake}[name](data, split).samples()
        rows = [json.loads(line) for line in file.read_text().splitlines()]
        assert [(r["qid"], r["question"], r["answer"]) for r in rows] == [
            (s.sample_id, s.prompt, s.reference) for s in samples
        ]
        assert all(set(r) == set(doc("x")) and doc_to_visual(r) for r in rows)


def test_sets_that_are_absent_are_named(data, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert documents.main(["--data-dir", str(data)]) == 0
    assert "slake test is left out" in capsys.readouterr().err
    assert documents.main(["--data-dir", str(tmp_path / "nothing")]) == 1


@pytest.mark.slow
def test_the_documents_load_as_lmms_eval_loads_them(data, tmp_path, monkeypatch):
    from datasets import load_dataset

    monkeypatch.chdir(tmp_path)
    documents.main(["--data-dir", str(data)])
    config = load(FOLDER / "vqa_rad.yaml")
    found = load_dataset(
        config["dataset_path"], cache_dir=str(tmp_path / "cache"), **config["dataset_kwargs"]
    )
    docs = list(found[config["test_split"]])
    assert [d["qid"] for d in docs] == ["101", "102", "201", "202"]
    assert process_results(docs[0], [docs[0][config["doc_to_target"]]])["exact"] == 1.0
