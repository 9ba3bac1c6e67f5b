"""What a request is about: the labels that it names and, where no label says it, the user's own words.

Owns sides, plurals, lists that share a noun, places of findings and what the user excludes. Knows no intent.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

from grounding.label_spellings import Term
from grounding.label_text import SIDES, Side, Word, sides_around, tokenize
from grounding.ontology import Ontology

from .planner_lexicon import Lexicon

_BOTH: Final = frozenset("both either each bilateral bilaterally which whichever".split())
_LINKS: Final = frozenset("and or versus vs & / , with than to from".split())
_TO_PLACE: Final = frozenset(
    "in of on within inside at from involving affecting both either each the a an my his her this".split()
)
_PLURAL: Final = re.compile(
    r"(?<![sui'])s$|ae$|[^m]i$|ices$|aces$|^(feet|testes|atria|lentes)$|(?<=ovarie)s$"
)
_SINGULAR: Final = re.compile(r"(biceps|triceps|quadriceps|levator ani|levator scapulae)$")
_IMAGE: Final = frozenset(
    "xray x radiograph ct cta mri mr mra mrcp us ultrasound sonogram scan film image photo photograph "
    "picture study view series slide clinic ward team surgeon specialist department unit board window phase "
    "sequence protocol exam examination doppler echo endoscopy smear".split()
)
# What begins an exclusion; it ends at a mark or at one of _BACK.
_EXCLUDE: Final = re.compile(
    r"(?:^|(?<=\s))(?:skip|except|excluding|exclude|ignore|ignoring|omit|leave(?: out)?|leaving|forget|"
    r"apart from|other than|rather than|instead of|aside from|besides|never mind|no need for|"
    r"(?:do|does)(?: not|nt) (?:want|need|care about|bother with|show|mark|include)|"
    r"not interested in|(?:(?<=[,;(-] )|(?<=but )|(?<=and )|^)not)\b"
)
_BACK: Final = frozenset(". , ; : ! ? - but i just only instead please show find".split())
_RIGHT_OF_WAY: Final = frozenset("now here away there ?".split())  # "right now" is no side


@dataclass(frozen=True)
class Mention:
    """Something that a text names.

    Attributes:
        start: of its first word, counted in words.
        end: of the word behind it.
        names: labels of the tree in the order of the user, or the user's own words.
        word: the label without sides, where it is one of a pair; empty otherwise.
        finding: it is a finding, not a structure.
        group: it is a word for several labels.
        vague: its words say little without the place.
        own: no label says it.
    """

    start: int
    end: int
    names: tuple[str, ...]
    word: str = ""
    finding: bool = False
    group: bool = False
    vague: bool = False
    own: bool = False


@dataclass(frozen=True)
class Reading:
    """A text, read.

    Attributes:
        names: labels and own words in the order of mention, each once; of lone sides none.
        own: those of `names` that no label says.
        masked: the text in lower case, with ORGAN or FINDING for each mention.
        sides: sides that are named and belong to no mention ("and on the left?").
        of_groups: those of `names` that only a word for several labels says.
        understood: it names something or has at least one ordinary word.
    """

    names: tuple[str, ...]
    own: frozenset[str]
    masked: str
    sides: tuple[Side, ...]
    of_groups: frozenset[str]
    understood: bool


class PhraseReader:
    """Reads requests by the label tree of an ontology, whether a model knows the labels or not."""

    def __init__(self, ontology: Ontology) -> None:
        """Build the tables once."""
        self._lexicon = Lexicon(ontology)
        self._tree = ontology.tree

    def read(self, text: str, modality: str | None) -> Reading:
        """Return what `text` names in an image of `modality` (DICOM code or None)."""
        words = self._lexicon.words_in(text, modality)
        mentions = list(self._mentions(text, words, modality))
        mentions += self._own(text, words, mentions)
        mentions = self._placed(sorted(mentions, key=lambda m: m.start), words, modality)
        excluded = _excluded(words)
        mentions, lone = _give_sides(self, mentions, words, excluded)
        kept = [m for m in mentions if m.start not in excluded and not _is_of_image(m, words)]
        names = dict.fromkeys(name for m in kept for name in m.names)
        own = frozenset(name for m in kept if m.own for name in m.names)
        groups = frozenset(name for m in kept if m.group for name in m.names)
        understood = bool(mentions) or any(self._lexicon.is_known(word.plain) for word in words)
        return Reading(tuple(names), own, _masked(text, words, mentions), lone, groups, understood)

    def with_sides(self, names: Sequence[str], sides: Sequence[Side]) -> tuple[str, ...]:
        """Return `names` with those that come in pairs put on `sides`."""
        moved: list[str] = []
        for name in names:
            entry = self._tree.entry_of.get(name)
            pair = entry is not None and len(entry.sides) == 2
            moved += [entry.sided(side) for side in sides] if entry and pair else [name]
        return tuple(dict.fromkeys(moved))

    # ---- labels -----------------------------------------------------------------------------------------

    def _mentions(self, text: str, words: Sequence[Word], modality: str | None) -> Iterator[Mention]:
        tokens = [word.plain for word in words]
        position, floor = 0, 0
        while position < len(tokens):
            found = self._lexicon.match(tokens, position, modality)
            if found is None:
                position += 1
                continue
            term, length = found
            end = position + length
            start = position
            for shared in self._sharing(tokens, position, end, modality):
                start = position - 2
                first = self._mention(text, words, shared, (start, end), floor, modality)
                yield replace(first, end=start + 1)
            whole = self._mention(text, words, term, (start, end), floor, modality)
            yield replace(whole, start=position)
            position = floor = end

    def _sharing(self, tokens: Sequence[str], start: int, end: int, modality: str | None) -> Iterator[Term]:
        """The term that shares its noun with the one at tokens[start:end]: "upper and lower lobes"."""
        if end - start < 2 or start < 2 or tokens[start - 1] not in _LINKS:
            return
        run = [tokens[start - 2], *tokens[start + 1 : end]]
        found = self._lexicon.exact(run, 0, modality)
        if found and found[1] == len(run):
            yield found[0]

    def _mention(
        self,
        text: str,
        words: Sequence[Word],
        term: Term,
        span: tuple[int, int],
        floor: int,
        modality: str | None,
    ) -> Mention:
        start, end = span
        labels = self._tree.labels
        if term.group:
            seen = tuple(n for n in term.labels if modality is None or modality in labels[n].modalities)
            finding = any(labels[name].granularity == "lesion" for name in seen)
            return Mention(start, end, seen, group=True, finding=finding)
        if not term.labels:  # a longer name that contains a label's and means something else
            return Mention(start, end, (text[words[start].start : words[end - 1].end].lower(),), own=True)
        entry = self._tree.entry_of[term.labels[0]]
        finding = entry.granularity == "lesion"
        if len(term.labels) < 2 or len(entry.sides) < 2:
            return Mention(start, end, term.labels, finding=finding, vague=term.vague)
        tokens = [word.plain for word in words]
        sides = sides_around(tokens, floor, start, end)
        if sides:
            return Mention(start, end, tuple(map(entry.sided, sides)), finding=finding, word=entry.word)
        last = text[words[start].start : words[end - 1].end].lower()
        near = tokens[max(floor, start - 3) : start] + tokens[end : end + 3]
        both = bool(_BOTH.intersection(near)) or ("side" in near and "both" in tokens)
        if both or (not finding and _is_plural(last)):
            return Mention(start, end, term.labels, finding=finding, word=entry.word)
        return Mention(start, end, (entry.word,), finding=finding, word=entry.word)

    # ---- the user's own words ---------------------------------------------------------------------------

    def _own(self, text: str, words: Sequence[Word], mentions: Sequence[Mention]) -> Iterator[Mention]:
        vocabulary = self._lexicon.words
        taken = {index for mention in mentions for index in range(mention.start, mention.end)}
        for index, word in enumerate(words):
            finding = vocabulary.is_finding(word.plain)
            if index in taken or not (finding or word.plain in vocabulary.things):
                continue
            if index and words[index - 1].plain in ("its", "their"):  # "its edge": a part of what is named
                continue
            start = index
            while start > 0 and start - 1 not in taken and self._lexicon.qualifies(words[start - 1].plain):
                start -= 1
            own = text[words[start].start : word.end].lower()
            yield Mention(start, index + 1, (" ".join(own.split()),), finding=finding, own=True)

    # ---- what belongs together --------------------------------------------------------------------------

    def _placed(
        self, mentions: Sequence[Mention], words: Sequence[Word], modality: str | None
    ) -> list[Mention]:
        """Read a finding and its place as one label where there is one: "cyst in the liver"."""
        tokens = [word.plain for word in words]
        done: list[Mention] = []
        for mention in mentions:
            if not done:
                done.append(mention)
                continue
            before, between = done[-1], tokens[done[-1].end : mention.start]
            if mention.own and not mention.finding and not before.own and not between:
                done[-1] = replace(mention, start=before.start, names=(_joined(before, mention, tokens),))
            elif (
                (before.own or before.group or before.vague) and _leads_to_place(between) and not mention.own
            ):
                done[-1:] = self._together(before, mention, tokens)
            elif (mention.own or mention.group or mention.vague) and not before.own and not between:
                done[-1:] = self._together(mention, before, tokens)
            else:
                done.append(mention)
        return done

    def _together(self, finding: Mention, place: Mention, tokens: Sequence[str]) -> list[Mention]:
        """One label for a finding in its place, else both, a group word only with what lies there."""
        start, end = min(finding.start, place.start), max(finding.end, place.end)
        entry = self._tree.entry_of.get(place.names[0]) if place.names else None
        if not finding.finding or entry is None or place.finding or place.group:
            return sorted([finding, place], key=lambda m: m.start)
        said = tokens[finding.end - 1]
        for noun in (said, "tumor" if said in ("mass", "neoplasm", "growth", "cancer") else said):
            for organ in (entry.word, *entry.synonyms, *entry.adjectives):
                found = self._lexicon.exact([*tokenize(organ), noun], 0, None)
                if found is None or found[1] != len(tokenize(organ)) + 1:
                    continue
                whole = self._tree.entry_of[found[0].labels[0]]
                if len(whole.sides) == 2 and place.word and place.names[0] != place.word:
                    sides = [self._tree.labels[name].side for name in place.names]
                    names = tuple(whole.sided(side) for side in sides if side)
                    return [Mention(start, end, names, finding=True, word=whole.word)]
                one = Mention(start, end, (whole.name,), finding=True)
                sided = place.word and place.names[0] != place.word and len(place.names) == 1
                return (
                    sorted([replace(one, start=finding.start, end=finding.end), place], key=lambda m: m.start)
                    if sided
                    else [one]
                )
        if finding.group:
            there = tuple(n for n in finding.names if entry.word in self._above(n))
            names, own = (there, False) if there else ((said,), True)
            finding = replace(finding, names=names, own=own)
        return sorted([finding, place], key=lambda m: m.start)

    def _above(self, name: str) -> tuple[str, ...]:
        entry = self._tree.entry_of.get(name)
        return self._tree.chain(entry.word) if entry else ()


def _is_plural(word: str) -> bool:
    return bool(_PLURAL.search(word)) and not _SINGULAR.search(word)


def _leads_to_place(tokens: Sequence[str]) -> bool:
    places = [token for token in tokens if token not in SIDES]
    return bool(places) and set(places) <= _TO_PLACE and not set(places) <= {"the", "a", "an"}


def _joined(first: Mention, second: Mention, tokens: Sequence[str]) -> str:
    return " ".join([*tokens[first.start : first.end], second.names[0]])


def _is_of_image(mention: Mention, words: Sequence[Word]) -> bool:
    """Whether it only says what the image or its reader is of: "knee x-ray", "eye clinic"."""
    behind = words[mention.end].plain if mention.end < len(words) else ""
    return behind in _IMAGE


def _excluded(words: Sequence[Word]) -> frozenset[int]:
    """The places of the words that the user does not want."""
    starts: dict[int, int] = {}
    text = ""
    for index, word in enumerate(words):
        starts[len(text)] = index
        text += word.plain + " "
    excluded: set[int] = set()
    for match in _EXCLUDE.finditer(text):
        index = starts.get(match.start(), len(words)) + len(match.group().split())
        while index < len(words) and words[index].plain not in _BACK:
            excluded.add(index)
            index += 1
    return frozenset(excluded)


def _give_sides(
    reader: PhraseReader, mentions: Sequence[Mention], words: Sequence[Word], excluded: frozenset[int]
) -> tuple[list[Mention], tuple[Side, ...]]:
    """Hand the sides that stand alone to the pair that they are said of; return what is left of them."""
    tokens = [word.plain for word in words]
    covered = {index for m in mentions for index in range(m.start, m.end)}
    used: set[int] = set()
    for mention in mentions:
        if mention.word and mention.names[0] != mention.word:
            used |= _sides_near(tokens, mention)
    lone: dict[int, Side] = {}
    for index, token in enumerate(tokens):
        free = token in SIDES and index not in covered | used | excluded
        behind = tokens[index + 1] if index + 1 < len(tokens) else ""
        tag = token == "right" and (behind in _RIGHT_OF_WAY and (index == 0 or tokens[index - 1] in ", all"))
        if free and not tag and behind != "of":
            lone[index] = SIDES[token]
    sides = tuple(dict.fromkeys(lone.values()))
    pairs = [m for m in mentions if m.word and m.start not in excluded]
    if not sides or not pairs:
        return list(mentions), sides if not mentions else ()
    last = pairs[-1]
    if last.names[0] == last.word or not _is_sided(last, tokens):
        names = reader.with_sides((last.word,), sides)
    elif any(set(tokens[max(0, i - 3) : i]) & _LINKS for i in lone if i >= last.end):
        names = tuple(dict.fromkeys((*last.names, *reader.with_sides((last.word,), sides))))
    else:
        return list(mentions), ()
    return [replace(m, names=names) if m is last else m for m in mentions], ()


def _is_sided(mention: Mention, tokens: Sequence[str]) -> bool:
    return bool(_sides_near(tokens, mention))


def _sides_near(tokens: Sequence[str], mention: Mention) -> set[int]:
    """The places of the side words that `mention` has taken."""
    reach = range(max(0, mention.start - 6), min(len(tokens), mention.end + 5))
    named = {name.split()[0] for name in mention.names}
    return {i for i in reach if tokens[i] in SIDES and SIDES[tokens[i]] in named} if len(named) else set()


def _masked(text: str, words: Sequence[Word], mentions: Sequence[Mention]) -> str:
    pieces, end = [], 0
    for mention in sorted(mentions, key=lambda m: m.start):
        start = words[mention.start].start
        if start < end:
            continue
        end_word = words[mention.end - 1]
        measured = " " + end_word.plain if end_word.plain == "circumference" else ""  # a thing and a size
        pieces += [text[end:start].lower(), "FINDING" if mention.finding else "ORGAN", measured]
        end = end_word.end
    return "".join([*pieces, text[end:].lower()])
