"""The protocols by which answers are judged: pure functions of one answer, and their means by answer type.

Knows no data set, no model and no metric library; `vqa_*.py` beside it offer each protocol to `evaluate`. The
protocols are not one metric: name the one that a figure comes from.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Sequence

Score = Callable[[str, str, str], float]
"""(prediction, reference, answer type OPEN or CLOSED) -> score in [0, 1]."""

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


def exact_score(prediction: str, reference: str, answer_type: str) -> float:
    """1.0 where both have the same non-empty normal form, else 0.0; open and closed answers are judged alike.

    Args:
        prediction: the system's answer.
        reference: the true answer.
        answer_type: "OPEN" or "CLOSED"; unused here, part of the protocols' common signature.
    """
    normal = normalize_answer(prediction)
    return float(bool(normal) and normal == normalize_answer(reference))


def token_f1_score(prediction: str, reference: str, answer_type: str) -> float:
    """Harmonic mean of precision and recall of words with multiplicity; 0.0 where either side is empty.

    Args:
        prediction: the system's answer.
        reference: the true answer.
        answer_type: "OPEN" or "CLOSED"; unused here, part of the protocols' common signature.
    """
    said, true = normalize_answer(prediction).split(), normalize_answer(reference).split()
    common = (Counter(said) & Counter(true)).total()
    return 2 * common / (len(said) + len(true)) if common else 0.0


def llava_med_score(prediction: str, reference: str, answer_type: str) -> float:
    """1.0 or 0.0 for closed questions, token recall in [0, 1] for open ones.

    Recall is the script's: the prediction's occurrences of words of the truth, over these plus the truth's
    occurrences of words that the prediction lacks.

    Args:
        prediction: the system's answer.
        reference: the true answer.
        answer_type: "OPEN" or "CLOSED".
    """
    said, true = answer_tokens(prediction), answer_tokens(reference)
    if answer_type == "CLOSED":
        text = " ".join(said)
        return float(("yes" in text or "no" in text) and " ".join(true) in text)
    found = sum(n for word, n in Counter(said).items() if word in set(true))
    lost = sum(n for word, n in Counter(true).items() if word not in set(said))
    return found / (found + lost) if found else 0.0


def by_answer_type(
    score: Score, predictions: Sequence[str], references: Sequence[str], answer_types: Sequence[str]
) -> dict[str, float]:
    """Mean score of the open, the closed and all questions; nan where there is none.

    Raises:
        ValueError: an answer type is neither OPEN nor CLOSED, or the lengths differ.
    """
    unknown = set(answer_types) - {"OPEN", "CLOSED"}
    if unknown:
        raise ValueError(f"expected answer types OPEN or CLOSED, got {sorted(unknown)}")
    scores = [score(p, r, t) for p, r, t in zip(predictions, references, answer_types, strict=True)]
    of_type = {
        name: [s for s, t in zip(scores, answer_types, strict=True) if t == name.upper()]
        for name in ("open", "closed")
    }
    return {name: _mean(values) for name, values in [*of_type.items(), ("overall", scores)]}


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else math.nan
