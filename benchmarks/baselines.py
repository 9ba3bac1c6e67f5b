"""Language-only baselines: what memory alone scores. They see training questions and answers, never an image.

Each answers from the split's own training part; nothing is tuned.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence

import numpy as np

from benchmarks.metrics.protocols import answer_tokens, normalize_answer
from benchmarks.tasks.base import Sample

Baseline = Callable[[Sequence[Sample], Sequence[Sample]], list[str]]
"""(training samples, samples) -> one answer a sample."""


def question_type_prior(train: Sequence[Sample], samples: Sequence[Sample]) -> list[str]:
    """The most frequent training answer (in normal form) to questions of the same groups but organ.

    For VQA-RAD: the same answer type (open or closed) and question type(s). Ties go to the answer seen first;
    groups without a training question get the most frequent answer of all.
    """

    def key(sample: Sample) -> tuple[tuple[str, ...], ...]:
        return tuple(values for name, values in sorted(sample.groups.items()) if name != "organ")

    counts: dict[tuple[tuple[str, ...], ...], Counter[str]] = defaultdict(Counter)
    for sample in train:
        counts[key(sample)][normalize_answer(sample.reference)] += 1
    overall = sum(counts.values(), Counter[str]())
    return [(counts.get(key(s)) or overall).most_common(1)[0][0] for s in samples]


def nearest_question(train: Sequence[Sample], samples: Sequence[Sample]) -> list[str]:
    """The answer to the training question with the most similar set of words (Jaccard index).

    Words as in the `exact` protocol; among equally near questions the most frequent answer, then the one seen
    first.
    """
    vocabulary = _vocabulary(train)
    known, asked = (_counts(part, vocabulary) > 0 for part in (train, samples))
    shared = asked.astype(np.float64) @ known.T.astype(np.float64)  # (samples, train)
    sizes = np.array([len(set(answer_tokens(s.prompt))) for s in samples])[:, None]  # unknown words count too
    union = sizes + known.sum(axis=1)[None, :] - shared
    return _vote(train, shared / np.maximum(union, 1))


def nearest_question_tfidf(train: Sequence[Sample], samples: Sequence[Sample]) -> list[str]:
    """The answer to the training question with the greatest TF-IDF cosine.

    Term frequency times log((1 + n) / (1 + document frequency)) + 1, as in scikit-learn's default; ties as in
    `nearest_question`.
    """
    vocabulary = _vocabulary(train)
    known, asked = _counts(train, vocabulary), _counts(samples, vocabulary)
    document_frequency = (known > 0).sum(axis=0)
    idf = np.log((1 + len(train)) / (1 + document_frequency)) + 1
    unit = [
        m * idf / np.maximum(np.linalg.norm(m * idf, axis=1, keepdims=True), 1e-12) for m in (asked, known)
    ]
    return _vote(train, unit[0] @ unit[1].T)


BASELINES: dict[str, Baseline] = {
    "question-type-prior": question_type_prior,
    "nearest-question": nearest_question,
    "nearest-question-tfidf": nearest_question_tfidf,
}


def _vocabulary(train: Sequence[Sample]) -> dict[str, int]:
    words = dict.fromkeys(word for sample in train for word in answer_tokens(sample.prompt))
    return {word: k for k, word in enumerate(words)}


def _counts(samples: Sequence[Sample], vocabulary: dict[str, int]) -> np.ndarray:
    """Occurrences of the vocabulary's words, float64 (samples, words)."""
    counts = np.zeros((len(samples), len(vocabulary)))
    for row, sample in enumerate(samples):
        for word in answer_tokens(sample.prompt):
            if word in vocabulary:
                counts[row, vocabulary[word]] += 1
    return counts


def _vote(train: Sequence[Sample], similarity: np.ndarray) -> list[str]:
    """The most frequent answer among each row's nearest training samples; similarity (samples, train)."""
    answers = [normalize_answer(s.reference) for s in train]
    nearest = similarity >= similarity.max(axis=1, keepdims=True) - 1e-9
    return [Counter(answers[k] for k in np.flatnonzero(row)).most_common(1)[0][0] for row in nearest]
