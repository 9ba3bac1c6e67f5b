"""Golden vectors of the VQA protocols, worked out by hand."""

import math
from pathlib import Path

import pytest

import benchmarks.metrics
from benchmarks.metrics.protocols import (
    answer_tokens,
    by_answer_type,
    exact_score,
    llava_med_score,
    normalize_answer,
    token_f1_score,
)
from benchmarks.metrics.vqa_exact import VqaExact
from benchmarks.metrics.vqa_llava_med import VqaLlavaMed
from benchmarks.metrics.vqa_medevalkit import VqaMedEvalKit
from benchmarks.metrics.vqa_token_f1 import VqaTokenF1
from benchmarks.metrics.vqa_vila_m3 import VqaVilaM3


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("The left lung.", "left lung"),
        ("YES", "yes"),
        ("yep", "yes"),
        ("N", "no"),
        ("not sure.", "not sure"),
        ("X-Ray", "xray"),
        ("chest x ray", "chest xray"),
        ("Plain film x-rays", "plain film xray"),
        ("one", "1"),
        ("Twelve ribs", "12 ribs"),
        ("3.4 cm", "3.4 cm"),
        ("12.", "12"),
        ("5%", "5"),
        ("patient's left", "patients left"),
        ("ring-enhancing  lesion", "ring enhancing lesion"),
        ("T2/FLAIR", "t2 flair"),
        ("a", ""),
        (" ?! ", ""),
        ("none", "none"),  # not an alias of no: it may answer "how many"
        ("no fracture", "no fracture"),  # an alias is the whole answer only
        ("６ cm", "6 cm"),  # noqa: RUF001 (a full-width digit is meant)
        ("under_score", "under score"),
    ],
)
def test_normal_form(text, normal):
    assert normalize_answer(text) == normal


def test_articles_are_words_not_letters():
    assert answer_tokens("an anterior area, the theta") == ["anterior", "area", "theta"]


@pytest.mark.parametrize(
    ("prediction", "reference", "score"),
    [
        ("Yes.", "yes", 1),
        ("yes it is", "yes", 0),
        ("the X ray", "x-ray", 1),
        ("one", "1", 1),
        ("abnormal findings", "no", 0),
        ("left", "left", 1),
        ("", "", 0),
        ("", "no", 0),
    ],
)
def test_exact(prediction, reference, score):
    assert exact_score(prediction, reference, "OPEN") == score
    assert exact_score(prediction, reference, "CLOSED") == score


@pytest.mark.parametrize(
    ("prediction", "reference", "score"),
    [
        ("right frontal lobe", "right frontal lobe", 1),
        ("right lobe", "the right frontal lobe", 0.8),  # precision 1, recall 2/3
        ("lung lung", "lung", 2 / 3),  # precision 1/2, recall 1
        ("liver", "spleen", 0),
        ("", "spleen", 0),
    ],
)
def test_token_f1(prediction, reference, score):
    assert token_f1_score(prediction, reference, "OPEN") == pytest.approx(score)


@pytest.mark.parametrize(
    ("prediction", "reference", "answer_type", "score"),
    [
        ("abnormal findings", "no", "CLOSED", 1),  # the protocol's known fault
        ("left", "left", "CLOSED", 0),  # and the other one
        ("yes, there is", "yes", "CLOSED", 1),
        ("yes", "no", "CLOSED", 0),
        ("in the right frontal lobe", "right lobe", "OPEN", 1),
        ("right", "right frontal lobe", "OPEN", 1 / 3),
        ("right right", "right lobe", "OPEN", 2 / 3),  # the script counts the prediction's repetitions
        ("", "lobe", "OPEN", 0),
    ],
)
def test_llava_med(prediction, reference, answer_type, score):
    assert llava_med_score(prediction, reference, answer_type) == pytest.approx(score)


CASE = {
    "predictions": ["yes", "Yes", "left lung", "right"],
    "references": ["no", "yes", "the left lung", "right lung"],
    "answer_types": ["CLOSED", "CLOSED", "OPEN", "OPEN"],
}


@pytest.mark.parametrize(
    ("metric", "expected"),
    [
        (VqaExact, {"open": 0.5, "closed": 0.5, "overall": 0.5}),
        (VqaTokenF1, {"open": (1 + 2 / 3) / 2, "closed": 0.5, "overall": (1 + 1 + 2 / 3) / 4}),
        (VqaLlavaMed, {"open": 0.75, "closed": 0.5, "overall": 0.625}),
        (VqaMedEvalKit, {"open": 0, "closed": 0.5, "overall": 0.25}),  # "the" makes the open answer wrong
        (VqaVilaM3, {"closed": 0.5, "overall": 0.5}),  # "Yes" is "yes"; open answers are not judged
    ],
)
def test_metric_objects_aggregate(metric, expected):
    result = metric(keep_in_memory=True).compute(**CASE)
    assert {name: result[name] for name in expected} == pytest.approx(expected)


def test_vila_m3_judges_no_open_answer():
    assert math.isnan(VqaVilaM3(keep_in_memory=True).compute(**CASE)["open"])


def test_llava_med_as_its_script_counts_drops_the_wrong_yes():
    """Of the two closed answers "yes" for "no" is left out, so that one of one is right."""
    assert VqaLlavaMed(keep_in_memory=True).compute(**CASE)["closed_as_script"] == 1


def test_medevalkit_gives_its_text_scores_of_open_answers():
    """ "left lung" for "the left lung": 2 of 2 words right, of 3; "right" for "right lung": 1 of 1, of 2."""
    result = VqaMedEvalKit(keep_in_memory=True).compute(**CASE)
    assert result["open_precision"] == 1
    assert result["open_recall"] == pytest.approx((2 / 3 + 1 / 2) / 2)
    assert result["open_f1"] == pytest.approx((4 / 5 + 2 / 3) / 2)
    assert result["open_bleu1"] == pytest.approx((math.exp(1 - 3 / 2) + math.exp(1 - 2 / 1)) / 2)
    assert result["open_rougel"] == pytest.approx((4 / 5 + 2 / 3) / 2, abs=1e-6)


@pytest.mark.parametrize(
    "name", ["vqa_exact", "vqa_token_f1", "vqa_llava_med", "vqa_medevalkit", "vqa_vila_m3"]
)
def test_metric_files_load_by_path_offline(name, tmp_path, monkeypatch):
    evaluate = pytest.importorskip("evaluate")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    path = Path(benchmarks.metrics.__file__).parent / f"{name}.py"
    metric = evaluate.load(str(path), cache_dir=str(tmp_path), keep_in_memory=True)
    assert metric.compute(**CASE)["closed"] == 0.5


def test_an_absent_kind_is_nan_and_an_unknown_one_is_refused():
    result = by_answer_type(exact_score, ["yes"], ["yes"], ["CLOSED"])
    assert math.isnan(result["open"])
    assert (result["closed"], result["overall"]) == (1, 1)
    with pytest.raises(ValueError, match="OPEN or CLOSED"):
        by_answer_type(exact_score, ["yes"], ["yes"], ["closed"])
