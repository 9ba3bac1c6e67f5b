"""Risk, coverage and calibration of answers, by hand; the command fits, saves and measures."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest

from benchmarks.answer_confidence import (
    Answered,
    area_under_risk,
    at_threshold,
    auroc,
    calibration_error,
    main,
    read_answers,
    risk_coverage,
)
from llm.confidence import load_calibration

FOUR = Answered(np.array([0.9, 0.6, 0.6, 0.2]), np.array([1.0, 1.0, 0.0, 0.0]))


def test_auroc_counts_ties_half() -> None:
    assert auroc(FOUR) == (1 + 1 + 1 + 0.5) / 4
    assert math.isnan(auroc(Answered(np.array([0.5]), np.array([1.0]))))


def test_answers_of_equal_confidence_are_given_together() -> None:
    threshold, coverage, accuracy = risk_coverage(FOUR)
    assert threshold.tolist() == [0.9, 0.6, 0.2]
    assert coverage.tolist() == [0.25, 0.75, 1.0]
    assert accuracy.tolist() == pytest.approx([1.0, 2 / 3, 0.5])
    assert area_under_risk(FOUR) == pytest.approx(0.5 / 3 + 0.25 * 0.5)
    assert at_threshold(FOUR, 0.6) == {"threshold": 0.6, "coverage": 0.75, "accuracy": pytest.approx(2 / 3)}
    assert at_threshold(FOUR, 0.95)["accuracy"] is None


def test_calibration_error_of_two_bins() -> None:
    assert calibration_error(FOUR, bins=2) == pytest.approx((abs(0.4 - 0.5) + abs(0.75 - 0.5)) / 2)


def write_run(folder: Path, count: int) -> Path:
    rng = np.random.default_rng(0)
    confidence = rng.random(count)
    rows = [
        {"boxes": "predicted", "confidence": c, "scores": {"exact": float(rng.random() < c**2), "other": 0.5}}
        for c in confidence
    ]
    rows.append({"boxes": "none", "confidence": 0.1, "scores": {"exact": 1.0}})
    rows.append({"boxes": "predicted", "confidence": None, "scores": {"exact": 0.0}})
    folder.mkdir()
    (folder / "predictions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def test_fit_then_measure(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = write_run(tmp_path / "val", 400)
    main(["fit", "--run", str(run), "--target", "0.6", "--out", str(tmp_path / "checkpoint")])
    calibration = load_calibration(tmp_path / "checkpoint")
    assert (
        calibration is not None
        and calibration.answers == 400
        and "val, boxes predicted" in calibration.fitted_on
    )
    out = tmp_path / "figures.json"
    main(["measure", "--run", str(run), "--calibration", str(tmp_path / "checkpoint"), "--out", str(out)])
    measured = json.loads(out.read_text())
    assert measured["error_calibrated"] < 0.08 < measured["error_raw"]
    assert measured["abstention"]["accuracy"] >= 0.6 and measured["abstention"]["coverage"] < 1
    assert measured["accuracy_at_coverage"]["1"] == pytest.approx(measured["accuracy"])
    assert "AUROC" in capsys.readouterr().out
    main(["measure", "--run", str(run), "--out", str(out)])
    assert not json.loads(out.read_text())["calibrated"]


def test_a_run_without_confidences_is_refused(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", 0)
    with pytest.raises(ValueError, match="no answer with a confidence among 1 rows of boxes=predicted"):
        read_answers(run, "predicted")
