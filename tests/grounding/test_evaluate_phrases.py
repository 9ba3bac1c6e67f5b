"""Phrase grounding and absent phrases, each figure computed by hand."""

import numpy as np
import pytest

from grounding.evaluate.absent import absent_metrics, box_recall, draw_foreign
from grounding.evaluate.consistency import organ_metric
from grounding.evaluate.detections import Detections, Threshold, detect
from grounding.evaluate.matching import match
from grounding.evaluate.phrases import localisation, phrase_metrics
from grounding.evaluate.resampling import Auroc, Ratio, value
from grounding.evaluate.targets import Target, TargetSet
from grounding.types import Regions

LABELS = ("a", "b")


def target(image_id, boxes, modality="CT"):
    """boxes: (label index, xyxy) pairs."""
    return Target(
        image_id, f"{image_id}.png", (100, 100),
        np.array([box for _, box in boxes], dtype=np.float64).reshape(-1, 4),
        np.array([label for label, _ in boxes], dtype=np.int64), modality, f"image {image_id}",
    )  # fmt: skip


def target_set(targets, labels=LABELS, name="toy"):
    return TargetSet(name, "nowhere", labels, ("organ",) * len(labels), tuple(targets), (1, 2)[: len(labels)])


def answer(found, labels=LABELS):
    return Detections.by_best_box(
        Regions(
            np.array([box for *_, box in found], dtype=np.float32),
            np.array([score for _, score, _ in found], dtype=np.float32),
            np.array([label for label, *_ in found], dtype=np.int64),
            labels,
            (100, 100),
        )
    )


half = Threshold(lambda _phrase: 0.5)

A, B, FAR = (0, 0, 20, 20), (40, 0, 60, 20), (70, 70, 90, 90)


def test_localisation_of_one_phrase_by_hand():
    # First box covers 12/20 of A (IoU .6), the second is B.
    boxes = np.array([(0, 0, 20, 12), B], dtype=float)
    found = localisation(boxes, np.array([A, B], dtype=float))
    assert (found["acc25"], found["acc50"], found["acc75"]) == (1, 1, 0)
    assert found["miou"] == pytest.approx(0.6)
    assert (found["recall1"], found["pointing"]) == (1, 1)
    # The hull of A and B is 60 x 20: B alone covers a third of it.
    assert (found["merged1"], found["merged10"]) == (0, 0)
    assert (
        localisation(np.array([(0, 0, 60, 20)], dtype=float), np.array([A, B], dtype=float))["merged1"] == 1
    )


def test_recall_at_k_looks_at_k_boxes():
    boxes = np.array([FAR] * 4 + [A], dtype=float)
    found = localisation(boxes, np.array([A], dtype=float))
    assert (found["recall1"], found["recall5"], found["recall10"]) == (0, 1, 1)
    assert (found["acc50"], found["pointing"], found["miou"]) == (0, 0, 0)


def test_no_box_at_all_is_zero():
    assert set(localisation(np.zeros((0, 4)), np.array([A], dtype=float)).values()) == {0.0}


def test_pointing_takes_the_centre():
    # Centre (19, 10) lies in A although the IoU is far below .5.
    found = localisation(np.array([(-22, 0, 60, 20)], dtype=float), np.array([A], dtype=float))
    assert (found["pointing"], found["acc50"]) == (1, 0)


def test_f1_is_1_and_no_target_by_hand():
    targets = target_set([target(1, [(0, A), (0, B)]), target(2, [(1, A)]), target(3, [])])
    answers = [
        answer([(0, 0.9, B), (0, 0.6, A), (0, 0.4, FAR)]),  # a: exact; b: nothing shown
        answer([(1, 0.9, A), (1, 0.7, FAR)]),  # a: nothing shown; b: one box too many
        answer([(0, 0.8, FAR), (1, 0.3, FAR)]),  # a: a false box; b: nothing shown
    ]
    metrics = phrase_metrics(targets, answers, half)
    assert value(metrics["f1_is_1"], 3) == pytest.approx(4 / 6)
    assert value(metrics["no_target"], 3) == pytest.approx(3 / 4)
    assert value(metrics["acc50"], 3) == 1
    # Image 1 twice and image 3 never: pairs a, b of image 1 (1, 1 each twice), of image 2 (1, 0).
    assert metrics["f1_is_1"](np.array([[2.0, 1.0, 0.0]]))[0] == pytest.approx(5 / 6)


def test_one_to_one_matching_is_not_greedy():
    # Either box fits the left true box, only the wide one the right: a pairing exists all the same.
    targets = target_set([target(1, [(0, (0, 0, 10, 10)), (0, (4, 0, 14, 10))])])
    metrics = phrase_metrics(targets, [answer([(0, 0.9, (2, 0, 12, 10)), (0, 0.8, (0, 0, 10, 10))])], half)
    assert metrics["f1_is_1"](np.ones((1, 1)))[0] == 1


def test_absent_phrases_by_hand():
    targets = target_set([target(1, [(0, A)]), target(2, [(0, A), (1, B)])])
    own = [
        answer([(0, 0.9, A), (1, 0.6, FAR)]),  # b is absent and shown
        answer([(0, 0.4, A), (1, 0.7, B)]),  # a is present and not shown
    ]
    foreign = [answer([(0, 0.2, FAR)], ("polyp",)), answer([(1, 0.8, A)], ("polyp", "optic disc"))]
    metrics = absent_metrics(targets, own, foreign, half)
    found = {name: value(metric, 2) for name, metric in metrics.items()}
    assert found["phrase_recall"] == pytest.approx(2 / 3)
    assert found["false_positives_annotated"] == 1
    assert found["false_positives_foreign"] == pytest.approx(1 / 3)
    assert found["auroc_annotated"] == pytest.approx(2 / 3)  # .9, .7 above .6; .4 below
    assert found["auroc_foreign"] == pytest.approx(7 / 9)  # .9: 3, .7: 2, .4: 2 of three
    assert value(box_recall(match(targets, own), targets, own, half), 2) == pytest.approx(2 / 3)


def test_a_detector_that_cannot_be_asked_has_no_foreign_figure():
    targets = target_set([target(1, [(0, A)])])
    metrics = absent_metrics(targets, [answer([])], [], half)
    assert set(metrics) == {"phrase_recall", "false_positives_annotated", "auroc_annotated"}


def test_auroc_ties_count_half_and_weights_count():
    auroc = Auroc(np.array([0.5, 0.5, 0.2]), np.array([True, False, False]), np.array([0, 1, 2]))
    assert auroc(np.ones((1, 3)))[0] == pytest.approx(0.75)
    assert auroc(np.array([[1.0, 3.0, 1.0]]))[0] == pytest.approx((3 * 0.5 + 1) / 4)
    assert np.isnan(auroc(np.array([[0.0, 1.0, 1.0]]))[0])


def test_a_ratio_without_units_is_nan():
    ratio = Ratio.of_units([1.0, 0.0], np.array([0, 0]), 2)
    assert ratio(np.array([[1.0, 1.0], [0.0, 1.0]])).tolist()[0] == 0.5
    assert np.isnan(ratio(np.array([[0.0, 1.0]]))[0])


def test_foreign_labels_are_of_modalities_that_cannot_show_them():
    ct = target_set([target(1, [], "CT"), target(2, [], None)], ("liver",), "ct")
    others = [
        target_set([target(1, [], "ES")], ("polyp",), "polyps"),
        target_set([target(1, [], "DX")], ("left lung",), "chest"),  # CT shows lungs too
        target_set([target(1, [], "CT")], ("spleen",), "more ct"),
        target_set([target(1, [], None)], ("something",), "unknown"),
    ]
    assert draw_foreign(ct, others) == [("polyp",), ()]
    many = [target_set([target(1, [], "OP")], (f"x{k}",), str(k)) for k in range(9)]
    first, again = draw_foreign(ct, many), draw_foreign(ct, many)
    assert first == again
    assert len(set(first[0])) == 4


def test_presence_and_claims():
    found = answer([(0, 0.5, A), (0, 0.2, B)])
    assert found.presence.tolist() == [0.5, 0.0]
    assert found.claimed(half).tolist() == [True, False]
    assert found.claimed(Threshold(lambda phrase: 0.0)).tolist() == [True, False]  # no box, no claim
    assert found.shown(half).tolist() == [True, False]
    assert found.shown(Threshold(lambda phrase: 0.0, presence=0.6)).tolist() == [False, False]
    again = Detections.from_dict(found.to_dict())
    assert np.array_equal(again.regions.boxes, found.regions.boxes)
    with pytest.raises(ValueError, match="one presence a phrase"):
        Detections(found.regions, np.zeros(3, dtype=np.float32))


def test_what_presence_denies_is_not_shown_anywhere():
    targets = target_set([target(1, [(0, A)]), target(2, [])])
    boxes = [answer([(0, 0.9, A), (1, 0.8, FAR)]), answer([(0, 0.9, A)])]
    own = [
        Detections(each.regions, np.array(presence, dtype=np.float32))
        for each, presence in zip(boxes, ([0.7, 0.2], [0.2, 0.1]), strict=True)
    ]
    strict = Threshold(lambda phrase: 0.5, presence=0.5)
    for threshold, false_positives, none in ((half, 2 / 3, 1 / 3), (strict, 0, 1)):
        metrics = absent_metrics(targets, own, [], threshold) | phrase_metrics(targets, own, threshold)
        found = {name: value(metric, 2) for name, metric in metrics.items()}
        assert found["false_positives_annotated"] == pytest.approx(false_positives)
        assert found["no_target"] == pytest.approx(none)
        assert (found["phrase_recall"], found["auroc_annotated"]) == (1, 1)
        assert value(box_recall(match(targets, own), targets, own, threshold), 2) == 1
    hidden = Threshold(lambda phrase: 0.5, presence=0.8)
    assert value(box_recall(match(targets, own), targets, own, hidden), 2) == 0


def test_a_grounders_answers_carry_its_own_presence():
    class Asked:
        def __init__(self, phrases):
            self.phrases = phrases

        def ground(self, phrases, *, box_threshold=None, nms_iou=None):
            assert box_threshold == 0.0
            return Regions([A], [0.3], [0], tuple(phrases), (100, 100))

        def presence(self, phrases):
            return np.full(len(phrases), 0.9, dtype=np.float32)

    class Grounder:
        def ask_batch(self, images, phrases_per_image):
            return (Asked(phrases) for phrases in phrases_per_image)

    first, second = detect(Grounder(), [None, None], [("a", "b"), ("c",)])
    assert (first.regions.asked, first.presence.tolist()) == (("a", "b"), pytest.approx([0.9, 0.9]))
    assert second.regions.scores.tolist() == pytest.approx([0.3])


def test_share_of_lesions_in_their_organ_by_hand():
    labels = ("left lung", "lung nodule or mass")
    inside, outside = (5, 5, 9, 9), (70, 70, 80, 80)
    answers = [
        answer([(0, 0.9, A), (1, 0.8, inside), (1, 0.8, outside), (1, 0.2, outside)], labels),  # one in two
        answer([(1, 0.9, inside)], labels),  # no organ was found
    ]
    metric = organ_metric(answers, half)
    assert value(metric, 2) == 0.5
    assert np.isnan(metric(np.array([[0.0, 1.0]]))[0])
