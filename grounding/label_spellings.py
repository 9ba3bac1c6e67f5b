"""Which spelling leads to which label: tables for free text and for the raw labels of data sets.

Built once from the tree and the groups of `labels.yaml`. Reads no text itself.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from .label_text import Side, spelling_key, tokenize
from .label_tree import Entry, LabelTree, checked

Key = tuple[str, ...]


@dataclass(frozen=True)
class Term:
    """What a spelling in a text stands for.

    Attributes:
        labels: all that it may mean, in order.
        sides: the side of each label, where it is one of a pair; empty otherwise.
        group: it stands for several labels together.
        vague: it counts only where the modality is known, and then for labels seen in it.
        blocks: its words name this and nothing else; a lesion's do not, since they hold its organ's name.
    """

    labels: tuple[str, ...]
    sides: tuple[Side, ...] = ()
    group: bool = False
    vague: bool = False
    blocks: bool = True

    @property
    def sided(self) -> bool:
        """Whether a side in the text chooses among the labels."""
        return bool(self.sides)

    def of_sides(self, sides: Collection[Side]) -> tuple[str, ...]:
        """The labels of these sides; all of them where no side is given or the term has none."""
        if not sides or not self.sides:
            return self.labels
        return tuple(name for name, side in zip(self.labels, self.sides, strict=True) if side in sides)


@dataclass(frozen=True)
class Spellings:
    """The tables.

    Attributes:
        terms: tokens of a spelling in a text -> its readings, a vague one first.
        raw: spelling key without side words -> side or None -> label.
        by_modality: spelling key -> modality -> label, for raw labels that say too little alone.
    """

    terms: Mapping[Key, tuple[Term, ...]]
    raw: Mapping[Key, Mapping[Side | None, str]]
    by_modality: Mapping[Key, Mapping[str, str]]


def parse_spellings(tree: LabelTree, data: Mapping[str, Any]) -> Spellings:
    """Collect every spelling of the tree and of `groups`, `not_labels` and `by_modality`.

    Raises:
        ValueError: a spelling is used twice, or a group names no label.
    """
    plain: dict[Key, Term] = {}
    vague: dict[Key, Term] = {}
    raw: dict[Key, Mapping[Side | None, str]] = {}
    for entry in tree.entries.values():
        _add(plain, (entry.word, *entry.synonyms, *entry.adjectives), _term(entry))
        _add_raw(raw, (entry.word, *entry.synonyms, *entry.raw), _by_side(entry))
        for side, synonyms in entry.side_synonyms.items():
            _add(plain, synonyms, Term((entry.sided(side),), blocks=entry.granularity != "lesion"))
            _add_raw(raw, synonyms, {None: entry.sided(side)})
    for word, group in (data.get("groups") or {}).items():
        term = Term(_members(tree, group), group=True, vague=bool(group.get("needs_modality", False)))
        _add(vague if term.vague else plain, (word, *group.get("synonyms", ())), term)
    _add(plain, data.get("not_labels") or (), Term(()))
    terms = {key: tuple(t[key] for t in (vague, plain) if key in t) for key in (*vague, *plain)}
    by_modality = {}
    for word, labels in (data.get("by_modality") or {}).items():
        checked(tuple(labels.values()), tree.labels)
        by_modality[spelling_key(word)] = labels
    return Spellings(terms, raw, by_modality)


def _term(entry: Entry) -> Term:
    names = tuple(map(entry.sided, entry.sides)) or (entry.word,)
    return Term(names, entry.sides, blocks=entry.granularity != "lesion")


def _by_side(entry: Entry) -> dict[Side | None, str]:
    """The label of each side that a raw label may name, None = no side."""
    if entry.granularity == "lesion" and not entry.sides:  # the side says where it is, not what it is
        return {None: entry.word, "right": entry.word, "left": entry.word}
    return {None: entry.name, **{side: entry.sided(side) for side in entry.sides}}


def _members(tree: LabelTree, group: Mapping[str, Any]) -> tuple[str, ...]:
    if "labels" in group:
        return checked(group["labels"], tree.labels)
    within = group.get("within")
    return tuple(
        name
        for name, entry in tree.entry_of.items()
        if entry.granularity == group["every"] and (within is None or within in tree.chain(entry.word))
    )


def _add(terms: dict[Key, Term], spellings: Iterable[str], term: Term) -> None:
    for spelling in spellings:
        key = tuple(tokenize(spelling))
        if key in terms:
            first, second = ((t.labels or ("not_labels",))[0] for t in (terms[key], term))
            raise ValueError(
                f"labels.yaml: {spelling!r} is written twice, for {first!r} and for {second!r}; "
                "keep one of the two (plurals and American spellings are the same spelling)"
            )
        terms[key] = term


def _add_raw(
    raw: dict[Key, Mapping[Side | None, str]], spellings: Iterable[str], labels: Mapping[Side | None, str]
) -> None:
    for spelling in spellings:
        key = spelling_key(spelling)
        if raw.setdefault(key, labels) != labels:
            raise ValueError(
                f"labels.yaml: {spelling!r} is written twice, for {labels[None]!r} and for "
                f"{raw[key][None]!r}; keep one of the two"
            )
