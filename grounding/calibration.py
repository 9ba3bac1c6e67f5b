"""What makes a score a probability, and what is shown: temperature, thresholds, how far boxes may overlap.

Owns the file that says so and its use on scores. How it is fitted is `evaluate.calibrate`'s business.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path

import numpy as np
import numpy.typing as npt

from .weights_hash import WEIGHTS_KEY, check_weights, weights_sha256

FILE_NAME = "calibration.json"
"""Beside a checkpoint's weights; a grounder that finds it there uses it."""
_EDGE = 1e-6  # keeps the logit of scores 0 and 1 finite


@dataclass(frozen=True)
class Calibration:
    """Calibrated score = sigmoid(logit(score) / temperature + bias); what is shown is decided by phrase.

    A box is shown by default where its calibrated score reaches its phrase's threshold and the phrase's
    presence reaches that of presence, unless it repeats a surer box of its phrase. The map keeps the order of
    scores, so it leaves AP as it is; dropping what is repeated does not.
    Temperature scaling: Guo et al. 2017; with a bias it is Platt's scaling (1999).

    Attributes:
        temperature: > 0; above 1 draws scores towards 1/2.
        thresholds: phrase -> calibrated score from which on its boxes are shown.
        default_threshold: the same for every other phrase.
        bias: added to the logit.
        presence_threshold: presence (which is not calibrated) below which a phrase counts as absent and none
            of its boxes is shown.
        nms_iou: IoU above which a box repeats a surer one of its phrase and is dropped; 1 drops none.

    Raises:
        ValueError: a temperature that is not > 0, or a threshold or an IoU outside [0, 1].
    """

    temperature: float = 1.0
    thresholds: Mapping[str, float] = field(default_factory=dict)
    default_threshold: float = 0.5
    bias: float = 0.0
    presence_threshold: float = 0.0
    nms_iou: float = 1.0

    def __post_init__(self) -> None:
        """Check the numbers."""
        if not (self.temperature > 0 and math.isfinite(self.temperature) and math.isfinite(self.bias)):
            raise ValueError(
                f"expected a finite temperature > 0 and a finite bias, got {self.temperature} and {self.bias}"
            )
        wrong = {
            phrase: value
            for phrase, value in {
                **self.thresholds,
                "default": self.default_threshold,
                "presence": self.presence_threshold,
                "nms_iou": self.nms_iou,
            }.items()
            if not 0 <= value <= 1
        }
        if wrong:
            raise ValueError(f"thresholds must lie in [0, 1], got {wrong}")

    def apply(self, scores: npt.ArrayLike) -> npt.NDArray[np.float32]:
        """Calibrated float32 scores of raw ones, both in [0, 1], any shape."""
        clipped = np.clip(np.asarray(scores, dtype=np.float64), _EDGE, 1 - _EDGE)
        return sigmoid(logit(clipped) / self.temperature + self.bias).astype(np.float32)

    def threshold(self, phrase: str) -> float:
        """The calibrated score from which on boxes of a phrase are shown, however it is spelt."""
        return self.thresholds.get(plain(phrase), self.default_threshold)

    def save(self, path: str | Path, *, folder: str | Path | None = None) -> None:
        """Write JSON, with the hash of the weights that it holds for: those in `folder`, None = beside it."""
        path = Path(path)
        stamp = {WEIGHTS_KEY: weights_sha256(path.parent if folder is None else Path(folder))}
        path.write_text(json.dumps({**asdict(self), **stamp}, indent=2) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, path: str | Path) -> Calibration:
        """Read what `save` wrote beside the weights that it holds for.

        Raises:
            ValueError: an unknown field, a number out of range, or other weights lie beside it.
        """
        path = Path(path)
        data = json.loads(path.read_text(encoding="utf-8"))
        known = {each.name for each in fields(cls)} | {WEIGHTS_KEY}
        if not isinstance(data, dict) or not data.keys() <= known:
            raise ValueError(f"{path}: expected an object with the fields {sorted(known)}, got {data!r:.200}")
        check_weights(path, str(data.pop(WEIGHTS_KEY, "")))
        return cls(**data)


def plain(phrase: str) -> str:
    """A phrase as ``thresholds`` spells it: lower case, single spaces."""
    return " ".join(phrase.lower().split())


def logit(probability: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """log(p / (1 - p)) of probabilities strictly between 0 and 1."""
    return np.log(probability) - np.log1p(-probability)


def sigmoid(value: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """1 / (1 + exp(-x)), for any finite x without overflow."""
    small = np.exp(-np.abs(value))
    return np.where(value >= 0, 1.0, small) / (1.0 + small)
