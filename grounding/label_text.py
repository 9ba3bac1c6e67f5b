"""Words: how labels and the texts that name them are read, side words included. Knows no label.

Reading forgives capitals, plurals, hyphens, underscores and British or American spelling.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Final, Literal

Side = Literal["right", "left"]

SIDES: Final[Mapping[str, Side]] = {"right": "right", "rt": "right", "left": "left", "lt": "left"}
ARTICLES: Final = frozenset(("a", "an", "the", "all", "both", "any"))

# Words that may stand between a side and its organ: "right upper lung", "left side of the lungs".
_BETWEEN: Final = frozenset(
    "and or versus vs upper lower middle mid superior inferior anterior posterior lateral medial basal "
    "apical sided side half of the s patient whole entire lobe - /".split()
)
# ... and between two sides: "right and left lung", but not "right of the left kidney";
_LINKS: Final = frozenset("and or versus vs sided - /".split())
# ... and after it: "the kidney on the left", "the lung at the right side".
_AFTER: Final = frozenset("on at in the s patient side".split())

# A word with its possessive, or a mark; the hyphen within a word is neither.
_TOKEN: Final = re.compile("[^\\W_]+(?:['\u2019]s\\b)?|(?!(?<=[^\\W_])-(?=[^\\W_]))[^\\w\\s]")
_HUMP: Final = re.compile(r"(?<=[a-z])(?=[A-Z])")

# Data sets shorten sides to one letter; a question does not.
_RAW_SIDES: Final[Mapping[str, Side]] = {**SIDES, "r": "right", "l": "left"}
_FILLERS: Final = frozenset(("of", "the", "a", "an", "and", "s"))

_AMERICAN: Final[Mapping[str, str]] = {
    "oesoph": "esoph",
    "oedema": "edema",
    "tumour": "tumor",
    "haem": "hem",
    "foet": "fet",
    "naev": "nev",
    "leuco": "leuko",
    "leukaem": "leukem",
    "caec": "cec",
    "coeliac": "celiac",
    "ischaem": "ischem",
    "orrhoe": "orrhe",
    "grey": "gray",
    "fibre": "fiber",
    "orthopaed": "orthoped",
    "isation": "ization",
    "itised": "itized",
}
_MODALITY_WORDS: Final[Mapping[str, str]] = {
    "CR": "X-ray",
    "DX": "X-ray",
    "CT": "CT",
    "MR": "MRI",
    "US": "ultrasound",
    "ES": "endoscopy",
    "DMS": "dermoscopy",
    "OP": "fundus photography",
    "SM": "microscopy",
}


@dataclass(frozen=True)
class Word:
    """A word or a mark of a text.

    Attributes:
        plain: its plain form (lower case, singular, American).
        start: of its first character in the text.
        end: of the character behind it.
    """

    plain: str
    start: int
    end: int


def words_of(text: str) -> list[Word]:
    """Return the words and marks of `text` with their places."""
    return [Word(plain_form(match.group()), *match.span()) for match in _TOKEN.finditer(text)]


def tokenize(text: str) -> list[str]:
    """Return the words and marks of `text`, each word in its plain form (lower case, singular, American)."""
    return [word.plain for word in words_of(text)]


def spelling_key(text: str) -> tuple[str, ...]:
    """Return what two spellings of one label share: their words in any order, fillers and marks left out."""
    return _key(tokenize(text))


def split_sides(text: str) -> tuple[tuple[str, ...], frozenset[Side]]:
    """Return the spelling key of a raw label without its side words, and the sides that it names."""
    tokens = tokenize(text)
    rest = [token for token in tokens if token not in _RAW_SIDES]
    return _key(rest), frozenset(_RAW_SIDES[token] for token in tokens if token in _RAW_SIDES)


def split_humps(text: str) -> str:
    """Return `text` with a space at each change to a capital: "SpinalCord" -> "Spinal Cord"."""
    return _HUMP.sub(" ", text)


def _key(tokens: Iterable[str]) -> tuple[str, ...]:
    words = (SIDES.get(token, token) for token in tokens if token not in _FILLERS and token[0].isalnum())
    return tuple(sorted(words))


@cache
def plain_form(word: str) -> str:
    """Return one word in lower case, singular, in American spelling and without its apostrophe."""
    letters = word.lower().replace("'", "").replace("\u2019", "")
    return _singular(american(letters)).replace("disk", "disc")


def _singular(word: str) -> str:
    """Return a rough singular; wrong ones do no harm, since labels and texts are both read so."""
    if len(word) < 4 or word.endswith(("ss", "us", "is")):
        return word
    for ending, singular in (
        ("ies", "y"),
        ("tases", "tasis"),
        ("oses", "osis"),
        ("uses", "us"),
        ("ises", "is"),
        ("sses", "ss"),
        ("xes", "x"),
        ("ches", "ch"),
        ("s", ""),
        ("ae", "a"),
        ("i", "us"),
    ):
        if word.endswith(ending):
            return word.removesuffix(ending) + singular
    return word


def american(text: str) -> str:
    """Return lower-case British `text` in American spelling."""
    for british, other in _AMERICAN.items():
        text = text.replace(british, other)
    return text


def sides_around(tokens: Sequence[str], floor: int, start: int, end: int) -> tuple[Side, ...]:
    """Return the side words that belong to the term at tokens[start:end], in the order of the text.

    Nothing before `floor` counts.
    """
    before: list[Side] = []
    for index in range(start - 1, floor - 1, -1):
        if tokens[index] in SIDES:
            before.insert(0, SIDES[tokens[index]])
        elif tokens[index] not in (_LINKS if before else _BETWEEN):
            break
    if before or end >= len(tokens) or tokens[end] not in _AFTER:
        return tuple(dict.fromkeys(before))
    after: list[Side] = []
    for token in tokens[end:]:
        if token in SIDES:
            after.append(SIDES[token])
        elif token not in _AFTER | {"and", "or"}:
            break
    return tuple(dict.fromkeys(after))


def phrase_forms(
    names: Sequence[str], organ: str, side: Side | None, modality: str | None
) -> tuple[str, ...]:
    """Return natural ways to ask for a label, each once, the first of `names` first.

    Args:
        names: the label's name and synonyms.
        organ: the name without its side.
        side: the patient's side, or None.
        modality: DICOM code of the image, or None to leave it unsaid.
    """
    name = names[0]
    forms = [form for spelling in names for form in (spelling, american(spelling))]
    forms.append(f"the {name}")
    if side:
        forms += [f"the patient's {side} {organ}", f"{organ} on the patient's {side}"]
    if modality:
        words = _MODALITY_WORDS.get(modality, modality)
        forms += [f"{name} on {words}", f"{words}: {name}"]
    return tuple(dict.fromkeys(forms))
