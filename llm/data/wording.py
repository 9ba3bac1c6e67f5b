"""Words for phrases inside questions and sentences: articles, plurals, lists, and the choice of a wording.

Knows no data set.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Final, TypeVar

Choice = TypeVar("Choice")

_PLURAL_ENDINGS: Final = (("nucleus", "nuclei"), ("vena cava", "venae cavae"), ("y", "ies"), ("ch", "chs"))


def plural(phrase: str) -> str:
    """Several of it: "cell nucleus" -> "cell nuclei", "right kidney" -> "right kidneys"."""
    if phrase.endswith(("ay", "ey", "oy")):
        return f"{phrase}s"
    for ending, many in _PLURAL_ENDINGS:
        if phrase.endswith(ending):
            return phrase.removesuffix(ending) + many
    return f"{phrase}s"


def indefinite(phrase: str) -> str:
    """One of it: "polyp" -> "a polyp", "optic disc" -> "an optic disc"."""
    return f"{'an' if phrase[:1].lower() in 'aeiou' else 'a'} {phrase}"


def sentence_case(text: str) -> str:
    """The text with a capital first letter, the rest as it stands."""
    return text[:1].upper() + text[1:]


def joined(parts: Sequence[str]) -> str:
    """A list in words: "a", "a and b", "a, b and c"."""
    return " and ".join(part for part in (", ".join(parts[:-1]), *parts[-1:]) if part)


def cited(sentence: str, region_ids: Sequence[int]) -> str:
    """A sentence with its regions (0-based): "The liver is seen." -> "The liver is seen [R1]."."""
    marks = "".join(f" [R{index + 1}]" for index in region_ids)
    return f"{sentence.removesuffix('.')}{marks}."


def draw(options: Sequence[Choice], *key: object) -> Choice:
    """One of the options, the same for the same key on every machine."""
    return options[number_of(*key, parts=len(options))]


def number_of(*key: object, parts: int = 1 << 32) -> int:
    """A whole number below `parts` that looks random and follows from the key alone."""
    digest = hashlib.sha256("/".join(map(str, key)).encode()).digest()
    return int.from_bytes(digest[:8]) % parts
