"""Questions whose answers follow from true boxes alone: presence, count, side, which is larger, where.

Two kinds of balance, so that neither the question's words nor a set's habits give the answer away: among the
questions that ask the same of the same phrases of a set, no answer is more frequent than the second most
frequent one (what has one answer only is not asked), and "yes" is as frequent as "no". Sides are the
picture's unless the words say "the patient's", which is asked of sets with a known orientation only.
Everything follows from the boxes and the seed. `box_facts` says what is asked for.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from .box_facts import Fact, facts_of, several_in
from .boxed import BoxedImage
from .instructions import Instruction
from .wording import draw, indefinite, number_of, plural

KINDS: Final = ("presence", "count", "side", "larger", "where")
ORIENTED_SETS: Final = frozenset({"cxr_lungs", "ct_organs"})
"""Sets in which the patient's right is on the left of every picture."""


@dataclass(frozen=True)
class BoxQuestionConfig:
    """How many questions, and which.

    Attributes:
        most_boxes: The most boxes that an answer may need; no more fit into the smallest model's prompt.
        per_question: The most questions that ask the same of the same phrases of one set.
        oriented: Names of sets whose left and right are known to be the patient's.
        seed: Of choices and wordings.
    """

    most_boxes: int = 6
    per_question: int = 80
    oriented: frozenset[str] = ORIENTED_SETS
    seed: int = 0


def box_questions(
    images: Iterable[BoxedImage], config: BoxQuestionConfig | None = None
) -> tuple[Instruction, ...]:
    """Write the questions about some images; regions are the true ones of the phrases needed.

    Args:
        images: Of one split, of any number of sets.
        config: Which questions.

    Returns:
        In the order of the images; the same for the same images and seed.
    """
    config = config or BoxQuestionConfig()
    by_set: dict[str, list[BoxedImage]] = {}
    for image in images:
        by_set.setdefault(image.source, []).append(image)
    items: list[Instruction] = []
    for name, own in by_set.items():
        several = several_in(own)
        oriented = name in config.oriented
        facts = [
            fact
            for image in own
            for fact in facts_of(image, several, most_boxes=config.most_boxes, oriented=oriented)
        ]
        writer = _Writer(config.seed, several)
        items += [writer.write(fact) for fact in _balanced(facts, config, name)]
    return tuple(items)


def _balanced(facts: Sequence[Fact], config: BoxQuestionConfig, name: str) -> list[Fact]:
    """The facts of one set, where no truth is more frequent than the second most frequent of its question."""
    by_question: dict[tuple[str, ...], dict[str, list[Fact]]] = {}
    for fact in facts:
        by_question.setdefault((fact.ask, *fact.phrases), {}).setdefault(fact.truth, []).append(fact)
    kept: set[str] = set()
    for truths in by_question.values():
        sizes = sorted(map(len, truths.values()), reverse=True)
        if len(sizes) < 2:
            continue
        quota = min(sizes[1], -(-config.per_question // len(sizes)))
        for same in truths.values():
            same.sort(key=lambda fact: number_of(config.seed, name, fact.qid))
            kept |= {fact.qid for fact in same[:quota]}
    return [fact for fact in facts if fact.qid in kept]


# ---- how it is asked ---------------------------------------------------------------------------------

_KIND_OF: Final = {
    "presence": "presence",
    "count": "count",
    "half across": "side",
    "half down": "side",
    "most across": "side",
    "most down": "side",
    "patient side": "side",
    "which sides": "presence",
    "larger": "larger",
    "larger left": "larger",
    "larger upper": "larger",
    "where": "where",
}
# ask -> wordings that name the choice, and wordings to be answered by yes or no about {guess}
_CHOICES: Final[Mapping[str, tuple[str, ...]]] = {
    "count": (
        "How many {many} are there?",
        "How many {many} can be seen in the picture?",
        "What is the number of {many}?",
        "Count the {many}.",
    ),
    "half across": (
        "In which half of the picture is {the}, left or right?",
        "Is {the} in the left or right half of the picture?",
        "Does {the} lie in the left or right half of the picture?",
    ),
    "half down": (
        "In which half of the picture is {the}, upper or lower?",
        "Is {the} in the upper or lower half of the picture?",
        "Does {the} lie in the upper or lower half of the picture?",
    ),
    "most across": (
        "Are most of the {many} in the left or right half of the picture?",
        "Which half of the picture holds more of the {many}, left or right?",
    ),
    "most down": (
        "Are most of the {many} in the upper or lower half of the picture?",
        "Which half of the picture holds more of the {many}, upper or lower?",
    ),
    "patient side": (
        "Seen from the middle of the picture, is {the} on the patient's left or right?",
        "To which side of the patient is {the} from the middle of the picture, left or right?",
    ),
    "which sides": (
        "Which {pair} is visible: left, right, both or neither?",
        "On which of the patient's sides can a {pair} be seen: left, right, both or neither?",
    ),
    "larger": (
        "Which is larger in the picture, the {first} or the {second}?",
        "Which covers more of the picture, the {first} or the {second}?",
        "Which has the larger box, the {first} or the {second}?",
    ),
    "larger left": (
        "Which of the two {many} is larger, left or right?",
        "Is the left or right one of the two {many} larger?",
    ),
    "larger upper": (
        "Which of the two {many} is larger, upper or lower?",
        "Is the upper or lower one of the two {many} larger?",
    ),
    "where": (
        "Where in the picture is {the}?",
        "In which part of the picture does {the} lie?",
        "Where is {the} located in this picture?",
    ),
}
_CHECKS: Final[Mapping[str, tuple[str, ...]]] = {
    "presence": (
        "Is there {a} in this picture?",
        "Is {a} visible?",
        "Can {a} be seen?",
        "Does this picture show {a}?",
    ),
    "half across": ("Is {the} in the {guess} half of the picture?", "Does {the} lie in the {guess} half?"),
    "half down": ("Is {the} in the {guess} half of the picture?", "Does {the} lie in the {guess} half?"),
    "most across": ("Are most of the {many} in the {guess} half of the picture?",),
    "most down": ("Are most of the {many} in the {guess} half of the picture?",),
    "patient side": ("Seen from the middle of the picture, is {the} on the patient's {guess}?",),
    "larger": (
        "Is the {guess} larger than the {other}?",
        "Does the {guess} cover more of the picture than the {other}?",
    ),
    "larger left": ("Of the two {many}, is the {guess} one larger?",),
    "larger upper": ("Of the two {many}, is the {guess} one larger?",),
}
_ALTERNATIVES: Final[Mapping[str, tuple[str, str]]] = {
    "half across": ("left", "right"),
    "most across": ("left", "right"),
    "patient side": ("left", "right"),
    "larger left": ("left", "right"),
    "half down": ("upper", "lower"),
    "most down": ("upper", "lower"),
    "larger upper": ("upper", "lower"),
}


class _Writer:
    """Words the facts of one set; of questions about a guess, as many are true as false."""

    def __init__(self, seed: int, several: frozenset[str]) -> None:
        self.seed, self.several, self._surplus = seed, several, 0

    def write(self, fact: Fact) -> Instruction:
        """One fact as a question."""
        words = self._words(fact)
        if fact.ask == "presence":
            question, answer = self._draw(fact, "wording", _CHECKS["presence"]), fact.truth
        elif fact.ask in _CHECKS and self._toss(fact, "form"):
            question = self._draw(fact, "wording", _CHECKS[fact.ask])
            first, second = _ALTERNATIVES.get(fact.ask, fact.phrases)
            wrong = second if fact.truth == first else first
            answer = "no" if self._surplus > 0 else "yes"
            self._surplus += 1 if answer == "yes" else -1
            guess, other = (fact.truth, wrong) if answer == "yes" else (wrong, fact.truth)
            words |= {"guess": guess, "other": other}
        else:
            question, answer = self._draw(fact, "wording", _CHOICES[fact.ask]), fact.truth
            if fact.ask == "larger" and self._toss(fact, "order"):
                words |= {"first": words["second"], "second": words["first"]}
        return Instruction(
            qid=fact.qid,
            image_path=fact.image.image_path,
            question=question.format(**words),
            answer=answer,
            kind=_KIND_OF[fact.ask],
            source=fact.image.source,
            group=fact.image.group,
            phrases=fact.phrases,
            regions=fact.image.regions(fact.phrases),
        )

    def _words(self, fact: Fact) -> dict[str, str]:
        phrase = fact.phrases[0]
        return {
            "a": indefinite(phrase) if phrase in self.several else f"the {phrase}",
            "the": f"the {phrase}",
            "many": plural(phrase),
            "pair": phrase.removeprefix("right "),
            "first": phrase,
            "second": fact.phrases[-1],
        }

    def _draw(self, fact: Fact, what: str, options: Sequence[str]) -> str:
        return draw(options, self.seed, fact.qid, what)

    def _toss(self, fact: Fact, what: str) -> bool:
        return bool(number_of(self.seed, fact.qid, what, parts=2))
