"""The reader of boxes: each fact by hand, and guesses that count for places only."""

import numpy as np
import pytest

from benchmarks.box_reader import accuracy, read
from benchmarks.tasks.box_questions import BoxQuestions
from grounding.types import Regions

PHRASES = ("liver", "spleen")


def regions(*boxes, index=None, doubted=()):
    index = [0] * len(boxes) if index is None else index
    return Regions(np.array(boxes), [0.9] * len(boxes), index, PHRASES, (100, 100), doubted=doubted)


SMALL, LARGE = (70, 10, 80, 20), (10, 60, 40, 90)


@pytest.mark.parametrize(
    ("ask", "expected"),
    [
        ("presence", "yes"),
        ("count", "2"),
        ("which sides", "liver"),
        ("larger left", "first"),
        ("larger upper", "second"),
        ("most across", "right"),
        ("where", "upper right"),
        ("half down", "upper"),
    ],
)
def test_what_two_boxes_say(ask, expected):
    assert read(ask, PHRASES, regions(SMALL, LARGE)) == expected


def test_of_two_structures_the_larger_and_nothing_where_one_is_missing():
    assert read("larger", PHRASES, regions(SMALL, LARGE, index=[0, 1])) == "spleen"
    assert read("larger", PHRASES, regions(SMALL)) is None
    assert read("larger left", PHRASES, regions(SMALL)) is None


def test_a_guess_says_where_and_not_that():
    guessed = regions(SMALL, doubted=[True])
    assert read("presence", PHRASES, guessed) == "no"
    assert read("count", PHRASES, guessed) == "0"
    assert read("where", PHRASES, guessed) == "upper right"


def test_true_boxes_answer_every_real_question(data_dir):
    items = BoxQuestions(data_dir).instructions
    true = {item.qid: item.regions for item in items}
    assert set(accuracy(items, true).values()) == {1.0}
    nothing = {item.qid: item.regions[[]] for item in items}
    assert accuracy(items, nothing)["all"] < 0.6
