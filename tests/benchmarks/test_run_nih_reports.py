"""Label F1 by hand, the linear classifier on what it can separate, and the tables."""

import numpy as np
import pytest
from PIL import Image

from benchmarks.run_nih_reports import (
    as_often,
    asked_reports,
    classify,
    grounded_share,
    label_f1,
    label_matrix,
    sureness,
    to_markdown,
)
from grounding.types import Regions
from llm.data.nih_cxr import LABELS, LabelledXray
from llm.data.nih_text import labels_stated
from llm.types import Generation


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


def test_yes_and_no_share_one_scale():
    assert sureness(Generation("Yes.", 0.8)) == pytest.approx(0.8)
    assert sureness(Generation("no", 0.8)) == pytest.approx(0.2)
    assert sureness(Generation("the lung", 0.9)) == 0.5
    assert as_often(np.array([0.1, 0.7, 0.4]), 2) == 0.4
    assert as_often(np.array([0.1]), 0) == np.inf


class SeesBrightness:
    """Says that there is a mass, the surer the brighter the image; nothing else is there."""

    def generate(self, prompts, *, max_new_tokens):
        for prompt in prompts:
            bright = float(prompt.image.pixels.mean()) / 255
            text = "yes" if "mass" in prompt.text and bright > 0.5 else "no"
            yield Generation(text, max(bright, 1 - bright) if "mass" in prompt.text else 0.9)


class FindsLungs:
    def ground(self, image, phrases):
        boxes = [[0, 0, 4, 8], [4, 0, 8, 8]]
        return Regions(boxes, [0.9, 0.9], [0, 1], tuple(phrases), image.size)


def test_what_is_affirmed_surely_enough_is_reported_and_tied_to_the_lungs(tmp_path):
    def xray(number, grey, labels):
        path = tmp_path / f"{number}.png"
        Image.fromarray(np.full((8, 8), grey, np.uint8)).save(path)
        return LabelledXray(str(number), path, labels, "PA", str(number))

    # a mass begins at grey 100, where the model still says "no" but less surely
    train = [xray(k, grey, ("Mass",) if grey >= 100 else ()) for k, grey in enumerate(range(10, 250, 10))]
    val = [xray(100, 105, ("Mass",)), xray(101, 85, ())]
    rows = list(asked_reports(SeesBrightness(), FindsLungs(), train, val, seed=0))
    assert [labels_stated(row["report"]) for row in rows] == [{"Mass"}, set()]
    assert "[R1]" in rows[0]["report"]
    assert all(row["boxes"] == "asked" and row["grounded"] >= 1 for row in rows)
