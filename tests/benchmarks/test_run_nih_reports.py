"""Label F1 by hand, the linear classifier on what it can separate, and the tables."""

import numpy as np
import pytest

from benchmarks.run_nih_reports import classify, grounded_share, label_f1, label_matrix, to_markdown
from llm.data.nih_cxr import LABELS


def test_f1_counts_decisions_and_averages_frequent_labels_only():
    true = label_matrix([("Mass",)] * 10 + [("Edema",)] * 2 + [()] * 4)
    said = label_matrix([("Mass",)] * 5 + [()] * 5 + [("Edema",)] * 2 + [("Mass",)] * 4)
    found = label_f1(said, true, [str(k) for k in range(16)], seed=0)
    assert found["micro"].estimate == pytest.approx(2 * 7 / (11 + 12))
    assert found["macro"].estimate == pytest.approx(2 * 5 / (9 + 10))  # oedema has two images only


def test_the_classifier_finds_what_a_feature_tells():
    rng = np.random.default_rng(0)
    truth = rng.random((240, len(LABELS))) < 0.3
    features = np.concatenate((truth + rng.normal(0, 0.1, truth.shape), rng.normal(size=(240, 20))), axis=1)
    groups = [str(k // 2) for k in range(200)]
    stated = classify(features[:200], truth[:200], groups, features[200:], seed=0)
    assert (stated == truth[200:]).mean() > 0.95


def test_a_label_that_is_never_positive_is_never_stated():
    rng = np.random.default_rng(0)
    truth = np.zeros((60, len(LABELS)), dtype=bool)
    truth[:30, 0] = True
    features = truth[:, :1] + rng.normal(0, 0.1, (60, 3))
    stated = classify(features, truth, [str(k) for k in range(60)], features, seed=0)
    assert not stated[:, 1:].any()


def test_shares_and_tables():
    rows = [{"grounded": 2, "sentences": 4}, {"grounded": 1, "sentences": 1}, {"grounded": 0, "sentences": 0}]
    assert grounded_share(rows) == pytest.approx(0.6)
    interval = {"mean": 0.5, "low": 0.25, "high": 0.75}
    kinds = {"micro": interval, "macro": interval}
    text = to_markdown(
        {
            "images": 3,
            "positives": {"Mass": 12, "Edema": 2},
            "conditions": {"predicted": kinds, "linear classifier": kinds},
            "differences": {"predicted - linear classifier": kinds},
            "grounded": {"predicted": 0.6},
        }
    )
    assert "macro over Mass." in text
    assert "| predicted | 0.500 [0.250, 0.750] | 0.500 [0.250, 0.750] | 0.60 |" in text
    assert "| linear classifier | 0.500 [0.250, 0.750] | 0.500 [0.250, 0.750] |  |" in text
