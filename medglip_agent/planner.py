"""What a request needs: a planner behind a protocol, so that another can take its place.

Owns the plan, what is carried over from earlier turns, and the default planner, which works by rules: cues of
intents (`planner_intents`) and the label tree (`planner_phrases`, `planner_lexicon`). Text is only read to
choose steps; nothing in it is obeyed. Knows no model and no image.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final, Protocol

from grounding.label_text import Side
from grounding.ontology import Ontology

from .planner_intents import CHATTER, Intent, Wish, is_elliptic, read_intent
from .planner_phrases import PhraseReader, Reading

__all__ = [
    "MAX_QUESTION_CHARACTERS",
    "NO_TURNS",
    "TURNS_KEPT",
    "Conversation",
    "Intent",
    "Plan",
    "Planner",
    "RulePlanner",
]

MAX_QUESTION_CHARACTERS: Final = 2000
TURNS_KEPT: Final = 8
"""How many requests a conversation remembers: a follow-up points back at what was just said."""


@dataclass(frozen=True)
class Plan:
    """The steps that a request needs.

    Attributes:
        intent: what to do.
        phrases: the labels that the text is about and that the model knows.
        unknown: what else the text is about: labels that the model does not know, words that no label says.
        needs_region: the question is about the place, size or look of `phrases`, so that it has no answer
            when none of them is found.
        reason: why the request is out of scope; empty otherwise.
        question: a follow-up as it stands alone, with what it leaves unsaid ("and on the left?" after "is the
            right lung clear?"); empty where the text itself does.
        counts: the question asks how many of `phrases` there are, and nothing else of them.
    """

    intent: Intent
    phrases: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()
    needs_region: bool = False
    reason: str = ""
    question: str = ""
    counts: bool = False


@dataclass(frozen=True)
class Conversation:
    """What a user has asked about one image so far; kept by the caller, one a session.

    Attributes:
        texts: the last few requests, oldest first.
    """

    texts: tuple[str, ...] = ()

    def then(self, text: str) -> Conversation:
        """Return the conversation with `text` asked; the oldest of more than `TURNS_KEPT` goes."""
        return Conversation((*self.texts, text.strip())[-TURNS_KEPT:])


NO_TURNS: Final = Conversation()


class Planner(Protocol):
    """Chooses the steps of a request."""

    def plan(self, text: str, modality: str | None, conversation: Conversation = NO_TURNS) -> Plan:
        """Return the plan for the user's `text` about an image of `modality` (DICOM code or None).

        Args:
            text: the request.
            modality: DICOM code, or None when unknown.
            conversation: what was asked before it.
        """
        ...


@dataclass(frozen=True)
class _Turn:
    """A request as understood: names of the whole tree and the user's own words.

    `text` stands alone: what the user left unsaid is in it; `masked` is the same with its labels masked.
    """

    intent: Intent
    names: tuple[str, ...] = ()
    reason: str = ""
    text: str = ""
    masked: str = ""


_LOCATED: Final = (Intent.GROUND, Intent.SEGMENT, Intent.MEASURE)
_NAMELESS: Final = (Intent.MODALITY, Intent.OUT_OF_SCOPE)
_UNSAID: Final = (None, Intent.ASK, Intent.GROUND, Intent.OUT_OF_SCOPE)  # what a few words may seem to want

_NEEDS_REGION: Final = re.compile(
    r"^\W*(where|which)\b|\b(what|which) (part|side|lobe|quadrant|region)\b|"
    r"\b(where (is|are|was|were|do|does|can))\b|"
    r"\b(location|position|size|diameter|dimensions?|shape|colou?r) of\b|"
    r"\bwhat (size|shape|colou?r)\b|\blooks? like\b|\bappearance of\b|^\W*describe\b",
    re.IGNORECASE,
)
_COUNTS: Final = re.compile(r"\b(how many|number of|count)( the| all| all the)? (ORGAN|FINDING)\b")
_POINTS_BACK: Final = re.compile(
    r"\b(its?|they|them|their|theirs|these|those|that|this|same|one|ones|other|again|opposite|contralateral|there)\b"
)
_PRONOUN: Final = re.compile(
    r"(?<!is )(?<!was )\b(its?|they|them|their)\b(?! (possible|ok|okay|fine|safe|true|likely|looks)\b)"
)
_CARRIES_ON: Final = re.compile(
    r"\b(and|what about|how about|same|again|other|next|opposite|contralateral|likewise|ditto|instead|"
    r"rather|also|too|then|but|no|meant|mean|repeat|one|ones|it|them|that|those|continue|both)\b"
)
_OTHER_SIDE: Final = re.compile(r"\b(other|opposite|contralateral)\b")
_OTHER: Final[dict[Side, Side]] = {"right": "left", "left": "right"}
_BOTH: Final[tuple[Side, ...]] = ("right", "left")
_FEW_WORDS: Final = 4
_MASK: Final = re.compile("ORGAN|FINDING")
_SIDE_OF_MASK: Final = re.compile(r"\b(left|right) (?=ORGAN|FINDING)")
_SIDE_WORD: Final = re.compile(r"\b(left|right)\b", re.IGNORECASE)


class RulePlanner:
    """Planner by rules and the label ontology; the same texts always give the same plan."""

    def __init__(self, ontology: Ontology | None = None) -> None:
        """Name things by `ontology`, such as a grounder's; None for the whole label tree."""
        self._ontology = ontology or Ontology.load()
        self._reader = PhraseReader(self._ontology)

    def plan(self, text: str, modality: str | None, conversation: Conversation = NO_TURNS) -> Plan:
        """Return the plan for `text`, with what it leaves unsaid taken from `conversation`.

        Raises:
            ValueError: `text`, alone or with what it leaves unsaid, is longer than MAX_QUESTION_CHARACTERS.
        """
        if len(text.strip()) > MAX_QUESTION_CHARACTERS:
            raise ValueError(
                f"a question may have up to {MAX_QUESTION_CHARACTERS} characters, got {len(text.strip())}: "
                "shorten it"
            )
        before: _Turn | None = None
        for earlier in conversation.texts[-TURNS_KEPT:]:
            turn = self._understand(earlier, modality, before)
            if len(turn.text) > MAX_QUESTION_CHARACTERS:  # its own words and names remain
                turn = replace(turn, text=f"{earlier} ({', '.join(turn.names)})", masked="")
            if turn.intent is not Intent.OUT_OF_SCOPE:
                before = turn if turn.names or before is None else replace(turn, names=before.names)
        turn = self._understand(text, modality, before)
        if len(turn.text.strip()) > MAX_QUESTION_CHARACTERS:
            raise ValueError(
                f"with what it takes from the questions before, this one has {len(turn.text.strip())} "
                f"characters, up to {MAX_QUESTION_CHARACTERS} are read: ask it in words of its own, shorter"
            )
        known, unknown = self._by_knowledge(turn.names)
        full = "" if turn.text == text else turn.text
        placed = bool(_NEEDS_REGION.search(full or text))
        asked = turn.intent in _LOCATED or (turn.intent is Intent.ASK and placed)
        single = len(_MASK.findall(turn.masked)) == 1  # not those near, or in, something else
        counts = turn.intent is Intent.ASK and bool(known) and single and bool(_COUNTS.search(turn.masked))
        return Plan(turn.intent, known, unknown, bool(known) and asked, turn.reason, full, counts)

    def _by_knowledge(self, names: Sequence[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """The labels that stand for `names` in the model's vocabulary, and the names that it has none for."""
        entries = self._ontology.tree.entry_of
        known: list[str] = []
        unknown: list[str] = []
        for name in names:
            entry = entries.get(name)
            pair = entry is not None and len(entry.sides) == 2 and name == entry.word
            parts = [entry.sided(side) for side in entry.sides] if entry and pair else [name]
            if name in self._ontology.names:
                parts = [name]
            labels = [label for part in parts if part in entries for label in self._ontology.as_known(part)]
            known += labels
            unknown += [] if labels else [name]
        return tuple(dict.fromkeys(known)), tuple(unknown)

    # ---- one turn ---------------------------------------------------------------------------------------

    def _understand(self, text: str, modality: str | None, before: _Turn | None) -> _Turn:
        reading = self._reader.read(text, modality)
        wish = read_intent(reading.masked)
        carries_on = before is not None and _carries_on(reading, wish)
        if before is not None and carries_on:
            wish = Wish(before.intent)
        intent, reason = wish.intent, wish.reason
        if intent is None or (intent is Intent.ASK and not reading.understood):
            intent, reason = Intent.OUT_OF_SCOPE, CHATTER
        names = () if intent in _NAMELESS else self._names(reading, intent, before)
        full, masked = text, reading.masked
        unsaid = tuple(name for name in names if name not in reading.names)
        if before is not None and carries_on:
            full, masked = _in_place_of(before, text, reading, names)
        elif unsaid:
            full, masked = f"{text} ({', '.join(unsaid)})", f"{masked} (ORGAN)"
        return _Turn(intent, names, reason, full, masked)

    def _names(self, reading: Reading, intent: Intent, before: _Turn | None) -> tuple[str, ...]:
        names = reading.names
        if intent is Intent.DESCRIBE_REGION:  # "the lesion that I boxed": the box, not every lesion
            names = tuple(name for name in names if name not in reading.of_groups)
        if before is None or intent is Intent.DESCRIBE_REGION:
            return names
        if names:
            first = re.search("ORGAN|FINDING", reading.masked)
            pronoun = _PRONOUN.search(reading.masked)
            back = (
                pronoun and first and (pronoun.start() < first.start() or _is_object(reading.masked, pronoun))
            )
            return tuple(dict.fromkeys((*before.names, *names))) if back else names
        if intent is Intent.REPORT and not _POINTS_BACK.search(reading.masked):
            return names
        short = len(reading.masked.split()) <= _FEW_WORDS or bool(reading.sides)
        if intent is Intent.ASK and not short and not _POINTS_BACK.search(reading.masked):
            return names
        return self._on_side(before.names, reading)

    def _on_side(self, names: Sequence[str], reading: Reading) -> tuple[str, ...]:
        """The names that a follow-up points back at, on the sides that it says."""
        labels = self._ontology.tree.labels
        sides: tuple[Side, ...] = reading.sides
        if not sides and _OTHER_SIDE.search(reading.masked):
            sides = tuple(_OTHER[side] for name in names if name in labels and (side := labels[name].side))
        elif not sides and re.search(r"\b(both|either|each|bilateral)\b", reading.masked):
            sides = _BOTH
        return self._reader.with_sides(names, sides) if sides else tuple(names)


def _carries_on(reading: Reading, wish: Wish) -> bool:
    """Whether the intent is that of the turn before."""
    if wish.intent not in _UNSAID or not is_elliptic(reading.masked):
        return False
    return bool(reading.names or reading.sides or _CARRIES_ON.search(reading.masked))


def _in_place_of(before: _Turn, text: str, reading: Reading, names: Sequence[str]) -> tuple[str, str]:
    """The earlier request about what is named now, as text and masked: what a few words ask for."""
    said = {side.lower() for side in _SIDE_WORD.findall(before.text)}
    sides = set(reading.sides) or ({"left", "right"} - said if _OTHER_SIDE.search(reading.masked) else set())
    if not reading.names and len(said) == len(sides) == 1:
        return _SIDE_WORD.sub(sides.pop(), before.text), before.masked
    frame = _SIDE_OF_MASK.sub("", before.masked)
    if names and len(_MASK.findall(frame)) == 1 and not _SIDE_WORD.search(frame):
        told = _MASK.sub(lambda _: " and ".join(names), frame)
        if all(side in told for side in reading.sides):
            return told[:1].upper() + told[1:], frame
    about = f" ({', '.join(names)})" if names else ""
    return f"{before.text} {text}{about}", ""


def _is_object(masked: str, pronoun: re.Match[str]) -> bool:
    """Whether a pronoun is a place: "cysts in it"."""
    before = masked[: pronoun.start()]
    return bool(
        re.search(r"\b(in|of|inside|within|on|near|around|next to|behind|above|below|from) $", before)
    )
