"""Intervals and tests against values worked out by hand."""

import numpy as np
import pytest

from benchmarks.stats import clustered_interval, mcnemar, paired_interval


def test_equal_scores_give_a_point():
    interval = clustered_interval([1.0, 1.0, 1.0], ["a", "a", "b"])
    assert (interval.mean, interval.low, interval.high, interval.n, interval.n_clusters) == (1, 1, 1, 3, 2)


def test_two_clusters_have_three_possible_means():
    # Clusters (1, 1, 1) and (0): drawn twice each 1/4, both once 1/2. Means 1, 0 and 3/4: the 95 % interval
    # is [0, 1], the 40 % interval (quantiles .3 and .7) is the middle value alone.
    scores, clusters = [1, 1, 1, 0], ["a", "a", "a", "b"]
    wide = clustered_interval(scores, clusters)
    assert (wide.mean, wide.low, wide.high) == (0.75, 0, 1)
    narrow = clustered_interval(scores, clusters, level=0.4)
    assert (narrow.low, narrow.high) == (0.75, 0.75)


def test_unclustered_interval_is_close_to_the_normal_one():
    rng = np.random.default_rng(1)
    scores = (rng.uniform(size=400) < 0.3).astype(float)
    interval = clustered_interval(scores.tolist(), range(400))
    half = 1.96 * np.sqrt(scores.mean() * (1 - scores.mean()) / 400)
    assert interval.low == pytest.approx(scores.mean() - half, abs=0.01)
    assert interval.high == pytest.approx(scores.mean() + half, abs=0.01)


def test_copies_within_a_cluster_do_not_narrow_the_interval():
    scores = [1.0, 0.0, 1.0, 1.0, 0.0, 0.0, 1.0, 0.0]
    once = clustered_interval(scores, range(8))
    copied = clustered_interval(np.repeat(scores, 10).tolist(), np.repeat(np.arange(8), 10).tolist())
    assert (copied.low, copied.high) == pytest.approx((once.low, once.high))
    naive = clustered_interval(np.repeat(scores, 10).tolist(), range(80))
    assert naive.high - naive.low < 0.5 * (copied.high - copied.low)


def test_seed_decides():
    scores, clusters = np.linspace(0, 1, 30).tolist(), [i // 3 for i in range(30)]
    assert clustered_interval(scores, clusters, seed=3) == clustered_interval(scores, clusters, seed=3)
    assert clustered_interval(scores, clusters, seed=3) != clustered_interval(scores, clusters, seed=4)


def test_paired_interval_of_a_constant_gain_is_a_point():
    interval = paired_interval([0.5, 0.7, 0.9], [0.3, 0.5, 0.7], ["a", "b", "c"])
    assert (interval.mean, interval.low, interval.high) == pytest.approx((0.2, 0.2, 0.2))


def test_pairing_removes_what_the_systems_share():
    a = [1.0, 0.0] * 50
    b = [*a[:-1], 1.0]  # differs in one question only
    interval = paired_interval(a, b, range(100))
    assert interval.mean == pytest.approx(-0.01)
    assert interval.high - interval.low < 0.05


def test_mcnemar_by_hand():
    # 1 against 5 discordant pairs: p = 2 * (C(6,0) + C(6,1)) / 2**6 = 14 / 64.
    a = [True] + [False] * 5 + [True] * 4
    b = [False] + [True] * 5 + [True] * 4
    result = mcnemar(a, b)
    assert (result.only_a, result.only_b) == (1, 5)
    assert result.p == pytest.approx(14 / 64)


def test_mcnemar_without_discordance_or_even_is_one():
    assert mcnemar([True, False], [True, False]).p == 1
    assert mcnemar([True, False], [False, True]).p == 1


def test_bad_lengths_are_told():
    with pytest.raises(ValueError, match="3 scores and 2 clusters"):
        clustered_interval([1, 2, 3], ["a", "b"])
    with pytest.raises(ValueError, match="got 0 scores"):
        clustered_interval([], [])
    with pytest.raises(ValueError, match="match them by question"):
        paired_interval([1.0], [1.0, 0.0], ["a"])


def test_interval_reads_well():
    assert str(clustered_interval([0.5, 0.5], ["a", "b"])) == ".500 [.500, .500]"
    assert str(paired_interval([0.0], [0.25], ["a"])) == "-.250 [-.250, -.250]"
    assert str(clustered_interval([1.0], ["a"])) == "1.000 [1.000, 1.000]"
