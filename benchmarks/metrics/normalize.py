"""How answers are made comparable before they are compared. Knows no data set and no model."""

from __future__ import annotations

import re
import unicodedata

ARTICLES = frozenset({"a", "an", "the"})
NUMBERS = {
    word: str(value)
    for value, word in enumerate(
        "zero one two three four five six seven eight nine ten eleven twelve".split()
    )
}
YES_NO = {"yes": "yes", "yeah": "yes", "yep": "yes", "y": "yes", "true": "yes"} | {
    "no": "no", "nope": "no", "n": "no", "false": "no"
}  # fmt: skip


def answer_tokens(text: str) -> list[str]:
    """Split into lower-case words without punctuation and articles, numbers as digits, one spelling of x-ray.

    Apostrophes vanish ("patient's" -> "patients"), a point between digits stays ("3.4"), any other
    punctuation separates words ("ring-enhancing" -> "ring", "enhancing"). "X-ray", "X ray", "x-rays" and
    "Xrays" become "xray".
    """
    text = unicodedata.normalize("NFKC", text).lower()
    text = re.sub(r"['’`]", "", text)  # noqa: RUF001 (the typographic apostrophe is meant)
    text = re.sub(r"\bx[\s\-‐-―]*rays?\b", "xray", text)  # noqa: RUF001 (hyphens and dashes)
    text = re.sub(r"(?!(?<=\d)\.(?=\d))[^\w]|_", " ", text)
    return [NUMBERS.get(word, word) for word in text.split() if word not in ARTICLES]


def normalize_answer(text: str) -> str:
    """Normal form of the `exact` protocol: `answer_tokens` joined; a whole answer "yep" is yes, "n" is no."""
    joined = " ".join(answer_tokens(text))
    return YES_NO.get(joined, joined)
