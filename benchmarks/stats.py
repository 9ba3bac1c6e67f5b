"""Uncertainty of benchmark figures: what belongs together is drawn together.

Questions about one image, images of one patient are not independent, so whole clusters are resampled, and
whole clusters change sign. One bootstrap for all figures: a mean of scores is a metric like any other. Numpy
only, seeded. Sources: clustered (block) bootstrap with percentile intervals, Davison & Hinkley 1997, ch. 3.8
and 5.3; paired permutation (sign-flip) test, Fisher 1935; exact McNemar test, McNemar 1947; Holm 1979.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Metric = Callable[[Floats], Floats]
"""Times that each image counts (B, I) -> the metric (B,); see `grounding.evaluate.resampling`."""

N_BOOTSTRAP = 5000
"""Resamples, or sign patterns, behind the figures of single scores."""
_TIE = 1e-9


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
    if not len(scores) or len(scores) != len(clusters):
        raise ValueError(
            f"expected one cluster a score and at least one, got {len(scores)} scores and "
            f"{len(clusters)} clusters"
        )
    index = _cluster_index(clusters)
    sums, counts = np.bincount(index, weights=scores), np.bincount(index)
    found = resample(  # the sums of a cluster stand for its observations: many observations cost nothing
        {"mean": lambda drawn: (drawn @ sums) / (drawn @ counts)},
        range(len(sums)),
        n_bootstrap=n_bootstrap,
        seed=seed,
    )["mean"]
    return replace(found, n=len(scores)).interval(level=level)


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
    difference = _differences(scores_a, scores_b)
    return clustered_interval(difference.tolist(), clusters, level=level, n_bootstrap=n_bootstrap, seed=seed)


def paired_permutation(
    scores_a: Sequence[float],
    scores_b: Sequence[float],
    clusters: Sequence[Hashable],
    *,
    n_permutations: int = N_BOOTSTRAP,
    seed: int = 0,
) -> float:
    """Two-sided p of the mean difference, if each cluster's two systems may as well be exchanged.

    The differences of a cluster change sign together. Where all sign patterns are at most `n_permutations`
    the p-value is exact; else signs are drawn, the observed pattern counts as one more draw (Phipson & Smyth
    2010), and p is at least 1 / (n_permutations + 1).

    Raises:
        ValueError: lengths differ, or no scores.
    """
    difference = _differences(scores_a, scores_b)
    if not len(difference) or len(difference) != len(clusters):
        raise ValueError(
            f"expected one cluster a pair and at least one pair, got {len(difference)} pairs and "
            f"{len(clusters)} clusters"
        )
    sums = np.bincount(_cluster_index(clusters), weights=difference)
    sums = sums[np.abs(sums) > _TIE]  # the sign of nothing is nothing
    exact = 2 ** len(sums) <= n_permutations
    extreme = total = 0 if exact else 1
    for signs in _all_signs(len(sums)) if exact else _drawn_signs(len(sums), n_permutations, seed):
        extreme += int((np.abs(signs @ sums) >= abs(sums.sum()) - _TIE).sum())
        total += len(signs)
    return extreme / total


def mcnemar(correct_a: Sequence[bool], correct_b: Sequence[bool]) -> McNemar:
    """Exact two-sided McNemar test: discordant pairs are fair coin flips where the systems are equal.

    It treats questions as independent, unlike `paired_interval` and `paired_permutation`: read them together.

    Raises:
        ValueError: lengths differ.
    """
    only_a = sum(a and not b for a, b in zip(correct_a, correct_b, strict=True))
    only_b = sum(b and not a for a, b in zip(correct_a, correct_b, strict=True))
    n = only_a + only_b
    tail = sum(math.comb(n, k) for k in range(min(only_a, only_b) + 1))
    return McNemar(only_a, only_b, min(1.0, 2 * tail / 2**n))


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values adjusted for standing in one table (Holm 1979), in the order given.

    The k-th smallest of m is multiplied by m - k + 1, and none may fall below a smaller one's. Read each
    against 0.05: the chance of one false alarm in the whole table then stays below 0.05.
    """
    adjusted, floor = [0.0] * len(p_values), 0.0
    for rank, place in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        floor = max(floor, min(1.0, (len(p_values) - rank) * p_values[place]))
        adjusted[place] = floor
    return adjusted


@dataclass(frozen=True)
class Comparison:
    """Two systems on the same observations: `difference` is a - b; McNemar where all scores are 0 or 1."""

    difference: Interval
    permutation_p: float
    mcnemar: McNemar | None


def compare_scores(
    scores_a: Sequence[float], scores_b: Sequence[float], clusters: Sequence[Hashable], *, seed: int = 0
) -> Comparison:
    """Everything that is said of two systems' scores on the same observations.

    Raises:
        ValueError: lengths differ, or no scores.
    """
    binary = {*scores_a, *scores_b} <= {0.0, 1.0}
    return Comparison(
        paired_interval(scores_a, scores_b, clusters, seed=seed),
        paired_permutation(scores_a, scores_b, clusters, seed=seed),
        mcnemar([v == 1 for v in scores_a], [v == 1 for v in scores_b]) if binary else None,
    )


@dataclass(frozen=True, eq=False)
class Resampled:
    """A metric of the set as it is, and of B resamples of its clusters (nan where it has no meaning)."""

    estimate: float
    samples: Floats
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
    n_bootstrap: int,
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
    index = _cluster_index(clusters)
    n_clusters = int(index.max(initial=-1)) + 1
    draws = _draws(n_clusters, n_bootstrap, seed)
    samples: dict[str, list[Floats]] = {name: [np.zeros(0)] for name in metrics}
    for start in range(0, n_bootstrap, rows):
        weights = draws[start : start + rows, index].astype(np.float64)
        for name, metric in metrics.items():
            samples[name].append(metric(weights))
    whole = np.ones((1, len(index)))
    return {
        name: Resampled(float(metric(whole)[0]), np.concatenate(samples[name]), len(index), n_clusters)
        for name, metric in metrics.items()
    }


@lru_cache(maxsize=64)
def _draws(n_clusters: int, n_bootstrap: int, seed: int) -> npt.NDArray[np.integer[Any]]:
    """How often each resample holds each cluster, (n_bootstrap, n_clusters); not to be changed.

    Kept, for each metric of each cell of a table asks for the same draws.
    """
    even = np.full(n_clusters, 1 / n_clusters)
    drawn = np.random.default_rng(seed).multinomial(n_clusters, even, n_bootstrap)
    drawn = drawn.astype(np.min_scalar_type(n_clusters))  # a byte each for up to 255 clusters
    drawn.setflags(write=False)
    return drawn


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


def _cluster_index(clusters: Sequence[Hashable]) -> npt.NDArray[np.int64]:
    """The number of each observation's cluster, in the order of their first appearance."""
    index_of = {cluster: k for k, cluster in enumerate(dict.fromkeys(clusters))}
    return np.array([index_of[cluster] for cluster in clusters], dtype=np.int64)


def _differences(scores_a: Sequence[float], scores_b: Sequence[float]) -> Floats:
    if len(scores_a) != len(scores_b):
        raise ValueError(
            f"expected paired scores, got {len(scores_a)} and {len(scores_b)}; match them by question first"
        )
    return np.subtract(scores_a, scores_b, dtype=np.float64)


def _all_signs(count: int) -> Iterator[Floats]:
    """Every pattern of `count` signs, (2**count, count)."""
    bits = (np.arange(2**count)[:, None] >> np.arange(count)) & 1
    yield (2 * bits - 1).astype(np.float64)


def _drawn_signs(count: int, n: int, seed: int, rows: int = 500) -> Iterator[Floats]:
    """`n` random patterns of `count` signs, (`rows`, count) at a time, which bounds memory."""
    rng = np.random.default_rng(seed)
    for start in range(0, n, rows):
        bits = rng.integers(0, 2, (min(rows, n - start), count), dtype=np.int8)
        yield (2 * bits - 1).astype(np.float64)
