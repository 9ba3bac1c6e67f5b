"""The label tree: which structures can be grounded, what people call them, and where they are seen.

Owns `labels.yaml` and the reading of free text against it. Knows no model, no image and no pixels.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any, Final, Literal, cast

import yaml

Side = Literal["right", "left"]
Granularity = Literal["region", "organ", "substructure", "lesion", "cell"]

RADIOLOGY_MODALITIES: Final = ("CR", "DX", "CT", "MR")

_GRANULARITIES: Final = ("region", "organ", "substructure", "lesion", "cell")
_SIDES: Final[Mapping[str, Side]] = {"right": "right", "rt": "right", "left": "left", "lt": "left"}
# Words that may stand between a side and its organ: "right upper lung", "left side of the lungs".
_BETWEEN: Final = frozenset(
    "and or versus vs upper lower middle mid superior inferior anterior posterior lateral medial basal "
    "apical sided side half of the s patient whole entire lobe - /".split()
)
# ... and between two sides: "right and left lung", but not "right of the left kidney";
_LINKS: Final = frozenset("and or versus vs sided - /".split())
# ... and after it: "the kidney on the left", "the lung at the right side".
_AFTER: Final = frozenset("on at in the s patient side and or".split())
_ARTICLES: Final = frozenset(("a", "an", "the", "all", "both", "any"))
_TOKEN: Final = re.compile(r"[^\W_]+|[^\w\s]")


@dataclass(frozen=True)
class Label:
    """One thing that can be grounded.

    Attributes:
        name: the phrase the grounder is asked for, e.g. "left kidney".
        parent: the broader term, e.g. "kidney".
        granularity: region, organ, substructure, lesion or cell.
        modalities: DICOM codes of the images it is seen in.
        synonyms: other spellings and plurals, lower case.
        side: the patient's side when the label is one of a pair.
    """

    name: str
    parent: str
    granularity: Granularity
    modalities: tuple[str, ...]
    synonyms: tuple[str, ...] = ()
    side: Side | None = None

    @property
    def organ(self) -> str:
        """The name without its side ("left kidney" -> "kidney")."""
        return self.name.removeprefix(f"{self.side} ") if self.side else self.name


@dataclass(frozen=True)
class _Term:
    """What a spelling stands for: labels by side (pairs) or together (labels and groups)."""

    labels: tuple[str, ...]
    sides: Mapping[Side, str] | None = None
    needs_modality: bool = False


class Ontology:
    """The labels and the spellings that lead to them."""

    def __init__(self, labels: Iterable[Label], terms: Mapping[str, _Term]) -> None:
        """Index `labels` by name and `terms` by the tokens of their spelling."""
        self._labels = {label.name: label for label in labels}
        self._terms = {tuple(_tokens(spelling)): term for spelling, term in terms.items()}
        self._longest = max((len(key) for key in self._terms), default=0)

    @classmethod
    def load(cls) -> Ontology:
        """Return the ontology of the package's `labels.yaml` (read once a process).

        Raises:
            ValueError: the file contradicts itself (unknown label in a group, a spelling used twice).
        """
        return _load()

    @property
    def names(self) -> tuple[str, ...]:
        """Every label's name, in the order of the file."""
        return tuple(self._labels)

    def label(self, name: str) -> Label:
        """Return the label called `name` (a label's own name, not a synonym).

        Raises:
            KeyError: there is no such label; the message names the nearest ones.
        """
        try:
            return self._labels[name]
        except KeyError:
            near = self.suggest(name)
            hint = (
                f"did you mean {' or '.join(map(repr, near))}?"
                if near
                else f"known: {', '.join(self.names)}."
            )
            raise KeyError(f"no label {name!r} in the ontology; {hint}") from None

    def suggest(self, name: str, count: int = 3) -> tuple[str, ...]:
        """Return up to `count` label names whose name or a spelling is nearest to `name`."""
        if exact := self.mentions(name):
            return exact[:count]
        spellings = {" ".join(key): term for key, term in self._terms.items() if term.labels}
        near = difflib.get_close_matches(name.lower(), spellings, n=count, cutoff=0.6)
        return tuple(dict.fromkeys(label for spelling in near for label in spellings[spelling].labels))[
            :count
        ]

    def labels_for(self, modality: str | None) -> tuple[str, ...]:
        """Return the names of the labels seen in `modality` (DICOM code); all of them for None."""
        return tuple(
            n for n, label in self._labels.items() if modality is None or modality in label.modalities
        )

    def radiology_labels(self) -> tuple[str, ...]:
        """Return the labels of X-ray, CT and MR: what a grey picture of unknown origin may show."""
        return tuple(
            n for n, label in self._labels.items() if set(label.modalities) & set(RADIOLOGY_MODALITIES)
        )

    def mentions(self, text: str, modality: str | None = None) -> tuple[str, ...]:
        """Return the labels that `text` names, in the order of their first mention, each once.

        Whole words, case ignored, the longest spelling first. "lungs" gives both lungs, "left lung" one;
        words such as "lesion" count only when `modality` is given.

        Args:
            text: a question, an answer or a phrase.
            modality: DICOM code of the image, or None when unknown.
        """
        tokens = _tokens(text)
        found: list[str] = []
        position, last_end = 0, 0
        while position < len(tokens):
            term, length = self._match(tokens, position)
            if term is None:
                position += 1
                continue
            end = position + length
            found.extend(self._resolve(term, tokens, last_end, position, end, modality))
            position = last_end = end
        return tuple(dict.fromkeys(found))

    def resolve(self, phrase: str, modality: str | None = None) -> tuple[str, ...]:
        """Return the labels that `phrase` as a whole stands for: "the lungs" gives both lungs.

        A phrase that says more than a label ("opacity in the left lung") gives none.
        """
        tokens = [token for token in _tokens(phrase) if token not in _ARTICLES]
        rest = [token for token in tokens if token not in _SIDES]
        term, length = self._match(rest, 0)
        if term is None or length != len(rest):
            return ()
        return self.mentions(phrase, modality)

    def _match(self, tokens: Sequence[str], position: int) -> tuple[_Term | None, int]:
        for length in range(min(self._longest, len(tokens) - position), 0, -1):
            if term := self._terms.get(tuple(tokens[position : position + length])):
                return term, length
        return None, 0

    def _resolve(
        self, term: _Term, tokens: Sequence[str], floor: int, start: int, end: int, modality: str | None
    ) -> tuple[str, ...]:
        if term.sides is not None:
            sides = _sides_around(tokens, floor, start, end)
            return tuple(label for side, label in term.sides.items() if not sides or side in sides)
        if not term.needs_modality:
            return term.labels
        return tuple(
            n for n in term.labels if modality is not None and modality in self._labels[n].modalities
        )


def _sides_around(tokens: Sequence[str], floor: int, start: int, end: int) -> Collection[Side]:
    """Return the side words that belong to the term at tokens[start:end]; nothing before `floor` counts."""
    sides: set[Side] = set()
    for index in range(start - 1, floor - 1, -1):
        if tokens[index] in _SIDES:
            sides.add(_SIDES[tokens[index]])
        elif tokens[index] not in (_LINKS if sides else _BETWEEN):
            break
    if sides or end >= len(tokens) or tokens[end] not in _AFTER - {"and", "or"}:
        return sides
    for token in tokens[end:]:
        if token in _SIDES:
            sides.add(_SIDES[token])
        elif token not in _AFTER:
            break
    return sides


def _tokens(text: str) -> list[str]:
    return _TOKEN.findall(text.lower())


@cache
def _load() -> Ontology:
    text = resources.files(__package__).joinpath("labels.yaml").read_text(encoding="utf-8")
    return parse_ontology(cast("dict[str, Any]", yaml.safe_load(text)))


def parse_ontology(data: Mapping[str, Any]) -> Ontology:
    """Build an ontology from the mapping that `labels.yaml` holds.

    Raises:
        ValueError: an unknown granularity, a group that names no label, or a spelling used twice.
    """
    pairs: Mapping[str, Any] = data.get("pairs", {})
    side_of: dict[str, Side] = {pair[side]: side for pair in pairs.values() for side in ("right", "left")}
    labels = [_parse_label(name, entry, side_of.get(name)) for name, entry in data["labels"].items()]
    known = {label.name for label in labels}
    terms: dict[str, _Term] = {}

    def add(spellings: Iterable[str], term: _Term) -> None:
        for label in term.labels:
            if label not in known:
                near = difflib.get_close_matches(label, known, n=1)
                raise ValueError(f"labels.yaml: {label!r} is not a label; nearest: {near or sorted(known)}")
        for spelling in spellings:
            if spelling in terms:
                raise ValueError(f"labels.yaml: {spelling!r} is written twice; keep one of the two")
            terms[spelling] = term

    for label in labels:
        if label.side is None:  # a sided name is read as its organ plus the side words around it
            add([label.name, *label.synonyms], _Term((label.name,)))
    for word, pair in pairs.items():
        sides: dict[Side, str] = {"right": pair["right"], "left": pair["left"]}
        add([word, *pair["synonyms"]], _Term(tuple(sides.values()), sides=sides))
    for word, group in data.get("groups", {}).items():
        needs = bool(group.get("needs_modality", False))
        add([word, *group["synonyms"]], _Term(tuple(group["labels"]), needs_modality=needs))
    add(data.get("not_labels", ()), _Term(()))
    return Ontology(labels, terms)


def _parse_label(name: str, entry: Mapping[str, Any], side: Side | None) -> Label:
    if entry["granularity"] not in _GRANULARITIES:
        raise ValueError(
            f"labels.yaml: granularity of {name!r} must be one of {_GRANULARITIES}, "
            f"got {entry['granularity']!r}"
        )
    return Label(
        name,
        entry["parent"],
        entry["granularity"],
        tuple(entry["modalities"]),
        tuple(entry["synonyms"]),
        side,
    )
