"""Grounded precision and recall by hand, RadEval absent and present, and the report modules by path."""

import math
import sys
import types
from pathlib import Path

import numpy as np
import pytest

import benchmarks.metrics
from benchmarks.metrics import radeval_scores as radeval_module
from benchmarks.metrics.grounded import PlacedPhrase, grounded_scores
from benchmarks.metrics.radeval_scores import radeval_scores

LEFT, RIGHT = [0, 0, 10, 10], [20, 0, 30, 10]


def placed(phrase, *boxes):
    return PlacedPhrase(phrase, np.array(boxes, dtype=np.float64).reshape(-1, 4))


def test_grounded_scores_by_hand():
    """Links: right, wrong phrase, IoU 1/3; so 1 of 3. True boxes: effusion hit, nodule not; 1 of 2."""
    report = [
        placed("Effusion", LEFT),
        placed("mass", LEFT),
        placed("effusion", [5, 0, 15, 10]),  # overlaps half of LEFT: 50 / 150
        placed("heart"),  # points nowhere
    ]
    scores = grounded_scores([report], [[placed("effusion", LEFT), placed("nodule", RIGHT)]])
    assert scores["precision"] == pytest.approx(1 / 3)
    assert scores["recall"] == pytest.approx(1 / 2)
    assert scores["f1"] == pytest.approx(0.4)
    assert scores["grounded"] == pytest.approx(3 / 4)


def test_iou_of_exactly_one_half_is_right():
    report = [[placed("lung", [0, 0, 10, 10])]]
    assert grounded_scores(report, [[placed("lung", [0, 0, 10, 20])]])["precision"] == 1


def test_two_sentences_on_one_box_are_both_right_and_hit_it_once():
    report = [placed("lung", LEFT), placed("lung", LEFT)]
    scores = grounded_scores([report], [[placed("lung", LEFT, RIGHT)]])
    assert (scores["precision"], scores["recall"]) == (1, 0.5)


def test_boxes_of_another_report_do_not_count():
    scores = grounded_scores([[placed("lung", LEFT)], []], [[], [placed("lung", LEFT)]])
    assert (scores["precision"], scores["recall"], scores["f1"]) == (0, 0, 0)


def test_a_report_that_points_nowhere_has_no_precision_and_no_f1():
    scores = grounded_scores([[placed("lung")]], [[placed("lung", LEFT)]])
    assert math.isnan(scores["precision"])
    assert (scores["recall"], scores["f1"], scores["grounded"]) == (0, 0, 0)


def test_boxes_of_a_wrong_shape_are_refused():
    with pytest.raises(ValueError, match=r"\(N, 4\)"):
        PlacedPhrase("lung", np.zeros(4))


def test_reports_without_truth_are_refused():
    with pytest.raises(ValueError, match="1 reports, 0 truths"):
        grounded_scores([[]], [])


def test_radeval_absent_is_said_for_each_metric(monkeypatch):
    monkeypatch.setattr(radeval_module.importlib.util, "find_spec", lambda name: None)
    result = radeval_scores(["a"], ["b"])
    assert result.scores == {}
    assert set(result.unavailable) == {"f1chexbert", "radgraph", "green"}
    assert all("pip install radeval" in reason for reason in result.unavailable.values())


def test_one_metric_without_weights_does_not_take_the_others_along(monkeypatch):
    class RadEval:
        def __init__(self, metrics, show_progress):
            if metrics == ["green"]:
                raise OSError("weights are not in the cache")
            self.name = metrics[0]

        def __call__(self, refs, hyps):
            return {f"{self.name}_simple": 0.5}

    monkeypatch.setitem(sys.modules, "radeval", types.SimpleNamespace(RadEval=RadEval))
    monkeypatch.setattr(radeval_module.importlib.util, "find_spec", lambda name: object())
    result = radeval_scores(["a"], ["b"], ("radgraph", "green"))
    assert result.scores == {"radgraph_simple": 0.5}
    assert "weights are not in the cache" in result.unavailable["green"]


BOX = {"phrase": "lung", "boxes": [[0.0, 0.0, 10.0, 10.0]]}


@pytest.mark.parametrize(
    ("name", "predictions", "references", "key", "expected"),
    [
        ("report_text", ["no effusion", "clear lungs"], [["no effusion"], ["lungs"]], "bleu_1", 3 / 4),
        ("report_labels", ["No edema.", "Edema."], ["Edema.", "Edema."], "f1/Edema", 2 / 3),
        ("report_grounding", [[BOX, {"phrase": "heart", "boxes": []}]], [[BOX]], "grounded", 1 / 2),
        ("report_radeval", ["a"], ["b"], "unavailable", {}),
    ],
)
def test_report_modules_load_by_path_offline(name, predictions, references, key, expected, tmp_path):
    evaluate = pytest.importorskip("evaluate")
    path = Path(benchmarks.metrics.__file__).parent / f"{name}.py"
    metric = evaluate.load(str(path), cache_dir=str(tmp_path), keep_in_memory=True)
    options = {"metrics": ()} if name == "report_radeval" else {}
    result = metric.compute(predictions=predictions, references=references, **options)
    assert result[key] == pytest.approx(expected)
