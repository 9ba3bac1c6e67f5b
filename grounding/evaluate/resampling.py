"""Metrics as functions of how often each image is drawn, so that a bootstrap never matches a box twice.

A `Metric` takes weights (B, I), the times that each of I images counts in each of B samples, and gives (B,)
values; weights of one are the set as it is. nan marks a sample in which the metric has no meaning.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Metric = Callable[[Floats], Floats]


def value(metric: Metric, n_images: int) -> float:
    """The metric of the set as it is: every image once."""
    return float(metric(np.ones((1, n_images)))[0])


@dataclass(frozen=True, eq=False)
class Ratio:
    """A mean over units (phrases, boxes) that belong to images: sum of `numerator` / sum of `denominator`.

    Attributes:
        numerator: (I,) sum of the units' values an image.
        denominator: (I,) units an image.
    """

    numerator: Floats
    denominator: Floats

    @classmethod
    def of_units(cls, values: npt.ArrayLike, image: Ints, n_images: int) -> Ratio:
        """Gather (U,) values by the index (U,) of the image that each belongs to."""
        numbers = np.asarray(values, dtype=np.float64)
        return cls(
            np.bincount(image, weights=numbers, minlength=n_images).astype(np.float64),
            np.bincount(image, minlength=n_images).astype(np.float64),
        )

    def __call__(self, weights: Floats) -> Floats:
        """(B, I) -> (B,); nan where no unit is drawn."""
        return divide(weights @ self.numerator, weights @ self.denominator)


@dataclass(frozen=True, eq=False)
class Auroc:
    """Area under the ROC curve: how often a positive unit scores above a negative one, ties counting half.

    Equal to the Mann-Whitney statistic (Hanley & McNeil 1982).

    Attributes:
        scores: (U,).
        positive: bool (U,).
        image: (U,) index of the image that each unit belongs to.
    """

    scores: Floats
    positive: npt.NDArray[np.bool_]
    image: Ints

    def __call__(self, weights: Floats) -> Floats:
        """(B, I) -> (B,); nan where positives or negatives are lacking."""
        order = np.argsort(self.scores, kind="stable")
        ranked, positive = self.scores[order], self.positive[order]
        drawn = weights[:, self.image[order]]
        negatives = np.where(positive, 0.0, drawn)
        below = np.concatenate([np.zeros((len(weights), 1)), np.cumsum(negatives, axis=1)], axis=1)
        first, last = (np.searchsorted(ranked, ranked, side=side) for side in ("left", "right"))
        beaten = (below[:, first] + below[:, last]) / 2
        positives = np.where(positive, drawn, 0.0)
        return divide((positives * beaten).sum(axis=1), positives.sum(axis=1) * negatives.sum(axis=1))


def divide(numerator: Floats, denominator: Floats) -> Floats:
    """Divide; nan where the denominator is 0."""
    empty = np.full(np.broadcast(numerator, denominator).shape, np.nan)
    quotient: Floats = np.divide(numerator, denominator, out=empty, where=denominator > 0)
    return quotient


def mean_of_valid(values: Floats, axis: int | tuple[int, ...]) -> Floats:
    """Mean over an axis without the nan; nan where nothing else is there (and no warning)."""
    valid = ~np.isnan(values)
    return divide(np.where(valid, values, 0.0).sum(axis=axis), valid.sum(axis=axis).astype(np.float64))
