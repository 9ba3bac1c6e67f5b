"""Calibration: error by hand, the fit undoes a known distortion, thresholds by hand, the file."""

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from grounding.calibration import Calibration
from grounding.evaluate.calibrate import (
    CalibrationError,
    best_threshold,
    bin_of,
    calibrate,
    calibrated,
    fit_calibration,
    mean_ap50,
    presence_threshold,
    reliability,
    summary,
)
from grounding.evaluate.detections import Detections, answer_of
from grounding.evaluate.targets import Target, TargetSet, held_out, read_targets
from grounding.types import Regions


def test_calibration_error_by_hand():
    # Bin 0: scores .2, .4, one right -> |.6 - 1| = .4 in sum; bin 1: .9, right -> .1. Mean over 3 boxes.
    scores, right = np.array([0.2, 0.4, 0.9]), np.array([1.0, 0.0, 1.0])
    error = CalibrationError(np.array([0, 0, 1]), scores - right, np.array([0, 1, 1]))
    assert error(np.ones((1, 2)))[0] == pytest.approx(0.5 / 3)
    # Image 1 never drawn: the first box alone.
    assert error(np.array([[1.0, 0.0]]))[0] == pytest.approx(0.8)


def test_bins():
    scores = np.array([0.0, 0.05, 0.5, 1.0])
    assert bin_of(scores, equal_mass=False, n_bins=10).tolist() == [0, 0, 5, 9]
    assert bin_of(scores, equal_mass=True, n_bins=2).tolist() == [0, 0, 1, 1]
    assert len(set(bin_of(np.full(7, 0.3), equal_mass=True).tolist())) == 1


def test_reliability_means_by_bin():
    bins = reliability(np.array([0.01, 0.03, 0.99]), [1, 0, 1], equal_mass=False)
    assert bins.score.tolist() == pytest.approx([0.02, 0.99])
    assert (bins.right.tolist(), bins.count.tolist()) == ([0.5, 1.0], [2, 1])


def test_best_threshold_by_hand():
    # F1 of the first n boxes with 2 true: 2/3, 2/4 -> after the third 4/5, then 4/6.
    scores, right = np.array([0.9, 0.8, 0.6, 0.2]), np.array([1.0, 0.0, 1.0, 0.0])
    assert best_threshold(scores, right, 2) == pytest.approx(0.4)  # halfway from .6 to .2
    assert best_threshold(scores, np.zeros(4), 2) == 1
    assert best_threshold(np.zeros(0), np.zeros(0), 2) == 1
    # Equal scores are shown together: the right box cannot be had without the false one.
    assert best_threshold(np.array([0.5, 0.5]), np.array([1.0, 0.0]), 1) == pytest.approx(0.25)


def distorted_set(temperature, n=3000):
    """One box an image; right with probability p, but the score says sigmoid(logit(p) * temperature)."""
    rng = np.random.default_rng(0)
    p = rng.uniform(0.02, 0.98, n)
    score = 1 / (1 + np.exp(-np.log(p / (1 - p)) * temperature))
    targets, answers = [], []
    for i in range(n):
        right = rng.uniform() < p[i]
        box = (10, 10, 30, 30) if right else (60, 60, 80, 80)
        targets.append(
            Target(
                i, f"{i}.png", (100, 100), np.array([[10.0, 10, 30, 30]]), np.array([0]), "CT", f"g{i % 50}"
            )
        )
        answers.append(
            Detections.by_best_box(
                Regions(np.array([box]), np.array([score[i]]), np.array([0]), ("a",), (100, 100))
            )
        )
    return TargetSet("toy", "nowhere", ("a",), ("organ",), tuple(targets), (1,)), answers


def test_fit_undoes_a_known_temperature():
    targets, answers = distorted_set(2.0)
    found = fit_calibration([answers], [targets])
    assert found.temperature == pytest.approx(2.0, rel=0.1)
    assert found.bias == pytest.approx(0.0, abs=0.2)
    assert found.presence_threshold == 0  # no label is ever absent
    assert found.thresholds["a"] == pytest.approx(found.default_threshold)
    again = fit_calibration([[calibrated(a, found) for a in answers]], [targets])
    assert (again.temperature, again.bias) == pytest.approx((1.0, 0.0), abs=1e-2)
    figures = summary(found, [answers], [targets])
    assert figures["ece"] < 0.05 < figures["ece_raw"]


def absent_set(name, presences, score=0.9):
    """Images that show nothing; each has a box of its label at a score, and that presence."""
    none = np.zeros((0, 4)), np.zeros(0, dtype=np.int64)
    targets = [Target(i, f"{i}.png", (100, 100), *none, "CT", str(i)) for i in range(len(presences))]
    regions = Regions([[10, 10, 30, 30]], [score], [0], ("a",), (100, 100))
    answers = [Detections(regions, np.array([presence], dtype=np.float32)) for presence in presences]
    return TargetSet(name, "nowhere", ("a",), ("organ",), tuple(targets), (1,)), answers


def test_presence_threshold_by_hand():
    shown = Calibration(default_threshold=0.5)
    targets, answers = absent_set("x", np.arange(10) / 10)  # every label absent, every one boxed

    def threshold(most, *more):
        sets = [(targets, answers), *more]
        return presence_threshold([own for _, own in sets], [each for each, _ in sets], shown, most)

    assert threshold(0.1) == pytest.approx(0.85)  # only 0.9 may stay: halfway to what must go
    assert threshold(0.2) == pytest.approx(0.75)
    assert threshold(0.0) == pytest.approx(0.95)
    assert threshold(1.0) == 0
    # A set without false boxes halves the mean over sets; one that annotates no absent label says nothing.
    assert threshold(0.1, absent_set("y", [0.9], score=0.4)) == pytest.approx(0.75)
    assert threshold(0.1, distorted_set(1.0, n=5)) == pytest.approx(0.85)


class Twice:
    """Boxes the one thing of an image well, and again a little less surely: IoU .75 with the first.

    The second box of the first image is surer than the first of the next.
    """

    def __init__(self, score=None):
        self.score = score

    def ask_batch(self, images, phrases_per_image):
        assert all(phrases == ("a",) for phrases in phrases_per_image)
        return [Twice(0.9 - 0.3 * place) for place in range(len(images))]

    def ground(self, phrases, *, box_threshold=None, nms_iou=None):
        assert box_threshold == 0.0
        boxes, scores = [[0, 0, 40, 40], [0, 10, 40, 40]], [self.score, self.score - 0.1]
        kept = 1 if nms_iou < 0.75 else 2
        return Regions(boxes[:kept], scores[:kept], [0] * kept, ("a",), (100, 100))

    def presence(self, phrases):
        return np.ones(1, np.float32)


@pytest.fixture
def seen(tmp_path):
    """Two images of one thing and one of none."""
    (tmp_path / "images").mkdir()
    targets = []
    for index, boxes in enumerate([[[0, 0, 40, 40]], [[0, 0, 40, 40]], []]):
        Image.new("L", (100, 100)).save(tmp_path / "images" / f"{index}.png")
        truth = np.array(boxes, np.float64).reshape(-1, 4), np.zeros(len(boxes), np.int64)
        targets.append(Target(index, f"{index}.png", (100, 100), *truth, None, str(index)))
    return TargetSet("x", tmp_path, ("a",), ("organ",), tuple(targets), (1,))


def test_what_is_repeated_is_left_out_of_the_fit_and_no_more_than_it_must_be(seen):
    fit = calibrate(Twice(), [seen])
    assert fit.calibration.nms_iou == 0.7  # .5 and .6 do as well, and drop more
    assert [len(answer.regions) for answer in fit.answers[0]] == [1, 1, 1]
    assert fit.ap50[0.5] == fit.ap50[0.7] > fit.ap50[0.8] == fit.ap50[1.0]
    assert fit.calibration == replace(fit_calibration(fit.answers, [seen]), nms_iou=0.7)


def test_mean_ap50_is_of_sets_that_have_boxes(seen):
    nothing, answers = absent_set("y", np.ones(2))
    own = [answer_of(image, ("a",), 0.5) for image in Twice().ask_batch([0, 1, 2], [("a",)] * 3)]
    assert mean_ap50([own, answers], [seen, nothing]) == mean_ap50([own], [seen]) > 0.9
    assert np.isnan(mean_ap50([answers], [nothing]))


def test_rare_phrases_take_the_default_and_nothing_found_is_refused():
    targets, answers = distorted_set(1.0, n=6)
    assert fit_calibration([answers], [targets]).thresholds == {}
    nothing = [Detections.by_best_box(Regions.empty((100, 100), ("a",))) for _ in answers]
    with pytest.raises(ValueError, match="expected boxes to calibrate on"):
        fit_calibration([nothing], [targets])


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.floats(0, 1), min_size=1, max_size=20),
    st.floats(0.05, 20),
    st.floats(-5, 5),
)
def test_scores_stay_scores_in_their_order(scores, temperature, bias):
    found = Calibration(temperature=temperature, bias=bias).apply(np.sort(scores))
    assert ((found >= 0) & (found <= 1)).all()
    assert (np.diff(found) >= 0).all()


def test_it_holds_for_the_weights_beside_it_only(tmp_path):
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(b"these")
    Calibration(1.5).save(tmp_path / "calibration.json")
    assert Calibration.load(tmp_path / "calibration.json") == Calibration(1.5)
    weights.write_bytes(b"those")
    with pytest.raises(ValueError, match="fit it again"):
        Calibration.load(tmp_path / "calibration.json")
    (tmp_path / "elsewhere").mkdir()
    Calibration(1.5).save(tmp_path / "elsewhere" / "calibration.json", folder=tmp_path)
    (tmp_path / "elsewhere" / "calibration.json").rename(tmp_path / "calibration.json")
    assert Calibration.load(tmp_path / "calibration.json") == Calibration(1.5)


def test_identity_and_file(tmp_path):
    assert Calibration().apply([0.25, 0.5]) == pytest.approx([0.25, 0.5])
    calibration = Calibration(1.5, {"liver": 0.3}, 0.4, -0.1, 0.2, 0.7)
    calibration.save(tmp_path / "c.json")
    read = Calibration.load(tmp_path / "c.json")
    assert read == calibration
    assert (read.threshold(" Liver"), read.threshold("spleen")) == (0.3, 0.4)
    (tmp_path / "c.json").write_text(json.dumps({"temprature": 2}))
    with pytest.raises(ValueError, match="temperature"):
        Calibration.load(tmp_path / "c.json")
    with pytest.raises(ValueError, match="temperature > 0"):
        Calibration(0.0)
    for wrong in ({"thresholds": {"liver": 2.0}}, {"presence_threshold": -0.1}, {"nms_iou": 1.5}):
        with pytest.raises(ValueError, match=r"lie in \[0, 1\]"):
            Calibration(**wrong)


def test_held_out_keeps_groups_whole():
    targets, _ = distorted_set(1.0, n=500)
    part = held_out(targets, 0.3)
    groups = {t.group for t in part.targets}
    assert 0 < len(groups) < 50
    assert len(part.targets) == 10 * len(groups)  # every image of a chosen group
    assert held_out(targets, 1.0).targets == targets.targets


def test_targets_are_read_with_group_modality_and_granularity(tmp_path):
    folder = tmp_path / "toy"
    folder.mkdir()
    box = {"id": 1, "image_id": 7, "category_id": 3, "bbox": [1, 2, 3, 4], "iscrowd": 0}
    image = {"file_name": "a.png", "width": 50, "height": 40, "modality_code": "OP"}
    coco = {
        "images": [{"id": 7, "patient": "p", "group": "g"} | image, {"id": 8, "group": "g"} | image,
                   {"id": 9} | image],
        "categories": [{"id": 3, "name": "disc", "granularity": "organ"}],
        "annotations": [box],
    }  # fmt: skip
    (folder / "val.json").write_text(json.dumps(coco))
    targets = read_targets(folder)
    assert targets.groups == ["p", "g", "image 9"]
    assert targets.targets[0].boxes.tolist() == [[1, 2, 4, 6]]
    assert (targets.granularity, targets.targets[0].modality) == (("organ",), "OP")
    assert targets.to_coco()["annotations"][0]["bbox"] == [1, 2, 3, 4]
    assert len(read_targets(folder, limit=1).targets) == 1
    box["iscrowd"] = 1
    (folder / "val.json").write_text(json.dumps(coco))
    with pytest.raises(ValueError, match="iscrowd"):
        read_targets(folder)
