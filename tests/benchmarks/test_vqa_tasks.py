"""SLAKE and PathVQA end to end on small sets in their official layouts, with their traps."""

import json
import shutil
from io import BytesIO

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from benchmarks import run_vqa
from benchmarks.predictions import read_rows
from llm.types import Generation


class Says:
    """Gives the answer that belongs to a question; sees boxes."""

    def __init__(self, answers):
        self.answers, self.shown = answers, []

    def generate(self, prompts, *, max_new_tokens):
        self.shown += [(p.text, None if p.regions is None else len(p.regions)) for p in prompts]
        return [Generation(self.answers.get(p.text, ""), 0.5) for p in prompts]


def slake_record(qid, image, question, answer, answer_type="OPEN", **changes):
    return {
        "img_id": image,
        "img_name": f"xmlab{image}/source.jpg",
        "question": question,
        "answer": answer,
        "q_lang": "en",
        "location": "Abdomen" if image % 2 else "Lung",
        "modality": "CT",
        "answer_type": answer_type,
        "base_type": "vqa",
        "content_type": "Organ",
        "triple": ["vhead", "_", "_"],
        "qid": qid,
    } | changes


@pytest.fixture
def slake(tmp_path):
    root = tmp_path / "data" / "vqa" / "slake"
    for number in range(1, 5):
        folder = root / "imgs" / f"xmlab{number}"
        folder.mkdir(parents=True)
        Image.new("L", (20, 16), 40 * number).save(folder / "source.jpg")
        boxes = [{"Liver": [2, 1, 3, 2]}, {"Kidney": [8, 4, 2, 6]}] if number == 1 else []
        (folder / "detection.json").write_text(json.dumps(boxes))
    train = [
        slake_record(1, 3, "What organ is this?", "Liver"),
        slake_record(2, 3, "图中是什么器官?", "肝脏", q_lang="zh"),
    ]
    test = [
        slake_record(11, 1, "What organ is this?", "Liver"),
        slake_record(12, 1, "What organ is this?", "liver."),  # asked twice, written in two ways
        slake_record(13, 1, "图中是什么器官?", "肝脏", q_lang="zh"),
        slake_record(14, 2, "Is it CT or MRI?", "CT", "CLOSED"),  # closed, and no yes or no
        slake_record(15, 2, "How large is the naïve cyst?", "6 µm", content_type="Size"),
        slake_record(16, 2, "What is missing?", " "),
    ]
    (root / "train.json").write_text(json.dumps(train, ensure_ascii=False), encoding="utf-8")
    (root / "test.json").write_text(json.dumps(test), encoding="utf-8")
    return tmp_path / "data"


def test_slake_end_to_end(slake, tmp_path, use_model, checkpoint):
    answers = {
        "What organ is this?": "LIVER",
        "Is it CT or MRI?": "ct",
        "How large is the naïve cyst?": "6 µm",
    }
    model = use_model(Says(answers))
    out = tmp_path / "run"
    flags = ["--task", "slake", "--data-dir", str(slake), "--out", str(out), "--model", str(checkpoint())]
    assert run_vqa.main([*flags, "--boxes", "none", "oracle"]) == 0
    metrics = json.loads((out / "metrics.json").read_text())
    assert (metrics["split"], metrics["n"], metrics["n_clusters"]) == ("test", 4, 2)
    assert metrics["dropped"] == {"not English": 1, "no answer": 1}
    exact = metrics["conditions"]["oracle"]["exact"]
    assert [exact[f"answer type={t}"]["n"] for t in ("OPEN", "CLOSED")] == [3, 1]
    assert (exact["overall"]["mean"], exact["organ=Lung"]["n"], exact["question type=Size"]["n"]) == (1, 2, 1)
    assert metrics["conditions"]["oracle"]["llava-med"]["answer type=CLOSED"]["mean"] == 0  # by its rules
    assert metrics["conditions"]["most-frequent"]["exact"]["overall"]["mean"] == 0.5
    assert ("What organ is this?", 2) in model.shown and ("Is it CT or MRI?", 0) in model.shown
    row = next(row for row in read_rows(out / "predictions.jsonl") if row["qid"] == "15")
    assert (row["prediction"], row["reference"]) == ("6 µm", "6 µm")


def test_slake_text_alone_serves_the_baselines(slake, tmp_path, capsys):
    text = slake / "vqa" / "slake_text"
    (slake / "vqa" / "slake").rename(text)
    for name in ("train", "test"):
        (text / f"{name}.json").rename(text / f"{name}_en.json")
    shutil.rmtree(text / "imgs")
    flags = [
        "--task",
        "slake",
        "--data-dir",
        str(slake),
        "--out",
        str(tmp_path / "run"),
        "--model",
        "baselines",
    ]
    assert run_vqa.main([*flags, "--dry-run"]) == 0
    assert "image files absent: 4" in capsys.readouterr().out
    assert run_vqa.main(flags) == 0
    assert json.loads((tmp_path / "run" / "metrics.json").read_text())["n"] == 4


def test_real_slake_text(data_dir):
    task = run_vqa.Slake(data_dir, "test", images=False)
    samples = task.samples()
    assert len(samples) == 1061
    assert sum(s.groups["answer type"] == ("CLOSED",) for s in samples) == 416
    images = {s.image_path for s in samples}
    assert not images & {s.image_path for s in task.train_samples()}


@pytest.fixture
def path_vqa(tmp_path):
    def picture(grey):
        buffer = BytesIO()
        Image.fromarray(np.full((8, 9), grey, dtype=np.uint8)).save(buffer, format="PNG")
        return buffer.getvalue()

    def write(split, rows):
        path = tmp_path / "data" / "vqa" / "path_vqa" / "data" / f"{split}-00000-of-00001.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        table = {
            "image": [{"bytes": picture(grey), "path": None} for grey, _, _ in rows],
            "question": [question for _, question, _ in rows],
            "answer": [answer for _, _, answer in rows],
        }
        pq.write_table(pa.table(table), path)

    write("train", [(1, "is there necrosis?", "no"), (2, "what is seen?", "café-au-lait spot")])
    write(
        "test",
        [
            (3, "is there necrosis?", "no"),
            (3, "is there necrosis?", "no"),  # the same question of the same picture
            (3, "what is seen?", "café-au-lait spot"),
            (4, "is there necrosis?", "yes"),
            (4, "what is seen?", ""),
            (4, "", "yes"),
        ],
    )
    return tmp_path / "data"


def test_path_vqa_end_to_end(path_vqa, tmp_path, use_model, checkpoint):
    use_model(Says({"is there necrosis?": "No", "what is seen?": "Café au lait spot"}))
    out = tmp_path / "run"
    flags = ["--task", "path_vqa", "--data-dir", str(path_vqa), "--out", str(out), "--boxes", "none"]
    assert run_vqa.main([*flags, "--model", str(checkpoint())]) == 0
    metrics = json.loads((out / "metrics.json").read_text())
    assert (metrics["n"], metrics["n_clusters"]) == (4, 2)
    assert metrics["dropped"] == {"no answer": 1, "no question": 1}
    assert metrics["conditions"]["none"]["exact"]["overall"]["mean"] == 0.75
    assert metrics["conditions"]["nearest-question"]["exact"]["overall"]["mean"] == 0.75
    assert (
        len(list((path_vqa / "vqa" / "path_vqa" / "images").iterdir())) == 4
    )  # of train and test, once each
    assert len({row["qid"] for row in read_rows(out / "predictions.jsonl")}) == 4


def test_a_checkpoint_trained_on_the_test_is_refused(slake, tmp_path, checkpoint):
    flags = ["--task", "slake", "--data-dir", str(slake), "--out", str(tmp_path / "run"), "--boxes", "none"]
    with pytest.raises(ValueError, match="would measure memory"):
        run_vqa.main([*flags, "--model", str(checkpoint(trained_on=["slake-test"]))])
