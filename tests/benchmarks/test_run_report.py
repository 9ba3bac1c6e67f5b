"""MIMIC-CXR and IU-Xray reports end to end on small sets in their official layouts, with their traps."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks import run_report
from benchmarks.compare import compare_runs
from benchmarks.compare import main as compare_main
from benchmarks.leaderboard import make_boards
from benchmarks.metrics.label_f1 import label_f1
from benchmarks.metrics.labeller import label_report
from benchmarks.metrics.overlap import bleu, cider, report_tokens, rouge_l
from benchmarks.page import IMAGES, TEXTS, build_page
from benchmarks.report_figures import ReportStatistics, figures
from benchmarks.run_folder import read_run
from benchmarks.tasks.report import r2gen_text
from grounding.types import Regions
from llm.types import Generation

CLEAR = "The lungs are clear. No pleural effusion."
STUDIES = [  # dicom, study, patient, split, view, report
    ("d1", "50000001", "10000001", "train", "PA", f"FINDINGS: {CLEAR}\n\nIMPRESSION: Normal.\n"),
    ("d2", "50000002", "10000002", "train", "AP", "FINDINGS: Large right pneumothorax.\n"),
    ("d3", "50000003", "11000003", "test", "LATERAL", f"FINDINGS: {CLEAR}\n"),
    ("d4", "50000003", "11000003", "test", "AP", ""),
    ("d5", "50000003", "11000003", "test", "PA", ""),  # two frontals: PA is taken
    (
        "d6",
        "50000004",
        "11000003",
        "test",
        "AP",
        "FINDINGS: Moderate left pleural effusion, 3\u20134 cm ≈ ⅓.\n",
    ),
    ("d7", "50000005", "11000004", "test", "PA", "IMPRESSION: Normal.\n"),
    ("d8", "50000006", "11000004", "test", "LL", f"FINDINGS: {CLEAR}\n"),
    ("d9", "50000007", "11000005", "test", "AP", "FINDINGS: 1. Cardiomegaly.  2. Mild edema.\n"),
]


@pytest.fixture
def mimic(tmp_path):
    images, texts = (tmp_path / "data" / "reports" / name for name in ("mimic-cxr-jpg", "mimic-cxr"))
    rng = np.random.default_rng(0)
    for dicom, study, patient, _, _, report in STUDIES:
        folder = Path("files", f"p{patient[:2]}", f"p{patient}")
        (images / folder / f"s{study}").mkdir(parents=True, exist_ok=True)
        picture = rng.integers(0, 255, (16 + int(dicom[1]), 20), dtype=np.uint8)
        Image.fromarray(picture).save(images / folder / f"s{study}" / f"{dicom}.jpg")
        (texts / folder).mkdir(parents=True, exist_ok=True)
        if report:
            (texts / folder / f"s{study}.txt").write_text(report, encoding="utf-8")
    tables = {
        "split": (("dicom_id", "study_id", "subject_id", "split"), (0, 1, 2, 3)),
        "metadata": (("dicom_id", "subject_id", "study_id", "ViewPosition"), (0, 2, 1, 4)),
        "chexpert": (("subject_id", "study_id", "Edema"), None),
    }
    for name, (header, columns) in tables.items():
        rows = [[study[c] for c in columns] for study in STUDIES] if columns else []
        with (images / f"mimic-cxr-2.0.0-{name}.csv").open("w", newline="") as file:
            csv.writer(file).writerows([header, *rows])
    return tmp_path / "data"


class Reporter:
    """One report with boxes, another without; nothing at all for the largest image."""

    def generate(self, prompts, *, max_new_tokens):
        assert max_new_tokens == 256
        return [Generation(self.report(p), 0.5) for p in prompts]

    def report(self, prompt):
        if prompt.image.height == 16 + 9:
            return ""
        return CLEAR if prompt.regions is None else "There is a moderate left pleural effusion."


def write_regions(path, sizes):
    lines = []
    for study, height in sizes.items():
        box = np.array([[1, 1, 5, 5]], dtype=np.float32)
        found = Regions(box, np.array([0.9], dtype=np.float32), np.array([0]), ("effusion",), (height, 20))
        lines.append(json.dumps({"qid": study, "regions": found.to_dict()}) + "\n")
    path.write_text("".join(lines))
    return path


def flags_of(data, out, *more, task="mimic_cxr"):
    return [str(each) for each in ("--task", task, "--data-dir", data, "--out", out, *more)]


@pytest.fixture
def mimic_run(mimic, tmp_path, use_model, checkpoint):
    use_model(Reporter())
    regions = write_regions(tmp_path / "regions.jsonl", {"s50000003": 21, "s50000004": 22, "s50000007": 25})
    boxes = ["--boxes", "none", "predicted", "shuffled", "--regions", regions]
    assert run_report.main(flags_of(mimic, tmp_path / "run", *boxes, "--model", checkpoint())) == 0
    return tmp_path / "run"


def test_mimic_end_to_end(mimic_run):
    metrics = json.loads((mimic_run / "metrics.json").read_text())
    assert (metrics["kind"], metrics["split"], metrics["n"], metrics["n_clusters"]) == (
        "report",
        "test",
        3,
        2,
    )
    assert metrics["dropped"] == {"no frontal view": 1, "no findings": 1}
    assert metrics["empty"] == {
        "none": 1,
        "predicted": 1,
        "shuffled": 1,
        "most-frequent": 0,
        "nearest-report": 0,
    }
    none, predicted = (metrics["conditions"][name] for name in ("none", "predicted"))
    assert none["rouge_l"]["overall"]["mean"] == pytest.approx(
        (
            1
            + rouge_l(
                report_tokens(CLEAR), [report_tokens("Moderate left pleural effusion, 3\u20134 cm ≈ ⅓.")]
            )
        )
        / 3
    )
    assert none["f1/No Finding"]["overall"]["mean"] == pytest.approx(2 / 3)  # said of two, true of one
    assert predicted["f1/Pleural Effusion"]["overall"]["mean"] == pytest.approx(2 / 3)
    assert predicted["f1/Cardiomegaly"]["overall"]["mean"] == 0  # the empty report is a wrong one
    assert metrics["comparisons"]["predicted - none"]["rouge_l"]["difference"]["n_clusters"] == 2
    assert (metrics["uncertain"], metrics["references"]) == ("positive", "raw")
    table = (mimic_run / "results.md").read_text()
    assert "Dropped when read: 1 no findings, 1 no frontal view" in table
    assert "| bleu_4 |" in table and "| label_micro_14 |" in table


def test_outputs_hold_no_patient_and_no_reference(mimic_run):
    for path in mimic_run.rglob("*.*"):
        if path.is_file() and path.suffix != ".lock":
            text = path.read_text(encoding="utf-8")
            assert not [p for _, _, p, *_ in STUDIES if p in text], path
            assert "Mild edema" not in text and "Moderate left" not in text, path


def test_runs_are_compared_from_their_statistics_alone(mimic_run, mimic, capsys):
    for path in mimic.rglob("*.txt"):
        path.unlink()
    kind, found, _ = compare_runs(f"{mimic_run}:predicted", f"{mimic_run}:none")
    expected = json.loads((mimic_run / "metrics.json").read_text())["comparisons"]["predicted - none"]
    assert (kind, found) == ("report", {"run:predicted - run:none": expected})
    assert compare_main([f"{mimic_run}:predicted", f"{mimic_run}:none"]) == 0
    assert "| label_micro_14 | " in capsys.readouterr().out


def test_r2gen_references_are_cleaned_and_cut(mimic, tmp_path):
    assert r2gen_text("1. Cardiomegaly.  2. Mild edema, (new)?") == "cardiomegaly . mild edema new ."
    assert r2gen_text("Size 3.4 cm. ___ No change") == "size 34 cm . no change ."
    task = run_report.MimicCxr(mimic, "test", references="r2gen")
    assert task.samples()[2].reference == "cardiomegaly . mild edema ."
    task.r2gen_words = 3
    assert task.samples()[2].reference == "cardiomegaly . mild"
    assert task.words("Mild, edema.") == ["mild", "edema", "."]
    run_report.main(flags_of(mimic, tmp_path / "run", "--model", "baselines", "--references", "r2gen"))
    assert "References: r2gen" in (tmp_path / "run" / "results.md").read_text()


@pytest.fixture
def iu(tmp_path):
    root = tmp_path / "data" / "reports" / "iu_xray"
    rng = np.random.default_rng(1)

    def record(number, report):
        (root / "images" / str(number)).mkdir(parents=True)
        for k in range(2):  # frontal, lateral
            picture = rng.integers(0, 255, (16, 16), dtype=np.uint8)
            Image.fromarray(picture).save(root / "images" / str(number) / f"{k}.png")
        return {"id": f"CXR{number}", "report": report, "image_path": [f"{number}/0.png", f"{number}/1.png"]}

    annotation = {
        "train": [record(1, CLEAR), record(2, CLEAR), record(3, "Cardiomegaly.")],
        "val": [record(4, CLEAR)],
        "test": [record(5, CLEAR), record(6, ""), record(7, "Cardiomegaly, XXXX."), record(8, CLEAR)],
    }
    (root / "annotation.json").write_text(json.dumps(annotation))
    return tmp_path / "data"


def test_iu_xray_baselines_end_to_end(iu, tmp_path):
    images = iu / "reports" / "iu_xray" / "images"
    (images / "7" / "0.png").write_bytes((images / "3" / "0.png").read_bytes())
    (images / "5" / "0.png").write_bytes((images / "1" / "0.png").read_bytes())
    assert run_report.main(flags_of(iu, tmp_path / "run", "--model", "baselines", task="iu_xray")) == 0
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert (metrics["n"], metrics["dropped"], metrics["cluster"]) == (3, {"no findings": 1}, "study")
    rows = map(json.loads, (tmp_path / "run" / "predictions.jsonl").read_text().splitlines())
    said = {(row["boxes"], row["qid"]): row["prediction"] for row in rows}
    assert said["nearest-report", "CXR7"] == "Cardiomegaly."
    assert said["nearest-report", "CXR5"] == said["most-frequent", "CXR7"] == CLEAR


def test_figures_are_those_of_the_metrics():
    said = [CLEAR, "", "Possible left pneumonia. The heart is enlarged.", "Clear lungs, no pneumothorax."]
    true = [CLEAR, "Edema.", "Left lower lobe pneumonia.", "Lungs are clear. No pneumothorax or effusion."]
    statistics = ReportStatistics.count("abcd", "ppqr", said, true, report_tokens)
    found = {name: each["overall"]["mean"] for name, each in figures(statistics, seed=0).items()}
    words = [[report_tokens(text) for text in texts] for texts in (said, true)]
    for n, expected in enumerate(bleu(words[0], [[t] for t in words[1]]).corpus, start=1):
        assert found[f"bleu_{n}"] == pytest.approx(expected)
    assert found["cider"] == pytest.approx(np.mean(cider(words[0], [[t] for t in words[1]])))
    labels = label_f1([label_report(t) for t in said], [label_report(t) for t in true])
    assert {name: found[name] for name in labels if name.startswith("f1/")} == pytest.approx(
        {name: value for name, value in labels.items() if name.startswith("f1/")}
    )
    for name in ("micro_14", "macro_14", "micro_5", "macro_5"):
        assert found[f"label_{name}"] == pytest.approx(labels[name])


def test_statistics_survive_their_file(tmp_path):
    counted = ReportStatistics.count("ab", "pq", [CLEAR, ""], [CLEAR, "Edema."], report_tokens)
    (tmp_path / "s.jsonl").write_text(counted.to_lines("none"))
    read = ReportStatistics.read(tmp_path / "s.jsonl", "none")
    assert figures(read, seed=0) == figures(counted, seed=0)
    with pytest.raises(ValueError, match="nothing of the condition 'predicted'"):
        ReportStatistics.read(tmp_path / "s.jsonl", "predicted")


def test_radeval_is_named_unavailable_where_it_is(mimic, tmp_path, monkeypatch):
    import importlib.util

    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    run_report.main(flags_of(mimic, tmp_path / "run", "--model", "baselines", "--radeval"))
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert "not installed" in metrics["radeval"]["most-frequent"]["unavailable"]["green"]
    assert (
        "most-frequent, by radeval: f1chexbert unavailable" in (tmp_path / "run" / "results.md").read_text()
    )


def test_reports_have_no_oracle(mimic, tmp_path):
    with pytest.raises(ValueError, match="no true boxes"):
        run_report.main(flags_of(mimic, tmp_path / "run", "--boxes", "oracle"))


def test_the_page_shows_reports_and_no_reference(mimic_run, mimic, tmp_path):
    text = build_page(read_run(mimic_run), data_dir=mimic, regions=tmp_path / "regions.jsonl")
    assert text.count("<image ") == 2 and IMAGES in text  # of three reports, the nearest and the farthest
    assert "There is a moderate left pleural effusion." in text and "(empty)" in text
    assert "effusion 0.90" in text and "Pleural Effusion" in text and "predicted - shuffled" in text
    assert "Dropped when read: 1 no findings, 1 no frontal view" in text
    assert "Mild edema" not in text and not [p for _, _, p, *_ in STUDIES if p in text]
    assert TEXTS in build_page(read_run(mimic_run))


def test_reports_stand_in_a_leaderboard(mimic_run):
    (board,) = make_boards([read_run(mimic_run)], "rouge_l")
    head, rows = board.table()
    assert head[3:8] == ["rouge_l", "label_macro_14", "bleu_4", "cider", "first - this"]
    assert len(rows) == 5 and board.entries[0].score >= board.entries[-1].score
    assert board.differences[-1]["difference"]["mean"] == pytest.approx(
        board.entries[0].score - board.entries[-1].score
    )
