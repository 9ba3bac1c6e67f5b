"""Intervals and tests against values worked out by hand."""

import math

import numpy as np
import pytest

from benchmarks import stats
from benchmarks.stats import (
    Resampled,
    clustered_interval,
    compare_scores,
    holm,
    mcnemar,
    paired_interval,
    paired_permutation,
    pool,
    resample,
)


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


def test_permutation_of_three_clusters_by_hand():
    # Sums of differences 2, 1, 1: of 8 sign patterns only +++ and --- reach |4|, so p = 2 / 8.
    a, b = [1, 1, 1, 1, 0], [0, 0, 0, 0, 0]
    assert paired_permutation(a, b, ["x", "x", "y", "z", "z"]) == 2 / 8
    # Sums 2, 1, -1: |2| is reached where 2 keeps (or flips) its sign and the others cancel or help: ++-, +-+,
    # +++ and their negatives (2 + 1 - 1, 2 - 1 + 1, 2 + 1 + 1), so p = 6 / 8.
    assert paired_permutation([1, 1, 1, 0], [0, 0, 0, 1], ["x", "x", "y", "z"]) == 6 / 8


def test_permutation_flips_whole_clusters():
    # 20 equal gains in one cluster are one coin flip; in 20 clusters they are 20.
    a, b = [1.0] * 20, [0.0] * 20
    assert paired_permutation(a, b, ["one"] * 20) == 1
    assert paired_permutation(a, b, range(20)) == pytest.approx(1 / 5001, abs=1e-3)


def test_permutation_without_any_difference_is_one():
    assert paired_permutation([1, 0], [1, 0], ["a", "b"]) == 1
    assert paired_permutation([1, 0, 0, 1], [0, 1, 1, 0], ["a", "a", "b", "b"]) == 1  # even within each


def test_drawn_permutation_is_near_the_exact_one_and_seeded():
    rng = np.random.default_rng(0)
    a, b = rng.uniform(size=12).tolist(), rng.uniform(size=12).tolist()
    exact = paired_permutation(a, b, range(12), n_permutations=2**12)
    drawn = paired_permutation(a, b, range(12), n_permutations=2**12 - 1, seed=1)
    assert drawn == pytest.approx(exact, abs=0.03)
    assert drawn == paired_permutation(a, b, range(12), n_permutations=2**12 - 1, seed=1)
    assert exact == paired_permutation(b, a, range(12), n_permutations=2**12)


def test_permutation_agrees_with_mcnemar_where_each_question_is_a_cluster():
    a = [1] + [0] * 5 + [1] * 4
    b = [0] + [1] * 5 + [1] * 4
    assert paired_permutation(a, b, range(10)) == mcnemar([v == 1 for v in a], [v == 1 for v in b]).p


def test_holm_by_hand():
    # Sorted .01, .02, .03, .04 times 4, 3, 2, 1 = .04, .06, .06, .04, and the last is raised to .06.
    assert holm([0.04, 0.01, 0.03, 0.02]) == pytest.approx([0.06, 0.04, 0.06, 0.06])
    assert holm([0.5, 0.9]) == [1.0, 1.0]
    assert holm([0.03]) == [0.03]
    assert holm([]) == []


def test_compare_scores_tests_with_mcnemar_only_what_is_right_or_wrong():
    found = compare_scores([1, 1, 0], [0, 1, 0], ["a", "b", "c"])
    assert found.difference.mean == pytest.approx(1 / 3)
    assert found.permutation_p == 1  # the only difference may as well have the other sign
    assert found.mcnemar == mcnemar([True, True, False], [False, True, False])
    assert compare_scores([0.5], [0.25], ["a"]).mcnemar is None


def test_bad_lengths_are_told():
    with pytest.raises(ValueError, match="3 scores and 2 clusters"):
        clustered_interval([1, 2, 3], ["a", "b"])
    with pytest.raises(ValueError, match="got 0 scores"):
        clustered_interval([], [])
    with pytest.raises(ValueError, match="match them by question"):
        paired_interval([1.0], [1.0, 0.0], ["a"])
    with pytest.raises(ValueError, match="match them by question"):
        paired_permutation([1.0], [1.0, 0.0], ["a"])
    with pytest.raises(ValueError, match="got 0 pairs"):
        paired_permutation([], [], [])


def test_interval_reads_well():
    assert str(clustered_interval([0.5, 0.5], ["a", "b"])) == ".500 [.500, .500]"
    assert str(paired_interval([0.0], [0.25], ["a"])) == "-.250 [-.250, -.250]"
    assert str(clustered_interval([1.0], ["a"])) == "1.000 [1.000, 1.000]"


def weighted_mean(values):
    """A metric: the mean of one value an image."""
    return lambda weights: weights @ np.array(values) / weights.sum(axis=1)


def test_resample_draws_whole_clusters():
    # Two clusters of values 0 and 1: the mean of a resample is 0, .5 or 1, never in between.
    found = resample({"m": weighted_mean([0.0, 0.0, 1.0, 1.0])}, ["a", "a", "b", "b"], n_bootstrap=200)["m"]
    assert found.estimate == 0.5
    assert set(found.samples.tolist()) == {0.0, 0.5, 1.0}
    interval = found.interval()
    assert (interval.low, interval.high, interval.n, interval.n_clusters) == (0, 1, 4, 2)


def test_resample_agrees_with_the_interval_of_means():
    values = np.random.default_rng(0).uniform(size=60).tolist()
    clusters = [i // 3 for i in range(60)]
    found = resample({"m": weighted_mean(values)}, clusters, n_bootstrap=500, seed=3)["m"].interval()
    expected = clustered_interval(values, clusters, n_bootstrap=500, seed=3)
    assert (found.mean, found.low, found.high) == pytest.approx((expected.mean, expected.low, expected.high))


def test_differences_of_one_seed_are_paired():
    values = np.random.default_rng(0).uniform(size=30)
    ours, theirs = (
        resample({"m": weighted_mean(v)}, range(30), n_bootstrap=50)["m"] for v in (values + 0.1, values)
    )
    difference = ours.minus(theirs).interval()
    assert (difference.mean, difference.low, difference.high) == pytest.approx((0.1, 0.1, 0.1))
    with pytest.raises(ValueError, match="same images"):
        ours.minus(resample({"m": weighted_mean([1.0])}, ["a"], n_bootstrap=50)["m"])


def test_pool_is_the_mean_over_sets_that_have_a_figure():
    one = Resampled(0.2, np.array([0.1, 0.3]), 4, 2)
    two = Resampled(0.6, np.array([0.6, 0.6]), 3, 3)
    nothing = Resampled(math.nan, np.array([math.nan, math.nan]), 5, 5)
    found = pool([one, two, nothing])
    assert (found.estimate, found.samples.tolist(), found.n) == (
        pytest.approx(0.4),
        pytest.approx([0.35, 0.45]),
        7,
    )
    with pytest.raises(ValueError, match="at least one set"):
        pool([nothing])


def test_samples_without_meaning_are_left_out_of_the_interval():
    interval = Resampled(0.5, np.array([math.nan, 0.4, 0.6]), 3, 3).interval(level=0.999)
    assert (interval.low, interval.high) == pytest.approx((0.4, 0.6), abs=1e-3)


A = [1.0, 0.0, 1.0, 1.0, 0.5, 0.0, 1.0, 0.25, 0.0, 1.0, 1.0, 0.0]
B = [0.0, 0.0, 1.0, 0.5, 0.5, 1.0, 0.0, 0.25, 0.0, 1.0, 0.0, 0.0]
CLUSTERS = "aabbbcdefggh"


def test_kept_draws_give_the_figures_of_fresh_ones():
    """Figures as they were when every call drew anew: published tables must not move."""
    for _ in range(2):
        default = clustered_interval(A, CLUSTERS)
        assert (default.low, default.high) == pytest.approx((0.225, 11 / 14), abs=1e-12)
        other = clustered_interval(A, CLUSTERS, seed=3, level=0.8)
        assert (other.low, other.high) == pytest.approx((0.35, 0.71875), abs=1e-12)
        paired = paired_interval(A, B, CLUSTERS, n_bootstrap=200)
        assert (paired.low, paired.high) == pytest.approx(
            (-0.16805555555555532, 0.4546401515151515), abs=1e-12
        )
        drawn = resample({"m": lambda w: w @ A / w.sum(axis=1)}, CLUSTERS, n_bootstrap=4, seed=5)["m"]
        assert drawn.samples == pytest.approx([0.6, 0.5, 41 / 60, 23 / 28], abs=1e-12)


def test_draws_are_made_once_and_cannot_be_changed(monkeypatch):
    stats._draws.cache_clear()
    made = []
    plain = np.random.default_rng
    monkeypatch.setattr(np.random, "default_rng", lambda seed: made.append(seed) or plain(seed))
    for scores in (A, B, A):
        clustered_interval(scores, CLUSTERS, n_bootstrap=10, seed=7)
    assert made == [7]
    with pytest.raises(ValueError, match="read-only"):
        stats._draws(8, 10, 7)[0, 0] = 1


@pytest.mark.parametrize("clusters", [1, 255, 256, 70000])
def test_kept_draws_hold_any_count_of_a_cluster(clusters):
    drawn = stats._draws(clusters, 1, 0)
    assert drawn.sum(dtype=np.int64) == clusters
    assert np.iinfo(drawn.dtype).max >= clusters
