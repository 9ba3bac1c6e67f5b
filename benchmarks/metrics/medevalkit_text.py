"""The text scores that MedEvalKit gives beside its accuracy of open answers, by the formulas that it calls.

Knows no answer types and no means. BLEU is nltk's sentence BLEU without smoothing; ROUGE is the `rouge`
package's, which counts each n-gram once; F1 is over sets of words. All faults of a short answer stay: BLEU-4
of a one-word answer that is right is near 0.
"""

from __future__ import annotations

import math
import sys
from collections import Counter
from collections.abc import Sequence

from .protocols import medevalkit_answer

OPEN_SCORES = ("bleu1", "bleu2", "bleu3", "bleu4", "rouge1", "rouge2", "rougel", "precision", "recall", "f1")
"""Keys of `open_scores`, in order."""


def open_scores(prediction: str, reference: str) -> dict[str, float]:
    """BLEU-1..4, ROUGE-1, -2, -L and token precision, recall, F1 of one open answer; all 0 where it is empty.

    ROUGE-L is the package's for one sentence: it takes an answer with a full stop inside for several, and
    unites their subsequences; here such an answer stays whole.
    """
    said, true = medevalkit_answer(prediction), reference.lower().strip()
    if not said.strip(" .") or not true.strip(" ."):
        return dict.fromkeys(OPEN_SCORES, 0.0)
    bleus = {f"bleu{n}": _bleu(_bleu_tokens(said), _bleu_tokens(true), n) for n in range(1, 5)}
    words, true_words = (text.replace(".", " ").split() for text in (said, true))
    rouges = {f"rouge{n}": _f_measure(_ngrams(words, n), _ngrams(true_words, n)) for n in (1, 2)}
    lcs = set(_common_subsequence(true_words, words))
    rouge_l = _harmonic(len(lcs) / len(set(words)), len(lcs) / len(set(true_words)))
    said_set, true_set = set(said.split()), set(true.split())
    precision = len(said_set & true_set) / len(said_set)
    recall = len(said_set & true_set) / len(true_set)
    f1 = 2 * precision * recall / (precision + recall) if precision else 0.0
    return {**bleus, **rouges, "rougel": rouge_l, "precision": precision, "recall": recall, "f1": f1}


def _bleu_tokens(text: str) -> list[str]:
    """The script's split: full stops apart, at single spaces."""
    return text.replace(".", " .").split(" ")


def _bleu(said: Sequence[str], true: Sequence[str], max_n: int) -> float:
    """Geometric mean of the precisions of 1- to `max_n`-grams times the brevity penalty, as nltk has it."""
    logs = []
    for n in range(1, max_n + 1):
        counts, known = Counter(_ngram_list(said, n)), Counter(_ngram_list(true, n))
        common = (counts & known).total()
        if n == 1 and not common:
            return 0.0
        logs.append(math.log(common / max(counts.total(), 1) if common else sys.float_info.min))
    penalty = min(1.0, math.exp(1 - len(true) / len(said)))
    return penalty * math.exp(math.fsum(logs) / max_n)


def _ngram_list(words: Sequence[str], n: int) -> list[tuple[str, ...]]:
    return [tuple(words[k : k + n]) for k in range(len(words) - n + 1)]


def _ngrams(words: Sequence[str], n: int) -> set[tuple[str, ...]]:
    return set(_ngram_list(words, n))


def _f_measure(said: set[tuple[str, ...]], true: set[tuple[str, ...]]) -> float:
    common = len(said & true)
    return _harmonic(common / len(said) if said else 0.0, common / len(true) if true else 0.0)


def _harmonic(precision: float, recall: float) -> float:
    return 2 * precision * recall / (precision + recall + 1e-8)  # the package's guard against 0 / 0


def _common_subsequence(a: Sequence[str], b: Sequence[str]) -> list[str]:
    """One longest common subsequence, the one that the package walks back to."""
    table = [[0] * (len(b) + 1) for _ in range(len(a) + 1)]
    for i, word in enumerate(a, start=1):
        for j, other in enumerate(b, start=1):
            same = word == other
            table[i][j] = table[i - 1][j - 1] + 1 if same else max(table[i - 1][j], table[i][j - 1])
    found, i, j = [], len(a), len(b)
    while i and j:
        if a[i - 1] == b[j - 1]:
            found.append(a[i - 1])
            i, j = i - 1, j - 1
        elif table[i - 1][j] > table[i][j - 1]:
            i -= 1
        else:
            j -= 1
    return found[::-1]
