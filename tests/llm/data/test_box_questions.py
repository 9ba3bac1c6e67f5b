"""Box-derived questions: true, certain under quantisation, balanced, repeatable; sides only where known."""

import re
from collections import Counter, defaultdict
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from grounding.data.coco import read_coco
from llm.data.box_questions import KINDS, BoxQuestionConfig, box_questions
from llm.data.boxed import BoxedImage, before, boxed_images, half, larger, ninth
from llm.data.instructions import Instruction
from llm.data.wording import indefinite, joined, plural
from llm.prompt import NANO_STYLE
from llm.spatial import LocTokens

PLACES = (
    "upper left",
    "upper",
    "upper right",
    "left",
    "centre",
    "right",
    "lower left",
    "lower",
    "lower right",
)


def image(name, *found, annotated=("polyp", "cell"), source="toy", size=(100, 200)):
    """`found`: (phrase, x1, y1, x2, y2) in percent of the picture."""
    height, width = size
    scale = np.array([width, height, width, height]) / 100
    boxes = np.array([box for _, *box in found], dtype=np.float32).reshape(-1, 4) * scale
    phrases = tuple(phrase for phrase, *_ in found)
    return BoxedImage(Path(f"{name}.png"), size, boxes.astype(np.float32), phrases, annotated, source, name)


class Reader:
    """Answers by rule from what the prompt holds: labels, quantised boxes, what was not found."""

    def __init__(self, item: Instruction) -> None:
        regions = item.regions[: NANO_STYLE.region_limit]
        tokens = LocTokens()
        self.boxes = defaultdict(list)
        for region in regions:
            box = tokens.decode(tokens.encode(region.box, regions.image_size), regions.image_size)
            height, width = regions.image_size
            self.boxes[region.phrase].append(box / [width, height, width, height])
        self.item, self.question = item, item.question

    def answer(self) -> str:
        rest = re.sub("|".join(self.item.phrases), "", self.question)
        words = [w for w in ("left", "right", "upper", "lower") if re.search(rf"\b{w}\b", rest)]
        truth = getattr(self, self.item.kind)(words)
        if self.item.kind == "presence" or self.item.answer not in ("yes", "no"):
            return truth
        if self.item.kind == "larger" and len(self.item.phrases) == 2:
            named = sorted(self.item.phrases, key=self.question.index)
            return "yes" if truth == named[0] else "no"
        return "yes" if words[-1] == truth else "no"

    def presence(self, words):
        if "neither" in self.question:
            right, left = (bool(self.boxes[phrase]) for phrase in self.item.phrases)
            return {(0, 0): "neither", (1, 0): "right", (0, 1): "left", (1, 1): "both"}[right, left]
        return "yes" if self.boxes else "no"

    def count(self, words):
        return str(len(self.boxes[self.item.phrases[0]]))

    def side(self, words):
        down = int(words[-1] in ("upper", "lower"))
        boxes = self.boxes[self.item.phrases[0]]
        second = int(sum(self.centre(box)[down] > 0.5 for box in boxes) > len(boxes) / 2)
        if "patient" in self.question:
            second = 1 - second
        return (("left", "right"), ("upper", "lower"))[down][second]

    def larger(self, words):
        if len(self.item.phrases) == 2:
            return max(self.item.phrases, key=lambda phrase: self.area(self.boxes[phrase][0]))
        first, second = self.boxes[self.item.phrases[0]]
        down = int(words[-1] in ("upper", "lower"))
        big, small = (first, second) if self.area(first) > self.area(second) else (second, first)
        second = int(self.centre(big)[down] > self.centre(small)[down])
        return (("left", "right"), ("upper", "lower"))[down][second]

    def where(self, words):
        column, row = np.minimum(self.centre(self.boxes[self.item.phrases[0]][0]) * 3, 2).astype(int)
        return PLACES[3 * row + column]

    @staticmethod
    def centre(box):
        return (box[:2] + box[2:]) / 2

    @staticmethod
    def area(box):
        return (box[2] - box[0]) * (box[3] - box[1])


# ---- facts by hand -----------------------------------------------------------------------------------


def test_halves_and_ninths_by_hand():
    assert half(np.array([0.1, 0.0, 0.3, 0.2]), 0) == "left"
    assert half(np.array([0.1, 0.7, 0.3, 0.9]), 1) == "lower"
    assert half(np.array([0.0, 0.0, 1.01, 1.0]), 0) is None  # centre .505
    assert ninth(np.array([0.0, 0.0, 0.2, 0.2])) == "upper left"
    assert ninth(np.array([0.4, 0.4, 0.6, 0.6])) == "centre"
    assert ninth(np.array([0.4, 0.8, 0.6, 0.9])) == "lower"
    assert ninth(np.array([0.8, 0.4, 0.9, 0.6])) == "right"
    assert ninth(np.array([0.3, 0.0, 0.36, 0.2])) is None  # centre .33


def test_larger_needs_a_fifth_more_and_more_than_a_bin():
    assert larger(np.array([0, 0, 0.5, 0.5]), np.array([0, 0, 0.4, 0.4])) is True
    assert larger(np.array([0, 0, 0.4, 0.4]), np.array([0, 0, 0.5, 0.5])) is False
    assert larger(np.array([0, 0, 0.5, 0.5]), np.array([0, 0, 0.5, 0.45])) is None
    assert larger(np.array([0, 0, 0.02, 0.02]), np.array([0, 0, 0.02, 0.015])) is None


def test_order_of_centres():
    left, right = np.array([0.1, 0.1, 0.2, 0.2]), np.array([0.5, 0.12, 0.6, 0.22])
    assert before(left, right, 0) is True
    assert before(right, left, 0) is False
    assert before(left, right, 1) is None


def test_words():
    assert plural("cell nucleus") == "cell nuclei"
    assert plural("left kidney") == "left kidneys"
    assert indefinite("optic disc") == "an optic disc"
    assert joined(["a", "b", "c"]) == "a, b and c"
    assert joined(["a"]) == "a"
    assert joined([]) == ""


@settings(max_examples=150, deadline=None)
@given(st.lists(st.floats(0, 1), min_size=8, max_size=8))
def test_a_certain_fact_survives_the_tokens(numbers):
    a, b = (
        np.array([min(p[0::2]), min(p[1::2]), max(p[0::2]), max(p[1::2])]) for p in (numbers[:4], numbers[4:])
    )
    tokens = LocTokens()
    seen = [tokens.decode(tokens.encode(box, (1, 1)), (1, 1)).astype(float) for box in (a, b)]
    for axis in (0, 1):
        if fact := half(a, axis):
            assert (Reader.centre(seen[0])[axis] > 0.5) == (fact in ("right", "lower"))
        if (fact := before(a, b, axis)) is not None:
            assert (Reader.centre(seen[0])[axis] < Reader.centre(seen[1])[axis]) == fact
    if fact := ninth(a):
        column, row = np.minimum(Reader.centre(seen[0]) * 3, 2).astype(int)
        assert PLACES[3 * row + column] == fact
    if (fact := larger(a, b)) is not None:
        assert (Reader.area(seen[0]) > Reader.area(seen[1])) == fact


# ---- questions ---------------------------------------------------------------------------------------


def toy_set(source="toy"):
    """40 images: 0 to 3 polyps in different halves, every other one with a cell."""
    spots = [(5, 5, 15, 20), (70, 10, 90, 45), (10, 70, 25, 75), (75, 80, 80, 85)]
    images = []
    for k, (count, first) in enumerate(product(range(5), range(8))):
        found = [("polyp", *spots[(first + j) % 4]) for j in range(min(count, 3))]
        found += [("cell", 40, 42, 55, 70)] if k % 2 else []
        images.append(image(f"{k}", *found, source=source))
    return images


def test_every_kind_is_asked_and_answers_are_balanced():
    items = box_questions(toy_set())
    assert {item.kind for item in items} == set(KINDS)
    for kind in ("presence", "side", "larger"):
        said = Counter(item.answer for item in items if item.kind == kind)
        assert abs(said["yes"] - said["no"]) <= 2, kind
    counts = Counter(item.answer for item in items if item.kind == "count" and item.phrases == ("polyp",))
    assert set(counts) == {"0", "1", "2", "3"}
    assert counts.most_common()[0][1] == counts.most_common()[1][1]


def test_what_has_one_answer_only_is_not_asked():
    items = box_questions([image(str(k), ("polyp", 5, 5, 20 + k, 30)) for k in range(5)])
    assert not [item for item in items if item.phrases == ("polyp",)]


def test_the_rule_reader_answers_every_toy_question():
    for item in box_questions(toy_set()):
        assert Reader(item).answer() == item.answer, item


def test_regions_are_the_true_boxes_of_the_phrases_needed():
    items = box_questions(toy_set())
    absent = [i for i in items if i.kind == "presence" and i.answer == "no"]
    assert absent
    assert all(i.regions.missing == i.phrases for i in absent)
    assert all(i.regions.asked == i.phrases and (i.regions.scores == 1).all() for i in items)


def test_equal_seeds_give_equal_questions_and_others_differ():
    def texts(seed):
        config = BoxQuestionConfig(seed=seed)
        return [(i.qid, i.question, i.answer) for i in box_questions(toy_set(), config)]

    assert texts(0) == texts(0)
    assert texts(0) != texts(1)
    assert len({qid for qid, *_ in texts(0)}) == len(texts(0))


def test_the_order_of_the_sets_changes_nothing():
    a, b = toy_set("a"), toy_set("b")
    first, second = box_questions([*a, *b]), box_questions([*b, *a])
    assert {(i.qid, i.question) for i in first} == {(i.qid, i.question) for i in second}


def test_a_question_is_asked_so_often_at_most():
    items = box_questions(toy_set(), BoxQuestionConfig(per_question=4))
    asked = Counter((item.qid.split("/")[3], item.phrases) for item in items)
    assert max(asked.values()) <= 4


def test_the_patients_side_is_asked_of_oriented_sets_only():
    spots = [(5, 5, 25, 30), (70, 5, 90, 30)]
    images = {
        name: [image(str(k), ("cell", *spots[k % 2]), source=name) for k in range(12)]
        for name in ("ct_organs", "brain_tumour_mri")
    }
    known = [i for i in box_questions(images["ct_organs"]) if "patient" in i.question]
    assert known
    for item in known:
        on_the_left = item.regions.boxes[0, 0] < 100  # of the picture: the patient's right
        named = "right" if on_the_left else "left"
        assert item.answer in (named, "yes", "no")
        if item.answer in ("yes", "no"):
            assert (f"patient's {named}" in item.question) == (item.answer == "yes")
    assert not [i for i in box_questions(images["brain_tumour_mri"]) if "patient" in i.question]


def test_paired_organs():
    both = ("right kidney", 10, 40, 20, 60), ("left kidney", 80, 40, 90, 60)
    images = [
        image(f"{k}-{n}", *part, annotated=("right kidney", "left kidney"), source="ct_organs")
        for n in range(3)
        for k, part in enumerate(((), both[:1], both[1:], both))
    ]
    items = [i for i in box_questions(images) if "neither" in i.question]
    assert Counter(i.answer for i in items) == dict.fromkeys(("neither", "right", "left", "both"), 3)
    assert all(i.answer_type == "CLOSED" for i in items)


def test_the_file_name_stays_out_of_the_records():
    item = box_questions(toy_set())[0]
    assert item.image_path.name not in item.qid


def test_counts_fit_the_smallest_prompt():
    assert BoxQuestionConfig().most_boxes <= NANO_STYLE.region_limit


# ---- real sets ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def real(data_dir):
    folders = sorted((data_dir / "grounding").iterdir())
    images = {s: [i for f in folders for i in boxed_images(read_coco(f, s))] for s in ("train", "val")}
    return {split: box_questions(own) for split, own in images.items()}


@pytest.mark.parametrize("split", ["train", "val"])
def test_answers_of_real_sets_follow_from_the_quantised_boxes(real, split):
    wrong = [item for item in real[split] if Reader(item).answer() != item.answer]
    assert len(real[split]) > 1000
    assert len(wrong) <= 0.01 * len(real[split]), [(i.question, i.answer) for i in wrong[:5]]


def test_words_alone_do_not_answer_real_questions(real):
    said = Counter(item.answer for item in real["val"])
    assert abs(said["yes"] - said["no"]) <= 0.02 * len(real["val"])
    by_question = defaultdict(Counter)
    for item in real["train"]:
        by_question[item.source, re.sub(r"\b(left|right|upper|lower)\b", "", item.question)][item.answer] += 1
    hits = 0
    for item in real["val"]:
        prior = by_question.get((item.source, re.sub(r"\b(left|right|upper|lower)\b", "", item.question)))
        hits += bool(prior) and prior.most_common(1)[0][0] == item.answer
    assert hits <= 0.5 * len(real["val"])


def test_splits_of_real_sets_share_no_group(real):
    assert not {i.group for i in real["train"]} & {i.group for i in real["val"]}
