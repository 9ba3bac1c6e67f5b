"""Labels of a chest X-ray report: the 14 CheXpert observations as present, absent or uncertain, by rules.

Owns how the table of `chexpert_rules` is read: sentences, clauses, mentions, and the cues around a mention.
Knows no model and no data set. It reads English reports of one study and is no substitute for a reader.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache
from itertools import pairwise
from typing import Literal

from .chexpert_rules import (
    ABBREVIATIONS,
    BORDERLINE,
    DENIED_AFTER,
    DENIED_BEFORE,
    FRESH_TURN,
    HARMLESS,
    MENTIONS,
    NOT_SAID,
    OPEN_AFTER,
    OPEN_BEFORE,
    OPEN_DENIALS,
    STRUCTURES,
    TURNS,
)

State = Literal["present", "absent", "uncertain"]
Labels = dict[str, State]
"""Observation -> state; an observation that is not mentioned is no key."""

_STRENGTH: dict[State, int] = {"absent": 1, "uncertain": 2, "present": 3}
_OPEN_MARK = "~"  # stands where a denial of a denial stood


def _words(*patterns: str) -> re.Pattern[str]:
    """Any of the patterns, as whole words."""
    return re.compile("|".join(rf"(?<!\w)(?:{pattern})(?!\w)" for pattern in patterns))


def _marks(*patterns: str) -> re.Pattern[str]:
    return re.compile("|".join(patterns))


_MENTIONS = {label: _words(*patterns) for label, patterns in MENTIONS.items()}
_STRUCTURES = {label: tuple(_words(p) for p in patterns) for label, patterns in STRUCTURES.items()}
_BORDERLINE, _VERB = _words(BORDERLINE), _words(r"is|are|was|were|has|have|appears?|remains?|shows?")
_BOUNDARY = _marks(*TURNS)
_FRESH = re.compile(FRESH_TURN)
_HARMLESS, _NOT_SAID, _OPEN_DENIAL = _marks(*HARMLESS), _marks(*NOT_SAID), _marks(*OPEN_DENIALS)
_DENIED_BEFORE, _DENIED_AFTER = _words(*DENIED_BEFORE), _marks(*DENIED_AFTER)
_OPEN_BEFORE = _marks(rf"\b(?:{OPEN_BEFORE[0]})\b", OPEN_BEFORE[1])
_OPEN_AFTER = _marks(*OPEN_AFTER)
_SENTENCE_END = re.compile(r"(?<=[.;?!])\s+|(?<=[a-z])\.(?=[a-z]{2})|\n+")
_NEAR_BEFORE = re.compile(r"(?:(?!(?:and|or|is|are|with)\b)[\w-]+\s+){0,3}$")
_LIST_NUMBER = re.compile(r"^\s*\(?\d+[.)]\s*")


def label_report(text: str) -> Labels:
    """Read a report: of several mentions of an observation, present outweighs uncertain outweighs absent.

    "No Finding" is present where nothing but support devices is present or uncertain, else it is no key. An
    empty text labels nothing, so that a silent model has no findings right by silence.
    """
    labels: Labels = {}
    for sentence in _sentences(text):
        for label, state in label_sentence(sentence).items():
            _keep_strongest(labels, label, state)
    found = {label for label, state in labels.items() if state != "absent"} - {"Support Devices"}
    if text.strip() and not found:
        labels["No Finding"] = "present"
    return labels


@lru_cache(maxsize=65536)
def _cached_sentence(sentence: str) -> tuple[tuple[str, State], ...]:
    labels: Labels = {}
    for clause in _clauses(sentence):
        for label, state in _mentions(clause):
            _keep_strongest(labels, label, state)
    for label, state in _structures(sentence):
        _keep_strongest(labels, label, state)
    return tuple(labels.items())


def label_sentence(sentence: str) -> Labels:
    """What one sentence says, without "No Finding"."""
    return dict(_cached_sentence(_prepare(sentence)))


def _keep_strongest(labels: Labels, label: str, state: State) -> None:
    if label not in labels or _STRENGTH[state] > _STRENGTH[labels[label]]:
        labels[label] = state


def _sentences(text: str) -> list[str]:
    return [part for part in _SENTENCE_END.split(text.lower()) if part and not part.isspace()]


def _prepare(sentence: str) -> str:
    """Lower case, abbreviations spelled out, harmless denials and what is only asked taken out."""
    text = _LIST_NUMBER.sub("", sentence.lower()).strip()
    for short, long in ABBREVIATIONS.items():
        text = re.sub(short, long, text)
    text = _HARMLESS.sub(" ", text)
    text = _OPEN_DENIAL.sub(_OPEN_MARK, text)
    asked = _NOT_SAID.search(text)
    return text[: asked.start()] if asked else text


def _clauses(sentence: str) -> list[str]:
    """Parts within which a denial or a doubt holds."""
    cuts = {match.start() for match in _BOUNDARY.finditer(sentence)}
    for match in _FRESH.finditer(sentence):
        rest = _BOUNDARY.split(sentence[match.end() :], maxsplit=1)[0]
        if not re.search(
            r"\b(or|nor)\b", rest
        ):  # an "or" goes on with the list: "no effusion, mild or large"
            cuts.add(match.start())
    edges = [0, *sorted(cuts), len(sentence)]
    return [sentence[a:b] for a, b in pairwise(edges)]


def _mentions(clause: str) -> Iterator[tuple[str, State]]:
    """Every mention in a clause with its state; one inside a longer mention belongs to that one's label."""
    spans = [
        (m.start(), m.end(), label) for label, words in _MENTIONS.items() for m in words.finditer(clause)
    ]
    for start, end, label in spans:
        if not any(a <= start and end <= b and (b - a) > (end - start) for a, b, _ in spans):
            yield label, _state(clause[:start], clause[end:])


def _state(before: str, after: str) -> State:
    """State of a mention from the rest of its clause: an open denial first, then denial, then doubt."""
    if _OPEN_MARK in before or _OPEN_MARK in after:
        return "uncertain"
    if _DENIED_BEFORE.search(before) or _DENIED_AFTER.search(after):
        return "absent"
    return "uncertain" if _OPEN_BEFORE.search(before) or _OPEN_AFTER.search(after) else "present"


def _structures(sentence: str) -> Iterator[tuple[str, State]]:
    """Structures said to be normal or not: the state just before the structure, else the next one after."""
    for label, (structure, present, absent) in _STRUCTURES.items():
        for match in structure.finditer(sentence):
            near = _NEAR_BEFORE.search(sentence[: match.start()])
            before = near.group() if near else ""
            state = _structure_state(before, present, absent)
            yield from [(label, state)] if state else _after(label, sentence[match.end() :], present, absent)


def _after(
    label: str, text: str, present: re.Pattern[str], absent: re.Pattern[str]
) -> Iterator[tuple[str, State]]:
    """The state that follows a structure, up to the second verb."""
    verbs = list(_VERB.finditer(text))
    reach = text[: verbs[1].start()] if len(verbs) > 1 else text
    stop = re.search(r";|\bbut\b|\bhowever\b", reach)
    state = _structure_state(reach[: stop.start()] if stop else reach, present, absent)
    if state:
        yield label, state


def _structure_state(text: str, present: re.Pattern[str], absent: re.Pattern[str]) -> State | None:
    """The first word of state in a text, with what denies or doubts it."""
    if _BORDERLINE.search(text):
        return "uncertain"
    hits: list[tuple[int, State, re.Match[str]]] = []
    for state, words in (("absent", absent), ("present", present)):
        match = words.search(text)
        if match:
            hits.append((match.start(), state, match))  # type: ignore[arg-type]  # state is a Literal
    if not hits:
        return None
    _, state, match = min(hits, key=lambda hit: hit[0])
    if state == "absent":
        return "absent"
    return _state(text[: match.start()], text[match.end() :])
