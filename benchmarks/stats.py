"""Uncertainty of benchmark figures: what belongs together is drawn together.

Questions about one image, images of one patient are not independent, so whole clusters are resampled. Numpy
only, seeded. Sources: clustered (block) bootstrap with percentile intervals, Davison & Hinkley 1997, ch. 3.8
and 5.3; exact McNemar test, McNemar 1947.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

N_BOOTSTRAP = 5000


@dataclass(frozen=True)
class Interval:
    """A mean with its percentile bootstrap interval; `n` observations in `n_clusters` clusters."""

    mean: float
    low: float
    high: float
    n: int
    n_clusters: int

    def __str__(self) -> str:
        """Such as `.530 [.480, .581]`."""
        mean, low, high = (f"{v:.3f}".replace("0.", ".", 1) for v in (self.mean, self.low, self.high))
        return f"{mean} [{low}, {high}]"


@dataclass(frozen=True)
class McNemar:
    """Discordant pairs of two systems and the exact two-sided p-value of their being even."""

    only_a: int
    only_b: int
    p: float


def clustered_interval(
    scores: Sequence[float],
    clusters: Sequence[Hashable],
    *,
    level: float = 0.95,
    n_bootstrap: int = N_BOOTSTRAP,
    seed: int = 0,
) -> Interval:
    """Mean of `scores` with a bootstrap interval that draws whole clusters with replacement.

    Args:
        scores: one value an observation.
        clusters: the cluster (image, patient) of each observation.
        level: coverage, in (0, 1).
        n_bootstrap: resamples.
        seed: of the resampling.

    Raises:
        ValueError: no scores, or lengths differ.
    """
    values = np.asarray(scores, dtype=np.float64)
    if values.size == 0 or values.size != len(clusters):
        raise ValueError(
            f"expected one cluster a score and at least one, "
            f"got {values.size} scores and {len(clusters)} clusters"
        )
    index_of = {
        c: k for k, c in enumerate(dict.fromkeys(clusters))
    }  # first seen first: independent of hashing
    index = np.array([index_of[c] for c in clusters])
    sums = np.bincount(index, weights=values, minlength=len(index_of))
    counts = np.bincount(index, minlength=len(index_of)).astype(np.float64)
    n_clusters = len(index_of)
    draws = np.random.default_rng(seed).multinomial(
        n_clusters, np.full(n_clusters, 1 / n_clusters), n_bootstrap
    )
    means = (draws @ sums) / (draws @ counts)
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(values.mean()), float(low), float(high), values.size, n_clusters)


def paired_interval(
    scores_a: Sequence[float],
    scores_b: Sequence[float],
    clusters: Sequence[Hashable],
    *,
    level: float = 0.95,
    n_bootstrap: int = N_BOOTSTRAP,
    seed: int = 0,
) -> Interval:
    """Mean of `scores_a - scores_b` on the same observations, with its clustered bootstrap interval.

    Raises:
        ValueError: lengths differ, or no scores.
    """
    if len(scores_a) != len(scores_b):
        raise ValueError(
            f"expected paired scores, got {len(scores_a)} and {len(scores_b)}; match them by question first"
        )
    difference = np.subtract(scores_a, scores_b)
    return clustered_interval(difference.tolist(), clusters, level=level, n_bootstrap=n_bootstrap, seed=seed)


def mcnemar(correct_a: Sequence[bool], correct_b: Sequence[bool]) -> McNemar:
    """Exact two-sided McNemar test: discordant pairs are fair coin flips where the systems are equal.

    It treats questions as independent, unlike `paired_interval`: read the two together.

    Raises:
        ValueError: lengths differ.
    """
    only_a = sum(a and not b for a, b in zip(correct_a, correct_b, strict=True))
    only_b = sum(b and not a for a, b in zip(correct_a, correct_b, strict=True))
    n = only_a + only_b
    tail = sum(math.comb(n, k) for k in range(min(only_a, only_b) + 1))
    return McNemar(only_a, only_b, min(1.0, 2 * tail / 2**n))


def paired_permutation(
    scores_a: Sequence[float],
    scores_b: Sequence[float],
    clusters: Sequence[Hashable],
    *,
    n_permutations: int = N_BOOTSTRAP,
    seed: int = 0,
) -> float:
    """Two-sided p of the mean difference where each cluster's two systems may as well be exchanged.

    Whole clusters change sign together. Random signs, so p is at least 1 / (n_permutations + 1). Source:
    Good 2005, permutation tests of matched pairs.

    Raises:
        ValueError: lengths differ, or no scores.
    """
    if not scores_a or not len(scores_a) == len(scores_b) == len(clusters):
        raise ValueError(
            f"expected paired scores and their clusters, got {len(scores_a)}, {len(scores_b)} and "
            f"{len(clusters)}; match them by sample first"
        )
    index_of = {c: k for k, c in enumerate(dict.fromkeys(clusters))}
    sums = np.bincount([index_of[c] for c in clusters], weights=np.subtract(scores_a, scores_b))
    signs = np.random.default_rng(seed).integers(0, 2, (n_permutations, len(sums)), dtype=np.int8) * 2 - 1
    extreme = np.abs(signs @ sums) >= abs(sums.sum()) - 1e-9
    return float((extreme.sum() + 1) / (n_permutations + 1))


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values adjusted for being looked at together (Holm 1979): each may be read against 0.05 by itself."""
    order = sorted(range(len(p_values)), key=lambda k: p_values[k])
    adjusted, floor = [0.0] * len(p_values), 0.0
    for rank, k in enumerate(order):
        floor = max(floor, min(1.0, (len(p_values) - rank) * p_values[k]))
        adjusted[k] = floor
    return adjusted


Metric = Callable[[npt.NDArray[np.float64]], npt.NDArray[np.float64]]
"""Times that each image counts (B, I) -> the metric (B,); see `grounding.evaluate.resampling`."""


@dataclass(frozen=True, eq=False)
class Resampled:
    """A metric of the set as it is, and of B resamples of its clusters (nan where it has no meaning)."""

    estimate: float
    samples: npt.NDArray[np.float64]
    n: int
    n_clusters: int

    def interval(self, *, level: float = 0.95) -> Interval:
        """The estimate with its percentile interval."""
        valid = self.samples[~np.isnan(self.samples)]
        low, high = (
            np.quantile(valid, [(1 - level) / 2, (1 + level) / 2]) if valid.size else (math.nan, math.nan)
        )
        return Interval(self.estimate, float(low), float(high), self.n, self.n_clusters)

    def minus(self, other: Resampled) -> Resampled:
        """The paired difference: both must come from the same clusters, resampled with the same seed.

        Raises:
            ValueError: they differ in images, clusters or samples.
        """
        mine, theirs = ((r.n, r.n_clusters, r.samples.size) for r in (self, other))
        if mine != theirs:
            raise ValueError(
                f"expected resamples of the same images, got (n, clusters, B) {mine} and {theirs}"
            )
        difference = self.samples - other.samples
        return Resampled(self.estimate - other.estimate, difference, self.n, self.n_clusters)


def resample(
    metrics: Mapping[str, Metric],
    clusters: Sequence[Hashable],
    *,
    n_bootstrap: int = 1000,
    seed: int = 0,
    rows: int = 50,
) -> dict[str, Resampled]:
    """Draw whole clusters with replacement and recompute each metric from how often each image was drawn.

    All metrics see the same draws, and so do those of another run with the same clusters and seed: their
    difference is paired.

    Args:
        metrics: by name.
        clusters: the cluster (patient, group) of each image.
        n_bootstrap: resamples.
        seed: of the resampling.
        rows: resamples computed at once, which bounds memory.
    """
    index_of = {c: k for k, c in enumerate(dict.fromkeys(clusters))}
    index = np.array([index_of[c] for c in clusters], dtype=np.int64)
    n_clusters = len(index_of)
    draws = np.random.default_rng(seed).multinomial(
        n_clusters, np.full(n_clusters, 1 / n_clusters), n_bootstrap
    )
    weights = draws[:, index].astype(np.float64)
    whole = np.ones((1, len(index)))
    results = {}
    for name, metric in metrics.items():
        parts = [metric(weights[start : start + rows]) for start in range(0, n_bootstrap, rows)]
        samples = np.concatenate([np.zeros(0), *parts])
        results[name] = Resampled(float(metric(whole)[0]), samples, len(index), n_clusters)
    return results


def pool(parts: Sequence[Resampled]) -> Resampled:
    """The mean over sets, each resampled on its own; a set in which the metric has no meaning is left out.

    Raises:
        ValueError: no part has an estimate.
    """
    kept = [part for part in parts if not math.isnan(part.estimate)]
    if not kept:
        raise ValueError("expected at least one set with an estimate to pool, got none")
    samples = np.mean([part.samples for part in kept], axis=0)
    estimate = float(np.mean([part.estimate for part in kept]))
    return Resampled(estimate, samples, sum(part.n for part in kept), sum(part.n_clusters for part in kept))
