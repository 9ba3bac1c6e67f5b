"""How far a model's confidence tells right answers from wrong ones, and the map that makes it a probability.

    python benchmarks/answer_confidence.py fit --run runs/val --target 0.7 --out CHECKPOINT
    python benchmarks/answer_confidence.py measure --run runs/test --calibration CHECKPOINT --out figures.json

Reads predictions.jsonl of `run_vqa.py`. Fit on a validation part, measure on a test part: the command cannot
see whether they are disjoint, so it writes down what it read. Beside a checkpoint or adapter the file is
found by itself when the model is loaded.

Sources: risk and coverage, El-Yaniv & Wiener 2010; area under the risk-coverage curve, Geifman et al. 2019;
expected calibration error with bins of equal count, Nixon et al. 2019.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from llm.confidence import CALIBRATION_FILE, Calibration, fit_calibration, load_calibration

Floats = npt.NDArray[np.float64]
BINS = 10


@dataclass(frozen=True, eq=False)
class Answered:
    """Confidence and correctness of answers: float64 (N,) each, correctness 0 or 1."""

    confidence: Floats
    correct: Floats


def read_answers(run: Path, condition: str, protocol: str | None = None) -> Answered:
    """The answers of one condition of a run that have a confidence.

    Args:
        run: Folder with predictions.jsonl.
        condition: The value of ``boxes``.
        protocol: Whose score says what is right (1 and no less); None takes the headline's, the first.

    Raises:
        ValueError: There is none.
    """
    lines = (run / "predictions.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [row for row in map(json.loads, lines) if row["boxes"] == condition]
    pairs = []
    for row in rows:
        score = row["scores"][protocol or next(iter(row["scores"]))] if row["scores"] else None
        if row["confidence"] is not None and score is not None:
            pairs.append((row["confidence"], float(score >= 1)))
    if not pairs:
        raise ValueError(
            f"{run}: no answer with a confidence among {len(rows)} rows of boxes={condition};"
            " run a model under this condition first"
        )
    confidence, correct = np.array(pairs, dtype=np.float64).T
    return Answered(confidence, correct)


def auroc(answers: Answered) -> float:
    """The probability that a right answer is surer than a wrong one, ties counting half; nan without both."""
    right = answers.confidence[answers.correct == 1]
    wrong = answers.confidence[answers.correct == 0]
    if not len(right) or not len(wrong):
        return float("nan")
    order = np.sort(wrong)
    below = np.searchsorted(order, right, side="left") + np.searchsorted(order, right, side="right")
    return float(below.mean() / 2 / len(wrong))


def risk_coverage(answers: Answered) -> tuple[Floats, Floats, Floats]:
    """Thresholds from the highest down, coverage and accuracy of what is answered at each, (K,) each.

    Answers of equal confidence are given or withheld together.
    """
    order = np.argsort(-answers.confidence, kind="stable")
    confidence, correct = answers.confidence[order], answers.correct[order]
    last = np.append(confidence[1:] != confidence[:-1], True)
    given = np.arange(1, len(order) + 1)
    return confidence[last], (given / len(order))[last], (correct.cumsum() / given)[last]


def area_under_risk(answers: Answered) -> float:
    """Mean risk over all coverages, lower is better: each step of the curve weighted by its width."""
    _, coverage, accuracy = risk_coverage(answers)
    return float((np.diff(coverage, prepend=0.0) * (1 - accuracy)).sum())


def calibration_error(answers: Answered, bins: int = BINS) -> float:
    """Mean distance of confidence and accuracy over bins of equal count, weighted by count."""
    order = np.argsort(answers.confidence, kind="stable")
    parts = np.array_split(order, min(bins, len(order)))
    gaps = [abs(answers.confidence[p].mean() - answers.correct[p].mean()) * len(p) for p in parts]
    return float(sum(gaps) / len(order))


def at_threshold(answers: Answered, threshold: float) -> dict[str, float | None]:
    """Coverage, and accuracy of the answers given; None where none is given."""
    given = answers.confidence >= threshold
    accuracy = float(answers.correct[given].mean()) if given.any() else None
    return {"threshold": threshold, "coverage": float(given.mean()), "accuracy": accuracy}


def figures(answers: Answered, calibration: Calibration | None) -> dict[str, Any]:
    """All figures of one run, raw and calibrated where there is a map."""
    shown, result = answers, {"answers": len(answers.correct), "accuracy": float(answers.correct.mean())}
    measured: dict[str, Any] = {**result, "calibrated": calibration is not None}
    measured["error_raw"] = calibration_error(answers)
    if calibration is not None:
        shown = Answered(np.array([calibration(c) for c in answers.confidence]), answers.correct)
        measured["error_calibrated"] = calibration_error(shown)
        measured["abstention"] = at_threshold(shown, calibration.abstain_below)
    thresholds, coverage, accuracy = risk_coverage(shown)
    measured |= {"auroc": auroc(shown), "area_under_risk": area_under_risk(shown)}
    measured["accuracy_at_coverage"] = {
        f"{goal:g}": float(accuracy[np.searchsorted(coverage, goal - 1e-9)])
        for goal in (0.25, 0.5, 0.75, 1.0)
    }
    measured["curve"] = {
        "threshold": thresholds.tolist(),
        "coverage": coverage.tolist(),
        "accuracy": accuracy.tolist(),
    }
    return measured


def line(measured: dict[str, Any]) -> str:
    """The figures in one line."""
    at = ", ".join(f"{a:.3f} at {c}" for c, a in measured["accuracy_at_coverage"].items())
    error = f"calibration error {measured['error_raw']:.3f} raw"
    if measured["calibrated"]:
        error += f", {measured['error_calibrated']:.3f} calibrated"
    return (
        f"{measured['answers']} answers, accuracy by coverage {at}; AUROC {measured['auroc']:.3f},"
        f" area under risk {measured['area_under_risk']:.3f}, {error}"
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("command", choices=("fit", "measure"))
    parser.add_argument("--run", type=Path, required=True, help="folder with predictions.jsonl")
    parser.add_argument("--boxes", default="predicted", help="the condition to read")
    parser.add_argument("--protocol", help="whose score says what is right; default: the headline's")
    parser.add_argument("--target", type=float, help="fit: accuracy that the answers given are to reach")
    parser.add_argument("--calibration", type=Path, help="measure: folder that has the map; default: raw")
    parser.add_argument("--plot", type=Path, help="measure: picture of the curve")
    parser.add_argument(
        "--out", type=Path, required=True, help="fit: folder of the checkpoint; measure: JSON file"
    )
    options = parser.parse_args(arguments)
    answers = read_answers(options.run, options.boxes, options.protocol)
    if options.command == "fit":
        options.out.mkdir(parents=True, exist_ok=True)
        told = f"{options.run.name}, boxes {options.boxes}, {options.protocol or 'headline protocol'}"
        fitted = fit_calibration(
            answers.confidence.tolist(), answers.correct.tolist(), target=options.target, fitted_on=told
        )
        fitted.save(options.out / CALIBRATION_FILE)
        print(line(figures(answers, fitted)))
        return
    calibration = None
    if options.calibration is not None:
        calibration = load_calibration(options.calibration)
        if calibration is None:
            parser.error(f"no {CALIBRATION_FILE} in {options.calibration}; fit one")
    measured = figures(answers, calibration)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(measured, indent=1) + "\n", encoding="utf-8")
    if options.plot:
        from benchmarks.plots import plot_coverage

        plot_coverage(measured["curve"], options.plot)
    print(line(measured))


if __name__ == "__main__":
    main()
