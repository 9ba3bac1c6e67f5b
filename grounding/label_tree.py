"""The label tree as `labels.yaml` writes it: its entries, what they stand for, and whether they agree.

Owns the file's format (described at its head). Knows no free text, no model and no image.
"""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Final, Literal, cast

from .label_text import Side
from .types import MODALITIES

Granularity = Literal["region", "organ", "substructure", "lesion", "cell"]

_SECTIONS: Final[Mapping[str, Granularity]] = {
    "organs": "organ",
    "parts": "substructure",
    "lesions": "lesion",
    "cells": "cell",
}
_SIDES_OF: Final[Mapping[str, tuple[Side, ...]]] = {
    "both": ("right", "left"),
    "right": ("right",),
    "left": ("left",),
}
_FIELDS: Final = frozenset("in sides modalities synonyms right left adjectives raw series snomed".split())
_NTH: Final = "first second third fourth fifth sixth seventh eighth ninth tenth eleventh twelfth".split()
_ORDINALS: Final = "1st 2nd 3rd 4th 5th 6th 7th 8th 9th 10th 11th 12th".split()
_ROMAN: Final = "I II III IV V VI VII VIII IX X XI XII".split()


@dataclass(frozen=True)
class Label:
    """One thing that can be grounded.

    Attributes:
        name: the phrase the grounder is asked for, e.g. "left kidney".
        parent: the broader term, e.g. "kidney".
        granularity: region, organ, substructure, lesion or cell.
        modalities: DICOM codes of the images it is seen in.
        synonyms: other names; plurals and American spellings are not written out.
        side: the patient's side when the label is one of a pair.
        body_region: the region at the top of the tree, e.g. "abdomen".
        snomed: SNOMED CT code of the structure without its side; None where not recorded.
    """

    name: str
    parent: str
    granularity: Granularity
    modalities: tuple[str, ...]
    synonyms: tuple[str, ...] = ()
    side: Side | None = None
    body_region: str = ""
    snomed: str | None = None

    @property
    def organ(self) -> str:
        """The name without its side ("left kidney" -> "kidney")."""
        return self.name.removeprefix(f"{self.side} ") if self.side else self.name


@dataclass(frozen=True)
class Entry:
    """One line of the file: a label, or a pair with its unsided form.

    Attributes:
        word: the name without a side.
        parent: word of the broader entry, or the class.
        granularity: from the section it stands in.
        modalities: DICOM codes.
        sides: none, both, or the only side it exists on.
        synonyms: other names, without a side.
        side_synonyms: names of one side only.
        adjectives: words that name it in a question.
        raw: spellings of data sets.
        snomed: SNOMED CT code, or None.
    """

    word: str
    parent: str
    granularity: Granularity
    modalities: tuple[str, ...]
    sides: tuple[Side, ...] = ()
    synonyms: tuple[str, ...] = ()
    side_synonyms: Mapping[Side, tuple[str, ...]] = field(default_factory=dict)
    adjectives: tuple[str, ...] = ()
    raw: tuple[str, ...] = ()
    snomed: str | None = None

    @property
    def name(self) -> str:
        """The name of the label that stands for the whole entry."""
        return self.sided(self.sides[0]) if len(self.sides) == 1 else self.word

    @property
    def names(self) -> tuple[str, ...]:
        """Every label's name: of a pair the unsided one first."""
        return tuple(dict.fromkeys((self.name, *map(self.sided, self.sides))))

    def sided(self, side: Side) -> str:
        """The name of the label of one side."""
        return f"{side} {self.word}"

    def labels(self, parent: str, body_region: str) -> Iterator[Label]:
        """The labels that the entry stands for; `parent` is the name of the broader node."""
        whole = Label(
            self.word,
            parent,
            self.granularity,
            self.modalities,
            self.synonyms,
            None,
            body_region,
            self.snomed,
        )
        if len(self.sides) != 1:
            yield whole
        for side in self.sides:
            synonyms = (*self.side_synonyms.get(side, ()), *(f"{side} {s}" for s in self.synonyms))
            above = self.word if len(self.sides) == 2 else parent
            yield replace(whole, name=self.sided(side), parent=above, synonyms=synonyms, side=side)


@dataclass(frozen=True)
class LabelTree:
    """Body regions, classes and entries.

    Attributes:
        region_of: class -> body region.
        entries: word -> entry, in the order of the file.
    """

    region_of: Mapping[str, str]
    entries: Mapping[str, Entry]

    @cached_property
    def labels(self) -> Mapping[str, Label]:
        """Every label by name, in the order of the file."""
        found: dict[str, Label] = {}
        for entry in self.entries.values():
            above = self.entries.get(entry.parent)
            region = self.chain(entry.word)[-1]
            for label in entry.labels(above.name if above else entry.parent, region):
                if label.name in found:
                    raise ValueError(f"labels.yaml: {label.name!r} is the name of two things; rename one")
                found[label.name] = label
        return found

    @cached_property
    def entry_of(self) -> Mapping[str, Entry]:
        """The entry of every label's name."""
        return {name: entry for entry in self.entries.values() for name in entry.names}

    def chain(self, word: str) -> tuple[str, ...]:
        """The words above the entry `word`, nearest first: entries, class, body region.

        Raises:
            ValueError: an entry is `in` something unknown, or in itself.
        """
        above: list[str] = []
        while word in self.entries:
            word = self.entries[word].parent
            if word in above:
                raise ValueError(f"labels.yaml: {word!r} lies in itself: {' in '.join([*above, word])}")
            if word not in self.entries and word not in self.region_of:
                raise ValueError(
                    f"labels.yaml: unknown parent {word!r}; nearest: {_near(word, self.entries)}"
                )
            above.append(word)
        return (*above, self.region_of[word])


def parse_tree(regions: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> LabelTree:
    """Read the part `regions` of the file.

    Raises:
        ValueError: an unknown section (granularity), field, modality, side or parent, a cycle, or a name
            used twice; the message says which.
    """
    region_of: dict[str, str] = {}
    entries: dict[str, Entry] = {}
    for region, classes in regions.items():
        for name, block in classes.items():
            region_of[name] = region
            for entry in _parse_class(name, block):
                if entry.word in entries:
                    raise ValueError(f"labels.yaml: {entry.word!r} is written twice; keep one of the two")
                entries[entry.word] = entry
    if both := sorted(set(region_of) & set(entries)):
        raise ValueError(f"labels.yaml: {both} are names of classes and of labels; rename the classes")
    tree = LabelTree(region_of, entries)
    for word in entries:
        tree.chain(word)
    _ = tree.labels
    return tree


def _parse_class(name: str, block: Mapping[str, Any]) -> Iterator[Entry]:
    default = _modalities(name, block.get("modalities", ""))
    for section, lines in block.items():
        if section == "modalities":
            continue
        if section not in _SECTIONS:
            raise ValueError(
                f"labels.yaml: unknown granularity {section!r} in {name!r}; expected one of {list(_SECTIONS)}"
            )
        for word, values in lines.items():
            entry = _parse_entry(word, values or {}, name, _SECTIONS[section], default)
            yield entry
            series = (values or {}).get("series", ())
            for numbers in [series] if isinstance(series, Mapping) else series:
                yield from _series(entry, numbers)


def _parse_entry(
    word: str, values: Mapping[str, Any], parent: str, granularity: Granularity, default: tuple[str, ...]
) -> Entry:
    if unknown := set(values) - _FIELDS:
        raise ValueError(
            f"labels.yaml: unknown field {sorted(unknown)} of {word!r}; known: {sorted(_FIELDS)}"
        )
    sides = values.get("sides")
    if sides is not None and sides not in _SIDES_OF:
        raise ValueError(f"labels.yaml: unknown side {sides!r} of {word!r}; expected both, right or left")
    of_side = {side: tuple(values[side]) for side in _SIDES_OF["both"] if side in values}
    if of_side and sides is None:
        raise ValueError(f"labels.yaml: {word!r} has names of one side, so it needs `sides`")
    return Entry(
        word=word,
        parent=values.get("in", parent),
        granularity=granularity,
        modalities=_modalities(word, values["modalities"]) if "modalities" in values else default,
        sides=_SIDES_OF[sides] if sides else (),
        synonyms=tuple(values.get("synonyms", ())),
        side_synonyms=of_side,
        adjectives=tuple(values.get("adjectives", ())),
        raw=tuple(values.get("raw", ())),
        snomed=values.get("snomed"),
    )


def _series(entry: Entry, values: Mapping[str, Any]) -> Iterator[Entry]:
    """The numbered members of an entry, counted from 1."""
    codes = values.get("snomed")
    for index in range(values["to"]):
        words = {"n": index + 1, "nth": _NTH[index], "ordinal": _ORDINALS[index], "roman": _ROMAN[index]}
        yield Entry(
            word=values["name"].format(**words),
            parent=entry.word,
            granularity=entry.granularity,
            modalities=entry.modalities,
            sides=entry.sides,
            synonyms=tuple(synonym.format(**words) for synonym in values.get("synonyms", ())),
            snomed=codes[index] if codes else None,
        )


def _modalities(owner: str, codes: str) -> tuple[str, ...]:
    for code in codes.split():
        if code not in MODALITIES:
            raise ValueError(
                f"labels.yaml: unknown modality {code!r} of {owner!r}; expected DICOM codes such as "
                f"{', '.join(MODALITIES)}"
            )
    return tuple(codes.split())


def _near(word: str, known: Collection[str]) -> str:
    return ", ".join(difflib.get_close_matches(word, known, n=3)) or "none"


def checked(names: Collection[str], known: Collection[str]) -> tuple[str, ...]:
    """Return `names`, all of them labels.

    Raises:
        ValueError: one is not in `known`; the nearest are named.
    """
    for name in names:
        if name not in known:
            raise ValueError(f"labels.yaml: {name!r} is not a label; nearest: {_near(name, known)}")
    return cast("tuple[str, ...]", tuple(names))
