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
"""(prediction, reference, answer type OPEN or CLOSED) -> score in [0, 1]; nan where the protocol judges
nothing."""

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
_LLAVA_MED_MARKS = ';/[]"{}()=+\\_-><@`,?!'
_LLAVA_MED_NUMBERS = {word: value for word, value in NUMBERS.items() if int(value) <= 10} | {"none": "0"}
_MEDEVALKIT_LEADS = (
    "**answer**:", "**answer**", "*answer*:", "**answer:**", "answer is", "answer:", "final answer",
)  # fmt: skip


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
    """LLaVA-Med's script: 1.0 or 0.0 for closed questions, token recall in [0, 1] for open ones.

    Closed: "yes" or "no" must occur anywhere, also inside a word, and the truth likewise. Recall is the
    script's: the prediction's occurrences of words of the truth, over these plus the truth's occurrences of
    words that the prediction lacks. One departure: the script leaves a closed answer that says yes or no but
    not the truth out of its count (`llava_med_uncounted`); here it is wrong.

    Args:
        prediction: the system's answer.
        reference: the true answer.
        answer_type: "OPEN" or "CLOSED".
    """
    said, true = _llava_med_words(prediction), _llava_med_words(reference)
    if answer_type == "CLOSED":
        text = " ".join(said)
        return float(("yes" in text or "no" in text) and " ".join(true) in text)
    said_words, true_words = set(said), set(true)
    found = sum(word in true_words for word in said)
    lost = sum(word not in said_words for word in true)
    return found / (found + lost) if found else 0.0


def llava_med_uncounted(prediction: str, reference: str) -> bool:
    """Whether LLaVA-Med's script leaves this closed answer out of its count: a wrong yes or no."""
    text = " ".join(_llava_med_words(prediction))
    return ("yes" in text or "no" in text) and " ".join(_llava_med_words(reference)) not in text


def _llava_med_words(text: str) -> list[str]:
    """The script's normal form: a mark with a space beside it anywhere vanishes, else it is a space.

    "none" becomes 0. Left out: its list that puts apostrophes into "dont", which no answer of the data has.
    """
    text = text.lower()
    numeric_comma = re.search(r"\d,\d", text) is not None
    normal = text
    for mark in _LLAVA_MED_MARKS:
        if mark in text:
            vanishes = numeric_comma or f"{mark} " in text or f" {mark}" in text
            normal = normal.replace(mark, "" if vanishes else " ")
    normal = re.sub(r"\.(?!\d)", "", normal, count=32)  # the script passes a flag, 32, where the count goes
    return [_LLAVA_MED_NUMBERS.get(word, word) for word in normal.split() if word not in ARTICLES]


def medevalkit_score(prediction: str, reference: str, answer_type: str) -> float:
    """MedEvalKit's accuracy: exclusive yes or no, equality of all other answers.

    Where the truth is yes or no, exactly one of "yes" and "no" must occur, also inside a word ("abnormal"
    holds "no"). Open answers are compared as they stand: a full stop makes them wrong.

    Args:
        prediction: the system's answer.
        reference: the true answer.
        answer_type: "OPEN" or "CLOSED"; a truth of yes or no is judged as such whatever the type.
    """
    said, true = medevalkit_answer(prediction), reference.lower().strip()
    if true in ("yes", "no") or answer_type == "CLOSED":
        said = said.replace("\n", "").replace(".", "")
    if true in ("yes", "no"):
        return float(("yes" in said) != ("no" in said) and true in said)
    return float(bool(said) and said == true)


def medevalkit_answer(prediction: str) -> str:
    r"""What MedEvalKit takes for the answer, lower case: inside \boxed{} or <answer>, else after "answer is".

    The space after "answer is" stays, as in the script, and makes an open answer wrong.
    """
    text = prediction.lower()
    boxed, tagged = (
        re.findall(r"\\boxed\{([^{}]*)\}", text),
        re.findall(r"<answer>(.*?)</answer>", text, re.S),
    )
    text = (boxed[-1:] or [" ".join(tagged)] if boxed or tagged else [text])[0].strip()
    for lead in _MEDEVALKIT_LEADS:
        text = text.rsplit(lead, 1)[-1]
    return text


def vila_m3_score(prediction: str, reference: str, answer_type: str) -> float:
    """VILA-M3's accuracy: equality in lower case of closed answers; nan for open ones, not judged there.

    Args:
        prediction: the system's answer.
        reference: the true answer.
        answer_type: "OPEN" or "CLOSED".
    """
    return float(prediction.lower() == reference.lower()) if answer_type == "CLOSED" else math.nan


PROTOCOLS: dict[str, Score] = {
    "exact": exact_score,
    "token-f1": token_f1_score,
    "llava-med": llava_med_score,
    "medevalkit": medevalkit_score,
    "vila-m3": vila_m3_score,
}
"""Every protocol by its name, the headline first."""


def by_answer_type(
    score: Score, predictions: Sequence[str], references: Sequence[str], answer_types: Sequence[str]
) -> dict[str, float]:
    """Mean score of the open, the closed and all questions; nan where there is none that the protocol judges.

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
    judged = [value for value in values if not math.isnan(value)]
    return sum(judged) / len(judged) if judged else math.nan
