"""From the probability that a model gives its own words to the probability that its answer is right.

Owns the map, how it is fitted and its file. The map is ``sigmoid(logit(p) / temperature + offset)`` (Platt
1999): it keeps the order of the answers, so only the numbers change, not which answer is the surer one. Numpy
only; knows no model and no data set.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import yaml

from grounding.weights_hash import WEIGHTS_KEY, check_weights, weights_sha256

CALIBRATION_FILE = "answer_calibration.yaml"  # no .json: it is no part of what a checkpoint's hash covers
_EDGE = 1e-6  # logits of 0 and 1 are not finite

_Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Calibration:
    """A fitted map, and from where on an answer is worth giving.

    Attributes:
        temperature: Divides the logit, positive.
        offset: Is added to it.
        abstain_below: Calibrated confidence under which no answer is given; 0 answers always.
        fitted_on: What it was fitted on, for people.
        answers: How many answers that were.
    """

    temperature: float
    offset: float
    abstain_below: float = 0.0
    fitted_on: str = ""
    answers: int = 0

    def __post_init__(self) -> None:
        """Refuse a map that turns the order round, and a threshold that is none."""
        if not self.temperature > 0:
            raise ValueError(f"temperature must be positive, got {self.temperature}")
        if not 0 <= self.abstain_below <= 1:
            raise ValueError(f"abstain_below must lie in [0, 1], got {self.abstain_below}")

    def __call__(self, confidence: float) -> float:
        """The probability that an answer of this raw confidence is right."""
        return float(_sigmoid(_logit(np.array(confidence)) / self.temperature + self.offset))

    def save(self, path: Path) -> None:
        """Write it as YAML, with the hash of the weights that lie beside it: it holds for these only."""
        content = {**asdict(self), WEIGHTS_KEY: weights_sha256(path.parent)}
        path.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")


@dataclass(frozen=True)
class Certainty:
    """How sure a model's answers are, and from where on they are given.

    Attributes:
        calibration: The model's map; None leaves its confidence raw, which ranks and is no probability.
        asked: The least confidence to answer with, None for what the calibration chose.
    """

    calibration: Calibration | None = None
    asked: float | None = None

    @property
    def threshold(self) -> float:
        """Confidence under which no answer is given."""
        if self.asked is not None:
            return self.asked
        return 0.0 if self.calibration is None else self.calibration.abstain_below


def load_calibration(folder: Path) -> Calibration | None:
    """The map that lies in a checkpoint's folder, None where there is none.

    Raises:
        ValueError: The file is not a calibration, or one of other weights; the message names it.
    """
    path = folder / CALIBRATION_FILE
    if not path.is_file():
        return None
    try:
        content = dict(yaml.safe_load(path.read_text(encoding="utf-8")))
        stamp = content.pop(WEIGHTS_KEY, "")
        calibration = Calibration(**content)
    except (TypeError, ValueError, yaml.YAMLError) as error:
        raise ValueError(f"{path} is no calibration ({error}); fit it again or delete it") from error
    check_weights(path, stamp)
    return calibration


def fit_calibration(
    confidence: Sequence[float], correct: Sequence[float], *, target: float | None = None, fitted_on: str = ""
) -> Calibration:
    """Fit temperature and offset by maximum likelihood (Newton's method), with Platt's smoothed targets.

    Args:
        confidence: Raw, of held-out answers.
        correct: 1 for right, 0 for wrong.
        target: Accuracy that the given answers are to reach: the threshold is the lowest that reached it
            here, 1 where none did. None sets none.
        fitted_on: What the answers are of.

    Raises:
        ValueError: Fewer than 20 answers, or all of them right, or all wrong, or raw confidence does not rank
            right above wrong at all.
    """
    x, y = _logit(np.asarray(confidence, float)), np.asarray(correct, float)
    right, wrong = y.sum(), len(y) - y.sum()
    if len(x) != len(y) or len(x) < 20 or not right or not wrong:
        raise ValueError(
            f"expected at least 20 answers, some right and some wrong, got {len(x)} confidences,"
            f" {right:.0f} right and {wrong:.0f} wrong; fit on a larger held-out split"
        )
    goal = np.where(y > 0, (right + 1) / (right + 2), 1 / (wrong + 2))
    slope, offset = _newton(x, goal)
    if slope <= 0:
        raise ValueError(
            f"surer answers are not more often right here (slope {slope:.3f}): there is nothing to calibrate"
        )
    fitted = Calibration(1 / slope, offset, 0.0, fitted_on, len(x))
    if target is None:
        return fitted
    threshold = _threshold([fitted(c) for c in confidence], y, target)
    return Calibration(fitted.temperature, offset, threshold, fitted_on, len(x))


def _newton(x: _Floats, goal: _Floats) -> tuple[float, float]:
    """Slope and offset of the logistic regression of `goal` on `x`."""
    design = np.stack((x, np.ones_like(x)), axis=1)
    weights = np.zeros(2)
    for _ in range(50):
        p = _sigmoid(design @ weights)
        hessian = design.T @ (design * (p * (1 - p))[:, None]) + 1e-6 * np.eye(2)
        step = np.linalg.solve(hessian, design.T @ (goal - p))
        weights += step
        if np.abs(step).max() < 1e-8:
            break
    return float(weights[0]), float(weights[1])


def _threshold(calibrated: Sequence[float], correct: _Floats, target: float) -> float:
    """The lowest confidence from which on the answers reach the target accuracy, 1.0 where none does."""
    values = np.asarray(calibrated)
    levels = np.unique(values)
    reached = [level for level in levels if correct[values >= level].mean() >= target]
    return float(min(reached, default=1.0))


def _logit(p: _Floats) -> _Floats:
    clipped = np.clip(p, _EDGE, 1 - _EDGE)
    return np.asarray(np.log(clipped) - np.log1p(-clipped))


def _sigmoid(x: _Floats) -> _Floats:
    return np.asarray(1 / (1 + np.exp(-x)))
