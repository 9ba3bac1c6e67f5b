"""What can be said of a phantom: questions with answers, and a report, from its regions alone.

Everything is computed from the true masks, so text and picture cannot disagree. Sides are the patient's in
CR, CT and MR, else the picture's, and are said to be.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

import numpy as np

from ...types import Regions
from .facts import ORIENTED, PhantomFacts
from .labels import PHANTOM_LABELS, PhantomLabel

PICTURES: Final[dict[str, str]] = {
    "CR": "chest X-ray",
    "CT": "abdominal CT",
    "MR": "brain MRI",
    "US": "fetal ultrasound",
    "ES": "colonoscopy",
    "DMS": "dermoscopy image",
    "OP": "fundus photograph",
    "SM": "blood smear",
}
"""What a picture of each modality is called."""

ENLARGED_HEART: Final = 0.5
"""A heart wider than this share of the chest (cardiothoracic ratio on a frontal X-ray) is enlarged."""

WIDE_CUP: Final = 0.6
"""A cup higher than this share of the optic disc (vertical cup-to-disc ratio) is wide."""

_PAIRS: Final = ("lung", "kidney", "lateral ventricle")
_CLEAR: Final = 1.15  # sizes closer than this ratio are not compared
_MASS_NOUNS: Final = frozenset({"peritumoural oedema"})
_SAID: Final = {"retinal vessel": "retinal vasculature"}  # where the name says one and the region shows all


@dataclass(frozen=True)
class PhantomQA:
    """A question with its known answer.

    Attributes:
        question: the question.
        answer: a word or a few: yes, no, a number, right, left, a place, a structure.
        phrases: phrases of the regions that support the answer; empty where nothing in the picture does.
        kind: modality, presence, count, side, where, larger or measure.
    """

    question: str
    answer: str
    phrases: tuple[str, ...]
    kind: str = ""


@dataclass(frozen=True)
class PhantomSentence:
    """A sentence of a report, and the phrases of the regions it speaks of (none: the whole picture)."""

    text: str
    phrases: tuple[str, ...]


def ask_about(modality: str, regions: Regions, rng: np.random.Generator) -> tuple[PhantomQA, ...]:
    """Return questions that the regions answer; at least one yes, one no, and the kind of picture.

    Args:
        modality: DICOM code, a key of `PHANTOM_LABELS`.
        regions: all that the picture shows, with masks.
        rng: chooses which structures are asked for.
    """
    facts = PhantomFacts(modality, regions)
    asked = [*_presence(facts, rng), *_counts(facts), *_sides(facts), *_places(facts), *_comparisons(facts)]
    asked.append(PhantomQA("What kind of image is this?", PICTURES[modality], (), "modality"))
    return tuple(asked)


def _presence(facts: PhantomFacts, rng: np.random.Generator) -> list[PhantomQA]:
    """All lesions, one structure that is there, those that are not, and one thing of another modality."""
    findings = facts.names("lesion")
    structures = facts.names("organ", "substructure", "cell")
    there = [name for name in structures if facts.count(name)]
    chosen = [str(rng.choice(there))] if there else []
    absent = [name for name in structures if not facts.count(name)]
    foreign = sorted(
        {name for table in PHANTOM_LABELS.values() for name in table if _is_finding(table[name])}
        - facts.table.keys()
    )
    asked = [*findings, *chosen, *absent, str(rng.choice(foreign))]
    return [
        PhantomQA(_is_there(facts, name), "yes", (name,), "presence")
        if facts.boxes.get(name)
        else PhantomQA(_is_there(facts, name), "no", (), "presence")
        for name in asked
    ]


def _is_finding(label: PhantomLabel) -> bool:
    return label.granularity == "lesion"


def _is_there(facts: PhantomFacts, name: str) -> str:
    label = facts.table.get(name)
    if name.endswith("globules"):
        return f"Are there {name}?"
    if label is None or label.granularity == "lesion":
        return f"Is there {_a(name)}?"
    if label.granularity == "cell":
        return f"Are there {plural(name)}?"
    return f"Is the {_SAID.get(name, name)} visible?"


def _counts(facts: PhantomFacts) -> list[PhantomQA]:
    names = [n for n in facts.names("lesion", "cell") if n not in _MASS_NOUNS]
    return [
        PhantomQA(
            f"How many {plural(name)} are there?",
            str(facts.count(name)),
            (name,) if facts.count(name) else (),
            "count",
        )
        for name in names
    ]


def _sides(facts: PhantomFacts) -> list[PhantomQA]:
    of = "patient" if facts.modality in ORIENTED else "image"
    asked = []
    for name in facts.names("organ", "substructure", "lesion"):
        side = facts.side(name)
        if side is None or name.split()[0] in ("right", "left") or not facts.table[name].inside:
            continue
        many = (facts.count(name) > 1 or name.endswith("globules")) and name != "choroid plexus"
        verb, said = ("are", plural(name)) if many else ("is", _SAID.get(name, name))
        asked.append(PhantomQA(f"On which side of the {of} {verb} the {said}?", side, (name,), "side"))
    return asked


def _places(facts: PhantomFacts) -> list[PhantomQA]:
    """Where lesions lie: the structures that hold them, or the part of the picture."""
    asked = []
    for name in facts.names("lesion"):
        if (where := _where(facts, name)) is not None:
            text, phrases = where
            verb, said = ("is", name) if facts.count(name) == 1 else ("are", plural(name))
            asked.append(PhantomQA(f"Where {verb} the {said}?", text, phrases, "where"))
    return asked


def _where(facts: PhantomFacts, name: str) -> tuple[str, tuple[str, ...]] | None:
    """Where a lesion is, in words, with the phrases that show it; None where it cannot be said in short."""
    holders = facts.holders(name)
    if facts.modality in ORIENTED and holders:
        return f"in {_and(f'the {holder}' for holder in holders)}", (name, *holders)
    place = facts.place(name)
    return None if place is None else (_part_of_picture(place), (name,))


def _part_of_picture(place: str) -> str:
    return (
        f"in the {place} of the image"
        if place == "centre" or " " in place
        else f"in the {place} part of the image"
    )


def _comparisons(facts: PhantomFacts) -> list[PhantomQA]:
    """Which of a pair is larger or holds more, and what is measured: heart and cup."""
    asked = []
    for organ in _PAIRS:
        pair = (f"right {organ}", f"left {organ}")
        if all(name in facts.table and facts.count(name) for name in pair):
            areas = [facts.area([name]) for name in pair]
            if max(areas) > _CLEAR * min(areas):
                answer = pair[int(np.argmax(areas))]
                asked.append(PhantomQA(f"Which {organ} is larger?", answer, pair, "larger"))
    if facts.modality == "CR":
        asked += _ask_chest(facts)
    if facts.modality == "OP":
        disc, macula = facts.boxes["optic disc"][0], facts.boxes["macula"][0]
        eye = "right" if disc[0] > macula[0] else "left"  # the disc lies towards the nose
        asked.append(PhantomQA("Is this a right or a left eye?", eye, ("optic disc", "macula"), "side"))
        wide = "yes" if _cup_share(facts) > WIDE_CUP else "no"
        asked.append(PhantomQA("Is the optic cup enlarged?", wide, ("optic cup", "optic disc"), "measure"))
    return asked


def _ask_chest(facts: PhantomFacts) -> list[PhantomQA]:
    lungs, names = ("right lung", "left lung"), facts.names("lesion")
    burden = [facts.area(names, lung) for lung in lungs]
    wide = "yes" if _heart_share(facts) > ENLARGED_HEART else "no"
    asked = [PhantomQA("Is the heart enlarged?", wide, ("heart", *lungs), "measure")]
    if max(burden) > _CLEAR * min(burden):
        worse = lungs[int(np.argmax(burden))]
        seen = tuple(name for name in names if facts.area([name], worse))
        asked.append(PhantomQA("Which lung is more opaque?", worse, (worse, *seen), "larger"))
    return asked


def _heart_share(facts: PhantomFacts) -> float:
    """Width of the heart over the widest extent of the lungs."""
    heart = facts.boxes["heart"][0]
    lungs = np.stack([facts.boxes["right lung"][0], facts.boxes["left lung"][0]])
    return float((heart[2] - heart[0]) / (lungs[:, 2].max() - lungs[:, 0].min()))


def _cup_share(facts: PhantomFacts) -> float:
    """Height of the cup over the height of the disc."""
    cup, disc = facts.boxes["optic cup"][0], facts.boxes["optic disc"][0]
    return float((cup[3] - cup[1]) / (disc[3] - disc[1]))


def write_report(modality: str, regions: Regions) -> tuple[PhantomSentence, ...]:
    """Return a report: what is examined, what is seen, each finding or its absence, what is measured."""
    facts = PhantomFacts(modality, regions)
    sentences = [PhantomSentence(f"{PICTURES[modality][0].upper()}{PICTURES[modality][1:]}.", ())]
    seen = [name for name in facts.names("organ", "substructure") if facts.count(name)]
    if seen:
        words = _and(f"the {_SAID.get(name, name)}" for name in seen)
        sentences.append(PhantomSentence(f"Visible {'are' if len(seen) > 1 else 'is'} {words}.", tuple(seen)))
    for name in facts.names("organ"):
        if not facts.count(name):
            sentences.append(PhantomSentence(f"The {name} is not seen.", ()))
    if modality == "CR":
        word = "enlarged" if _heart_share(facts) > ENLARGED_HEART else "of normal size"
        sentences.append(PhantomSentence(f"The heart is {word}.", ("heart", "right lung", "left lung")))
    if modality == "OP":
        word = "enlarged" if _cup_share(facts) > WIDE_CUP else "of normal size"
        sentences.append(PhantomSentence(f"The optic cup is {word}.", ("optic cup", "optic disc")))
    sentences += [_finding(facts, name) for name in facts.names("lesion", "cell")]
    return tuple(sentences)


def _finding(facts: PhantomFacts, name: str) -> PhantomSentence:
    """One sentence for a lesion or a kind of cell, there or not."""
    count = facts.count(name)
    if not count:
        holders = tuple(holder for holder in facts.table[name].inside if facts.count(holder))
        return PhantomSentence(f"No {name}.", holders)
    number = _a(name) if count == 1 else f"{count} {plural(name)}"
    verb = "is" if count == 1 else "are"
    text, phrases = _where(facts, name) or ("", (name,))
    return PhantomSentence(f"There {verb} {number} {text}".strip() + ".", phrases)


def _a(name: str) -> str:
    if name in _MASS_NOUNS:
        return name
    return f"{'an' if name[0] in 'aeio' else 'a'} {name}"


def plural(name: str) -> str:
    """Return the plural of a name: "lung opacity" -> "lung opacities"."""
    if name.endswith("nucleus"):
        return name[:-2] + "i"
    if name.endswith("ulum"):
        return name[:-2] + "a"
    if name in _MASS_NOUNS or name.endswith("globules"):
        return name
    return name[:-1] + "ies" if name.endswith("ty") else name + "s"


def _and(words: Iterable[str]) -> str:
    *first, last = words
    return f"{', '.join(first)} and {last}" if first else last
