"""What a word or a short run of words may name, wider than the spellings of the label tree.

Owns abbreviations, short forms ("callosum"), adjectives ("hippocampal"), raw names of data sets and typing
errors. Knows no sentence: see `planner_phrases`.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from importlib import resources
from typing import Any, Final

import yaml

from grounding.label_spellings import Term
from grounding.label_text import SIDES, Word, american, plain_form, tokenize, words_of
from grounding.label_tree import Entry
from grounding.ontology import Ontology

_LONGEST_SHORT_FORM: Final = 4
# Latin stems meet here: hippocampus - hippocampal, larynx - laryngeal, placenta - placental.
_NOUN_ENDING: Final = re.compile(r"(us|um|ae|a|is|es|on|x|e|y)$")
_ADJECTIVE_ENDING: Final = re.compile(r"(e?al|i?ar|iac|ic|ous|ary|oid|ial|ean)$")
_FINDING_ENDING: Final = re.compile(
    r"\w{3}(oma|iti|itis|osis|iasis|emia|opathy|cele|ectasis|ectasia|megaly|stenosis|plasia|trophy|thorax|"
    r"penia|malacia|listhesis|edema|lith|rrhage)$"
)
_PARTICIPLE: Final = re.compile(r"(ed|ing|ly|est)$")
_NO_FINDINGS: Final = frozenset(("diagnosis", "prognosis", "coma", "aroma", "diploma"))


@dataclass(frozen=True)
class Vocabulary:
    """The words of `planner_words.yaml`, in plain form.

    Attributes:
        replaced: tokens that are typed -> DICOM modality or "any" -> words that they stand for.
        short: a lone word -> DICOM modality -> the label that it means.
        things: nouns that head the name of a structure or device.
        findings: nouns of findings.
        descriptions: adjectives that are no part of a phrase.
        common: ordinary words.
    """

    replaced: Mapping[tuple[str, ...], Mapping[str, str]]
    short: Mapping[str, Mapping[str, str]]
    things: frozenset[str]
    findings: frozenset[str]
    descriptions: frozenset[str]
    common: frozenset[str]

    @classmethod
    @cache
    def load(cls) -> Vocabulary:
        """Return the words of the package (read once a process)."""
        text = resources.files(__package__).joinpath("planner_words.yaml").read_text(encoding="utf-8")
        data: Mapping[str, Any] = yaml.safe_load(text)
        replaced = {}
        for typed, meant in {**data["abbreviations"], **data["spellings"]}.items():
            replaced[tuple(tokenize(typed))] = meant if isinstance(meant, dict) else {"any": meant}
        lists = ("things", "findings", "descriptions", "common")
        short = {plain_form(word): meant for word, meant in data["short"].items()}
        return cls(replaced, short, *(frozenset(map(plain_form, data[name].split())) for name in lists))

    def is_finding(self, token: str) -> bool:
        """Whether a word that no label says is the name of a finding."""
        return token in self.findings or (
            bool(_FINDING_ENDING.match(token) or _FINDING_ENDING.search(token)) and token not in _NO_FINDINGS
        )


class Lexicon:
    """Looks words up in the label tree of an ontology and in the vocabulary."""

    def __init__(self, ontology: Ontology) -> None:
        """Build the tables of `ontology`'s tree."""
        self.tree, self.words = ontology.tree, Vocabulary.load()
        self._spellings = ontology.spellings
        self._longest = max(map(len, self._spellings.terms))
        self._short: dict[tuple[str, ...], dict[int, set[str]]] = {}
        self._stems: dict[str, set[str]] = {}
        self._raw: dict[tuple[str, ...], str] = {}
        for entry in self.tree.entries.values():
            self._raw.update({tuple(tokenize(raw)): entry.word for raw in entry.raw})
            for tokens in _spelled(entry):
                self._add(entry.word, tokens)
        known = {token for key in self._spellings.terms for token in key}
        written = {word: plain_form(word) for entry in self.tree.entries.values() for word in _written(entry)}
        plain = (known | self.words.things | self.words.findings) - self.words.common
        self._vocabulary = {t: p for t, p in ({**written, **{t: t for t in plain}}).items() if len(t) > 3}
        self._known = known | self.words.common | self.words.descriptions | self.words.things
        self._known |= {token for key in self._spellings.raw for token in key}

    def _add(self, word: str, tokens: tuple[str, ...]) -> None:
        if len(tokens) == 1:
            self._stems.setdefault(_NOUN_ENDING.sub("", tokens[0]), set()).add(word)
        for length in range(1, min(len(tokens), _LONGEST_SHORT_FORM + 1)):
            for kept in itertools.combinations(tokens, length):
                self._short.setdefault(kept, {}).setdefault(len(tokens) - length, set()).add(word)

    # ---- words ------------------------------------------------------------------------------------------

    def words_in(self, text: str, modality: str | None) -> list[Word]:
        """Return the words of `text`, abbreviations written out and typing errors mended.

        What a word is replaced by keeps the place of the word.
        """
        words = words_of(text)
        found: list[Word] = []
        position = 0
        while position < len(words):
            meant, length = self._replacement(text, words, position, modality)
            start, end = words[position].start, words[position + length - 1].end
            if meant:
                found += [Word(token, start, end) for token in tokenize(meant)]
            else:
                found.append(replace(words[position], plain=self.mended(words[position].plain)))
            position += length
        return found

    def _replacement(
        self, text: str, words: Sequence[Word], position: int, modality: str | None
    ) -> tuple[str, int]:
        typed = text[words[position].start : words[position].end]
        if typed in ("R", "L") and words[position + 1 : position + 2]:
            if tuple(w.plain for w in words[position : position + 2]) not in self.words.replaced:
                return ("right" if typed == "R" else "left"), 1
        for length in (5, 4, 3, 2, 1):
            run = words[position : position + length]
            meanings = self.words.replaced.get(tuple(word.plain for word in run))
            if meanings is None or len(run) < length:
                continue
            meant = meanings.get(modality or "any", meanings.get("any", ""))
            if not meant or (length == 1 and len(typed) < 3 and typed.islower()):
                continue
            if length > 1 or len(typed) > 3 or self._may_be_seen(meant, modality):
                return meant, length
        return "", 1

    def mended(self, token: str) -> str:
        """Return the word of a label that `token` misspells, or `token`."""
        if len(token) < 5 or not token.isalpha() or token in self._known or self.by_stem(token):
            return token
        if self.words.is_finding(token) and not any(_distance(token, w, 1) <= 1 for w in self._near(token)):
            return token
        most = 1 if len(token) < 10 else 2
        scored = [(_distance(token, word, most), word) for word in self._near(token) if _alike(token, word)]
        best = min((pair for pair in scored if pair[0] <= most), default=(0, token))
        return self._vocabulary.get(best[1], best[1])

    def is_known(self, token: str) -> bool:
        """Whether `token` is a word of a label or an ordinary one."""
        return token in self._known

    def _near(self, token: str) -> Iterator[str]:
        return (w for w in self._vocabulary if w[0] == token[0] and abs(len(w) - len(token)) <= 2)

    # ---- terms ------------------------------------------------------------------------------------------

    def match(self, tokens: Sequence[str], position: int, modality: str | None) -> tuple[Term, int] | None:
        """Return the term that begins at `position` and its length in tokens; None where none does.

        The longest spelling of the tree, unless a longer loose form says something that the tree's spellings
        do not; a lone word may also be an adjective of a label.
        """
        exact = self.exact(tokens, position, modality)
        reach = exact[1] if exact else 0
        for length in range(min(_LONGEST_SHORT_FORM, len(tokens) - position), reach, -1):
            run = tuple(tokens[position : position + length])
            rest = range(position + max(reach, 1), position + length)
            if any(self.exact(tokens, index, modality) for index in rest):
                continue
            qualified = position > 0 and self.qualifies(tokens[position - 1])
            if term := self._loose(run, modality, qualified):
                return replace(term, vague=length == 1), length
        if exact is None and (name := self.words.short.get(tokens[position], {}).get(modality or "")):
            finding = self.tree.labels[name].granularity == "lesion"  # before one, a word only describes it
            if finding or position == 0 or not self.qualifies(tokens[position - 1]):
                return replace(self.term_of(name), vague=True), 1
        if exact is None and (name := self.by_stem(tokens[position])):
            return self.term_of(name), 1
        return exact

    def exact(self, tokens: Sequence[str], position: int, modality: str | None) -> tuple[Term, int] | None:
        """Return the longest spelling of the tree that begins at `position`."""
        for length in range(min(self._longest, len(tokens) - position), 0, -1):
            key = tuple(tokens[position : position + length])
            if label := self._spellings.by_modality.get(tuple(sorted(key)), {}).get(modality or ""):
                return self.term_of(label), length
            for term in self._spellings.terms.get(key, ()):
                if not term.vague or self._seen(term.labels, modality):
                    return term, length
        return None

    def _may_be_seen(self, meant: str, modality: str | None) -> bool:
        """Whether what an abbreviation stands for is seen in the modality: no left atrium in a stomach."""
        tokens = [token for token in tokenize(meant) if token not in SIDES]
        found = self.exact(tokens, 0, modality)
        return modality is None or found is None or self._seen(found[0].labels, modality)

    def _seen(self, labels: Sequence[str], modality: str | None) -> bool:
        return any(modality in self.tree.labels[name].modalities for name in labels)

    def qualifies(self, token: str) -> bool:
        """Whether a word before a noun is part of the thing's name, though no label has it: "yolk sac"."""
        plain = token.isalpha() and len(token) > 2 and token not in SIDES
        how = token in self.words.common or token in self.words.descriptions
        return plain and not how and not _PARTICIPLE.search(token)

    def _loose(self, run: tuple[str, ...], modality: str | None, qualified: bool) -> Term | None:
        """A raw name of a data set, or a label with some of its words left out where no other word stands."""
        if (
            not all(token.isalnum() for token in run)
            or run[0] in SIDES
            or (len(run) == 1 and len(run[0]) < 3 and not _is_level(run[0], modality))
        ):
            return None
        name = self._raw.get(run)
        if name and run[0] not in self.words.common:
            return self.term_of(name)
        if qualified or all(token in self.words.common | self.words.descriptions for token in run):
            return None
        if len(run) == 1 and (_ADJECTIVE_ENDING.search(run[0]) or run[0] in self.words.things):
            return None
        if run[0] in self.words.common or run[-1] in self.words.descriptions:
            return None
        for _, words in sorted(self._short.get(run, {}).items()):
            seen = [w for w in words if modality is None or modality in self.tree.entries[w].modalities]
            if seen:
                return self.term_of(seen[0]) if len(seen) == 1 else None
        return None

    def by_stem(self, token: str) -> str:
        """Return the label whose adjective `token` is ("hippocampal"), or an empty string."""
        stem = _ADJECTIVE_ENDING.sub("", token)
        if stem == token or len(stem) < 4 or token in self.words.common | self.words.descriptions:
            return ""
        words = self._stems.get(stem, set())
        return next(iter(words)) if len(words) == 1 else ""

    def term_of(self, name: str) -> Term:
        """Return the term of one label; of a pair's unsided label, of both its sides."""
        entry = self.tree.entry_of[name]
        if name == entry.word and len(entry.sides) == 2:
            return Term(tuple(map(entry.sided, entry.sides)), entry.sides)
        return Term((name,))


def _spelled(entry: Entry) -> Iterator[tuple[str, ...]]:
    of_sides = itertools.chain.from_iterable(entry.side_synonyms.values())
    for spelling in (entry.word, *entry.synonyms, *of_sides):
        yield tuple(token for token in tokenize(spelling) if token not in ("of", "the"))


def _written(entry: Entry) -> Iterator[str]:
    """The words of an entry as they are written: "pancreas", not its plain form."""
    for spelling in (entry.word, *entry.synonyms):
        yield from (american(word) for word in re.findall(r"[a-z]+", spelling.lower()))


def _is_level(token: str, modality: str | None) -> bool:
    """Whether "L4" is a vertebra; T1 and T2 are weightings in MR."""
    bone = bool(re.fullmatch(r"[ctls]\d", token))
    return bone and (token not in ("t1", "t2") or modality in ("CT", "CR", "DX"))


def _alike(typed: str, word: str) -> bool:
    """Whether a short word keeps its letters, and a long one its ending: "store" is no stone."""
    if len(typed) == len(word) == 5:
        return sorted(typed) == sorted(word)
    return len(typed) < 10 or typed[-2:] == word[-2:]


def _distance(first: str, second: str, most: int) -> int:
    """Letters to add, drop, change or swap with their neighbour; `most` + 1 for anything beyond `most`."""
    if abs(len(first) - len(second)) > most:
        return most + 1
    before: list[int] = []
    row = list(range(len(second) + 1))
    for i, letter in enumerate(first, 1):
        before, above, row = row, before, [i]
        for j, other in enumerate(second, 1):
            cost = min(before[j] + 1, row[j - 1] + 1, before[j - 1] + (letter != other))
            if above and j > 1 and letter == second[j - 2] and first[i - 2] == other:
                cost = min(cost, above[j - 2] + 1)
            row.append(cost)
        if min(row) > most:
            return most + 1
    return row[-1]
