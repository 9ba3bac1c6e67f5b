"""Language-only baselines on hand-made questions, and near their known figures on the real data."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks.baselines import (
    MostFrequent,
    NearestQuestion,
    NearestQuestionAndFile,
    NearestQuestionTfidf,
    NearestReport,
    QuestionTypePrior,
)
from benchmarks.metrics.protocols import exact_score
from benchmarks.tasks.base import Sample
from benchmarks.tasks.vqa_rad import VqaRad


def answers(baseline, train, asked):
    """What a baseline answers after fitting."""
    fitted = baseline(lambda: train)
    fitted.prepare()
    return [text for text, _ in fitted.answer(asked, "")]


def sample(number, question, answer, kind="CLOSED", types=("PRES",)):
    return Sample(
        sample_id=str(number),
        image_path=Path(f"{number}.jpg"),
        prompt=question,
        reference=answer,
        cluster=f"{number}.jpg",
        groups={"answer type": (kind,), "organ": ("CHEST",), "question type": types},
    )


TRAIN = [
    sample(1, "Is there a fracture of the rib?", "Yes"),
    sample(2, "Is there a fracture of the rib?", "no."),
    sample(3, "Is there a fracture in the rib?", "No"),
    sample(4, "Where is the mass?", "left lung", "OPEN", ("POS",)),
    sample(5, "Which lobe holds the mass?", "upper lobe", "OPEN", ("POS",)),
    sample(6, "Which side?", "upper lobe", "OPEN", ("POS",)),
]


def test_prior_is_the_most_frequent_answer_of_the_same_type():
    asked = [
        sample(10, "?", "", "CLOSED"),
        sample(11, "?", "", "OPEN", ("POS",)),
        sample(12, "?", "", "OPEN", ("SIZE",)),  # no such training question: the most frequent answer of all
    ]
    assert answers(QuestionTypePrior, TRAIN, asked) == ["no", "upper lobe", "no"]


@pytest.mark.parametrize("baseline", [NearestQuestion, NearestQuestionTfidf])
def test_nearest_question_answers_from_the_same_words(baseline):
    asked = [sample(10, "WHERE is a mass", ""), sample(11, "In which lobe is it?", "")]
    assert answers(baseline, TRAIN, asked) == ["left lung", "upper lobe"]


def test_equally_near_questions_vote():
    train = [*TRAIN[:2], sample(7, "is there a fracture of the rib", "no")]
    assert answers(NearestQuestion, train, [sample(10, "Is there a fracture of the rib?", "")]) == ["no"]
    assert answers(NearestQuestion, TRAIN[:2], [sample(10, "Is there a fracture of the rib?", "")]) == ["yes"]


def test_jaccard_by_hand():
    # {which, side, here}: 2 shared of 3 with question 6 beats 1 of 7 with question 5.
    assert answers(NearestQuestion, TRAIN, [sample(10, "Which side, here?", "")]) == ["upper lobe"]
    # Unknown words enlarge the union of every pair alike; nothing shared at all: the majority of all.
    assert answers(NearestQuestion, TRAIN, [sample(10, "zzz", "")]) == ["no"]


def test_tfidf_prefers_rare_words_where_jaccard_does_not():
    train = [
        sample(1, "is there any pneumothorax visible today", "rare"),
        *(sample(k, "is there any", "common") for k in range(2, 8)),
    ]
    asked = [sample(10, "is there any pneumothorax", "")]
    assert answers(NearestQuestion, train, asked) == ["common"]  # 3/4 against 4/6
    assert answers(NearestQuestionTfidf, train, asked) == ["rare"]


def accuracy(task, baseline):
    samples = task.samples()
    said = answers(baseline, task.train_samples(), samples)
    right = [exact_score(a, s.reference, "") for a, s in zip(said, samples, strict=True)]
    closed = [r for r, s in zip(right, samples, strict=True) if s.groups["answer type"] == ("CLOSED",)]
    opened = [r for r, s in zip(right, samples, strict=True) if s.groups["answer type"] == ("OPEN",)]
    return sum(closed) / len(closed), sum(opened) / len(opened), sum(right) / len(right)


def test_official_test_baselines_are_near_their_known_figures(data_dir):
    task = VqaRad(data_dir, "official-test")
    closed, opened, _ = accuracy(task, QuestionTypePrior)
    assert (closed, opened) == pytest.approx((0.496, 0.145), abs=0.02)
    closed, _, overall = accuracy(task, NearestQuestion)
    assert closed == pytest.approx(0.629, abs=0.02)
    assert overall == pytest.approx(0.503, abs=0.005)
    assert accuracy(task, NearestQuestionAndFile)[2] > overall + 0.05


def test_disjoint_test_leaves_memory_little_to_stand_on(data_dir):
    official = accuracy(VqaRad(data_dir, "official-test"), NearestQuestion)[2]
    disjoint = accuracy(VqaRad(data_dir, "disjoint-test"), NearestQuestion)[2]
    assert disjoint < official - 0.1


def test_the_most_frequent_answer_is_given_to_all():
    assert answers(MostFrequent, TRAIN, [sample(10, "?", ""), sample(11, "!", "")]) == ["no", "no"]


def test_the_file_decides_between_equal_questions_and_never_is_opened():
    train = [sample(1, "Is there a mass?", "yes"), sample(2, "Is there a mass?", "no")]
    train += [sample(3, "Is there a mass?", "no")]
    asked = [sample(1, "is there a mass", ""), sample(9, "is there a mass", "")]
    assert answers(NearestQuestion, train, asked) == ["no", "no"]
    assert answers(NearestQuestionAndFile, train, asked) == ["yes", "no"]


def test_the_nearest_report_is_of_the_image_that_looks_alike(tmp_path):
    rng = np.random.default_rng(0)
    pictures = rng.integers(0, 255, (3, 8, 8), dtype=np.uint8)
    studies = []
    for k, pixels in enumerate([*pictures, 255 - (255 - pictures[1]) // 2]):  # the last: the second, brighter
        Image.fromarray(np.kron(pixels, np.ones((8, 8), dtype=np.uint8))).save(tmp_path / f"{k}.png")
        report = f"Report {k}. Clear."
        studies.append(Sample(str(k), tmp_path / f"{k}.png", "write", report, str(k), {}))
    assert answers(NearestReport, studies[:3], studies[3:] + studies[:1]) == [
        "Report 1. Clear.",
        "Report 0. Clear.",
    ]
    assert answers(MostFrequent, [studies[0], studies[1], studies[1]], studies[:1]) == ["Report 1. Clear."]
