"""Matching, resampled average precision and FROC: by hand, against faster-coco-eval, and invariances."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from grounding.evaluate.coco import regions_to_coco, score_detections
from grounding.evaluate.detections import Detections
from grounding.evaluate.matching import AT50, AT75, Figure, match, take_greedily
from grounding.evaluate.resampling import value
from grounding.evaluate.targets import Target, TargetSet
from grounding.types import Regions


def target_set(truth, labels=("a",), groups=None):
    """truth: for each image, (label index, xyxy) pairs; images are 100 x 100."""
    targets = tuple(
        Target(
            image_id=i + 1,
            file_name=f"{i}.png",
            image_size=(100, 100),
            boxes=np.array([box for _, box in own], dtype=np.float64).reshape(-1, 4),
            labels=np.array([label for label, _ in own], dtype=np.int64),
            modality="CT",
            group=groups[i] if groups else f"image {i}",
        )
        for i, own in enumerate(truth)
    )
    ids = tuple(range(11, 11 + len(labels)))
    return TargetSet("toy", "nowhere", tuple(labels), ("organ",) * len(labels), targets, ids)


def answer(found, labels=("a",)):
    """found: (label index, score, xyxy) triples."""
    return Detections.by_best_box(
        Regions(
            boxes=np.array([box for *_, box in found], dtype=np.float32),
            scores=np.array([score for _, score, _ in found], dtype=np.float32),
            phrase_index=np.array([label for label, *_ in found], dtype=np.int64),
            asked=tuple(labels),
            image_size=(100, 100),
        )
    )


A, B, C = (10, 10, 30, 30), (50, 50, 70, 70), (80, 80, 99, 99)


def figures(targets, answers):
    m, n = match(targets, answers), len(answers)
    named = {"ap": Figure(m), "ap50": Figure(m, at=AT50), "ap75": Figure(m, at=AT75)}
    return {k: value(f, n) for k, f in (named | {"ar100": Figure(m, recall=True)}).items()}


def test_ap_with_a_false_box_in_between_by_hand():
    # hit .9, false .8, hit .7: 51 recall points at precision 1, 50 at 2/3.
    targets = target_set([[(0, A)], [(0, B)]])
    found = figures(targets, [answer([(0, 0.9, A), (0, 0.8, C)]), answer([(0, 0.7, B)])])
    assert found["ap50"] == pytest.approx((51 + 50 * 2 / 3) / 101)
    assert found["ar100"] == 1


def test_weights_count_an_image_as_often_as_drawn():
    # Image 1 drawn twice, image 2 never: two true boxes, ranked hit, hit, false, false.
    targets = target_set([[(0, A)], [(0, B)]])
    m = match(targets, [answer([(0, 0.9, A), (0, 0.8, C)]), answer([(0, 0.95, C)])])
    assert Figure(m, at=AT50)(np.array([[2.0, 0.0]]))[0] == 1
    # The other way round nothing is found; drawn zero times altogether there is no truth.
    assert Figure(m, at=AT50)(np.array([[0.0, 3.0]]))[0] == 0
    assert math.isnan(Figure(m, at=AT50)(np.array([[0.0, 0.0]]))[0])


def test_greedy_takes_each_true_box_once_best_score_first():
    iou = np.array([[0.6, 0.0], [0.9, 0.0], [0.7, 0.55]])
    hits = take_greedily(iou)
    assert hits[AT50].tolist() == [True, False, True]  # the second finds its box taken
    assert hits[AT75].tolist() == [False, True, False]
    assert take_greedily(np.zeros((2, 0))).shape == (10, 2)


def test_froc_by_hand():
    # Two images, two true boxes. Ranked: hit .9, false .8, false .7, hit .6, false .5.
    targets = target_set([[(0, A)], [(0, B)]])
    answers = [
        answer([(0, 0.9, A), (0, 0.8, C), (0, 0.5, C)]),
        answer([(0, 0.7, C), (0, 0.6, B)]),
    ]
    rates = [0.125, 0.5, 1.0, 8.0]  # allowed false boxes in all: .25, 1, 2, 16
    found = match(targets, answers).froc(np.ones((1, 2)), rates)
    assert found.tolist() == [[0.5, 0.5, 1.0, 1.0]]


def test_answers_to_other_phrases_or_images_are_refused():
    targets = target_set([[(0, A)]])
    with pytest.raises(ValueError, match="expected detections of 1 images, got 0"):
        match(targets, [])
    with pytest.raises(ValueError, match="to be asked"):
        match(targets, [answer([], labels=("b",))])


def random_case(seed, n_images=8, labels=("a", "b", "c")):
    rng = np.random.default_rng(seed)
    truth, answers = [], []
    for _ in range(n_images):
        corner = rng.uniform(0, 60, (5, 2))
        boxes = np.concatenate([corner, corner + rng.uniform(5, 35, (5, 2))], axis=1)
        kinds = rng.integers(0, len(labels), 5)
        truth.append(list(zip(kinds.tolist(), boxes, strict=True)))
        found = [
            (
                int(kind),
                float(rng.uniform()),
                np.sort((box + rng.normal(0, s, 4)).reshape(2, 2), axis=0).ravel(),
            )
            for kind, box in zip(kinds, boxes, strict=True)
            for s in (0.5, 2, 6)
        ]
        answers.append(answer(found, labels))
    return target_set(truth, labels), answers


def official(targets, answers):
    rows = [
        row
        for target, each in zip(targets.targets, answers, strict=True)
        for row in regions_to_coco(each.regions, target.image_id, targets.category_ids)
    ]
    return score_detections(targets.to_coco(), rows)


@pytest.mark.parametrize("seed", range(4))
def test_equal_to_faster_coco_eval_on_the_set_as_it_is(seed):
    targets, answers = random_case(seed)
    ours, theirs = figures(targets, answers), official(targets, answers)
    for name, figure in ours.items():
        assert figure == pytest.approx(getattr(theirs, name), abs=1e-9), name
    assert 0.05 < theirs.ap < 0.95
    m = match(targets, answers)
    for k, category in enumerate(theirs.per_category):
        assert value(Figure(m, labels=(k,)), len(answers)) == pytest.approx(category.ap, abs=1e-9)


def test_a_resample_equals_faster_coco_eval_on_the_copied_images():
    targets, answers = random_case(7)
    times = np.array([2, 0, 1, 3, 0, 1, 1, 0])
    copies = [i for i, n in enumerate(times) for _ in range(n)]
    truth = [
        list(zip(targets.targets[i].labels.tolist(), targets.targets[i].boxes, strict=True)) for i in copies
    ]
    copied = target_set(truth, targets.labels)
    theirs = official(copied, [answers[i] for i in copies])
    m = match(targets, answers)
    weights = times[None].astype(float)
    assert Figure(m)(weights)[0] == pytest.approx(theirs.ap, abs=1e-9)
    assert Figure(m, recall=True)(weights)[0] == pytest.approx(theirs.ar100, abs=1e-9)


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10_000), st.randoms(use_true_random=False))
def test_order_of_boxes_and_of_images_changes_nothing(seed, random):
    targets, answers = random_case(seed, n_images=4)
    before = figures(targets, answers)
    order = list(range(4))
    random.shuffle(order)
    shuffled = []
    for i in order:
        rows = list(range(len(answers[i].regions)))
        random.shuffle(rows)
        shuffled.append(Detections.by_best_box(answers[i].regions[rows]))
    moved = TargetSet(
        targets.name, targets.folder, targets.labels, targets.granularity,
        tuple(targets.targets[i] for i in order), targets.category_ids,
    )  # fmt: skip
    assert figures(moved, shuffled) == pytest.approx(before)


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10_000))
def test_a_second_copy_of_every_box_never_helps(seed):
    targets, answers = random_case(seed, n_images=3)
    doubled = [Detections.by_best_box(a.regions[np.repeat(np.arange(len(a.regions)), 2)]) for a in answers]
    before, after = figures(targets, answers), figures(targets, doubled)
    assert after["ap"] <= before["ap"] + 1e-9
