"""The facts of an image that questions may ask for, each with its true answer; only what boxes make certain.

Knows no wording. `boxed` decides what is certain.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

from .boxed import BoxedImage, before, half, larger, ninth


@dataclass(frozen=True)
class Fact:
    """A fact of one image that may be asked for.

    Attributes:
        image: The image.
        ask: Which fact, such as ``half across``.
        phrases: Of what; these must be looked for to know it.
        truth: The answer.
    """

    image: BoxedImage
    ask: str
    phrases: tuple[str, ...]
    truth: str

    @property
    def qid(self) -> str:
        """A name that no other fact has."""
        return f"boxes/{self.image.source}/{self.image.key}/{self.ask}/{'+'.join(self.phrases)}"


def several_in(images: Sequence[BoxedImage]) -> frozenset[str]:
    """The phrases of a set that an image can have more than one of."""
    return frozenset(
        phrase for image in images for phrase, count in Counter(image.phrases).items() if count > 1
    )


def facts_of(
    image: BoxedImage, several: frozenset[str], *, most_boxes: int, oriented: bool
) -> Iterator[Fact]:
    """Every certain fact of an image.

    Args:
        image: The image.
        several: Phrases that an image of the set can have more than one of (`several_in`); only they are
            counted.
        most_boxes: The most boxes that a fact may rest on.
        oriented: Whether left and right are known to be the patient's: the patient's right is on the left.
    """
    counts = {phrase: image.phrases.count(phrase) for phrase in image.annotated}
    single = [phrase for phrase, count in counts.items() if count == 1]
    for phrase, count in counts.items():
        yield Fact(image, "presence", (phrase,), "yes" if count else "no")
        if phrase in several and count <= most_boxes:
            yield Fact(image, "count", (phrase,), str(count))
        if 2 < count <= most_boxes:
            yield from _majorities(image, phrase)
        if count == 2:
            yield from _of_two(image, phrase)
    for phrase in single:
        yield from _places(image, phrase, oriented)
    for first, second in combinations(single, 2):
        (a,), (b,) = image.of(first), image.of(second)
        if (first_is_larger := larger(a, b)) is not None:
            yield Fact(image, "larger", (first, second), first if first_is_larger else second)
    if oriented:
        yield from _which_sides(image, counts)


def _places(image: BoxedImage, phrase: str, oriented: bool) -> Iterator[Fact]:
    """Where a phrase's only box lies."""
    (box,) = image.of(phrase)
    across, down, place = half(box, 0), half(box, 1), ninth(box)
    if across:
        yield Fact(image, "half across", (phrase,), across)
        if oriented and not phrase.startswith(("left ", "right ")):
            yield Fact(image, "patient side", (phrase,), {"left": "right", "right": "left"}[across])
    if down:
        yield Fact(image, "half down", (phrase,), down)
    if place:
        yield Fact(image, "where", (phrase,), place)


def _majorities(image: BoxedImage, phrase: str) -> Iterator[Fact]:
    """In which half most of a phrase's boxes lie."""
    for axis, ask in enumerate(("most across", "most down")):
        halves = [half(box, axis) for box in image.of(phrase)]
        ranked = Counter(halves).most_common()
        if None not in halves and (len(ranked) == 1 or ranked[0][1] > ranked[1][1]):
            yield Fact(image, ask, (phrase,), str(ranked[0][0]))


def _of_two(image: BoxedImage, phrase: str) -> Iterator[Fact]:
    """Which of a phrase's two boxes is the larger one."""
    first, second = image.of(phrase)
    first_is_larger = larger(first, second)
    for axis, words in enumerate((("left", "right"), ("upper", "lower"))):
        first_is_before = before(first, second, axis)
        if first_is_larger is not None and first_is_before is not None:
            truth = words[0] if first_is_larger == first_is_before else words[1]
            yield Fact(image, f"larger {words[0]}", (phrase,), truth)


def _which_sides(image: BoxedImage, counts: Mapping[str, int]) -> Iterator[Fact]:
    """Which of a paired organ's two sides are there."""
    for right in counts:
        left = f"left {right.removeprefix('right ')}"
        if right.startswith("right ") and left in counts:
            answers = (("neither", "left"), ("right", "both"))
            truth = answers[counts[right] > 0][counts[left] > 0]
            yield Fact(image, "which sides", (right, left), truth)
