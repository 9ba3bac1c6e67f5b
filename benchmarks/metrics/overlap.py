"""Scores of a text by the words that it shares with references: BLEU-1..4, ROUGE-L, CIDEr.

Knows lists of words, no files and no metric library. Definitions are those of the COCO caption evaluation,
which report generation papers use: equal to its figures to 1e-6 on the same words, written anew and faster.
Whoever compares with a published table must also split words as it does; `report_tokens` is this project's
way.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

Tokens = Sequence[str]
NGRAM_SIZES = (1, 2, 3, 4)
CIDER_SIGMA = 6.0  # of the penalty on a difference in length
ROUGE_BETA = 1.2  # weight of recall in the COCO evaluation

_TINY, _SMALL = 1e-15, 1e-9  # the COCO evaluation's guards against 0 / 0, kept for equal figures
_TOKEN = re.compile(r"\d+(?:\.\d+)+|\w+(?:['’/-]\w+)*")  # noqa: RUF001 (the typographic apostrophe is meant)


class Bleu(NamedTuple):
    """BLEU-1..4 of a corpus, and of each text alone (without smoothing, so mostly 0 for BLEU-4)."""

    corpus: tuple[float, ...]
    each: list[tuple[float, ...]]


def report_tokens(text: str) -> list[str]:
    """Lower-case words without punctuation; "3.4", "non-displaced" and "patient's" stay whole."""
    return _TOKEN.findall(text.lower())


def bleu(candidates: Sequence[Tokens], references: Sequence[Sequence[Tokens]]) -> Bleu:
    """BLEU (Papineni et al. 2002) with the closest reference length, no smoothing.

    Args:
        candidates: words of each text.
        references: one or more references of each text.

    Raises:
        ValueError: the lengths differ, or a text has no reference.
    """
    _check(candidates, references)
    totals = [0] * (2 * len(NGRAM_SIZES))
    said_length = true_length = 0
    each = []
    for said, truths in zip(candidates, references, strict=True):
        counts = _matches(said, truths)
        length = min((abs(len(true) - len(said)), len(true)) for true in truths)[1]
        each.append(_bleu_of(counts, len(said), length))
        totals = [total + count for total, count in zip(totals, counts, strict=True)]
        said_length, true_length = said_length + len(said), true_length + length
    return Bleu(_bleu_of(totals, said_length, true_length), each)


def _matches(said: Tokens, truths: Sequence[Tokens]) -> list[int]:
    """N-grams right for each size, then n-grams said for each size."""
    right = []
    for n in NGRAM_SIZES:
        counts, known = _count(said, n), _count(truths[0], n)
        for true in truths[1:]:
            known |= _count(true, n)
        right.append(sum(min(counts[gram], known[gram]) for gram in counts.keys() & known.keys()))
    return right + [max(0, len(said) - n + 1) for n in NGRAM_SIZES]


def _bleu_of(counts: Sequence[int], said_length: int, true_length: int) -> tuple[float, ...]:
    product, scores = 1.0, []
    for n, right, said in zip(
        NGRAM_SIZES, counts[: len(NGRAM_SIZES)], counts[len(NGRAM_SIZES) :], strict=True
    ):
        product *= (right + _TINY) / (said + _SMALL)
        scores.append(product ** (1 / n))
    ratio = (said_length + _TINY) / (true_length + _SMALL)
    penalty = math.exp(1 - 1 / ratio) if ratio < 1 else 1.0
    return tuple(score * penalty for score in scores)


def rouge_l(candidate: Tokens, references: Sequence[Tokens], *, beta: float = ROUGE_BETA) -> float:
    """F of the longest common subsequence (Lin 2004): best precision and best recall over the references.

    An empty text scores 0. With `beta` 1 and one reference it is the F-measure of the rouge-score package.
    """
    lengths = [_lcs_length(true, candidate) for true in references]
    if not candidate or not any(lengths):
        return 0.0
    precision = max(lengths) / len(candidate)
    recall = max(lcs / len(true) for lcs, true in zip(lengths, references, strict=True) if true)
    return (1 + beta**2) * precision * recall / (recall + beta**2 * precision)


def _lcs_length(a: Tokens, b: Tokens) -> int:
    """Length of the longest common subsequence, a row of the table as the bits of a number (Hyyrö 2004)."""
    places: dict[str, int] = {}
    for k, word in enumerate(a):
        places[word] = places.get(word, 0) | 1 << k
    full = (1 << len(a)) - 1
    row = full
    for word in b:
        hits = row & places.get(word, 0)
        row = ((row + hits) | (row - hits)) & full
    return len(a) - row.bit_count()


def cider(candidates: Sequence[Tokens], references: Sequence[Sequence[Tokens]]) -> list[float]:
    """CIDEr-D (Vedantam et al. 2015) of each text, in [0, 10]; its mean is the corpus figure.

    N-grams weigh by how few texts' references hold them, so a figure belongs to its set of texts: a single
    text, or texts that all share one reference, score 0. Lengths are compared in bigrams, as the COCO
    evaluation does.

    Raises:
        ValueError: the lengths differ, or a text has no reference.
    """
    _check(candidates, references)
    counted = [[[_count(true, n) for n in NGRAM_SIZES] for true in truths] for truths in references]
    frequency: Counter[tuple[str, ...]] = Counter()
    for truths in counted:
        frequency.update(set().union(*(grams for true in truths for grams in true)))
    ceiling = math.log(len(counted)) if counted else 0.0
    weights = {gram: ceiling - math.log(texts) for gram, texts in frequency.items()}
    scores = []
    for said, truths in zip(candidates, counted, strict=True):
        mine = [_count(said, n) for n in NGRAM_SIZES]
        total = sum(_cider_pair(mine, true, weights, ceiling) for true in truths)
        scores.append(10 * total / len(NGRAM_SIZES) / len(truths))
    return scores


def _cider_pair(
    said: Sequence[Counter[tuple[str, ...]]],
    true: Sequence[Counter[tuple[str, ...]]],
    weights: dict[tuple[str, ...], float],
    unseen: float,
) -> float:
    """Sum over sizes of the clipped cosine of TF-IDF vectors, times the penalty on length."""
    total = 0.0
    for counts, known in zip(said, true, strict=True):
        dot = sum(
            min(counts[gram], known[gram]) * known[gram] * weights[gram] ** 2
            for gram in counts.keys() & known.keys()
        )
        if dot:
            norms = [
                math.sqrt(sum((count * weights.get(gram, unseen)) ** 2 for gram, count in grams.items()))
                for grams in (counts, known)
            ]
            total += dot / (norms[0] * norms[1])
    bigrams = said[1].total() - true[1].total()
    return total * math.exp(-(bigrams**2) / (2 * CIDER_SIGMA**2))


def _count(words: Tokens, n: int) -> Counter[tuple[str, ...]]:
    return Counter(zip(*(words[k:] for k in range(n)), strict=False))


def _check(candidates: Sequence[Tokens], references: Sequence[Sequence[Tokens]]) -> None:
    if len(candidates) != len(references) or not all(references):
        raise ValueError(
            f"expected one or more references a text, got {len(candidates)} texts, {len(references)} lists"
            f" of references and {sum(not truths for truths in references)} empty ones;"
            " match them by report first"
        )
