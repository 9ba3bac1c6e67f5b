"""Baselines behind the models' protocol: what memory alone scores. Nothing is tuned.

Each answers from the split's own training part. Those on questions never open an image; the nearest report
compares images as thumbnails, which knows nothing of medicine.
"""

from __future__ import annotations

import abc
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from scipy import sparse

from benchmarks.metrics.protocols import answer_tokens, normalize_answer
from benchmarks.prediction_cache import Answer
from benchmarks.tasks.base import Sample

Train = Callable[[], Sequence[Sample]]
"""Gives the training part when it is needed."""

_NOT_IN_PRIOR = ("organ", "modality")
_THUMBNAIL = 32
_MAX_IMAGES = 20_000


class Baseline(abc.ABC):
    """Fits on the training part once, then answers."""

    def __init__(self, train: Train) -> None:
        """Remember where the training part comes from."""
        self._train = train
        self._fitted = False

    def prepare(self) -> None:
        """Fit, once."""
        if not self._fitted:
            self.fit(self._train())
            self._fitted = True

    def length(self, sample: Sample, condition: str) -> int:
        """Of the question, in characters."""
        return len(sample.prompt)

    def answer(self, samples: Sequence[Sample], condition: str) -> list[Answer]:
        """Answers without confidence."""
        return [(text, None) for text in self.texts(samples)]

    @abc.abstractmethod
    def fit(self, train: Sequence[Sample]) -> None:
        """Learn the training part by heart."""

    @abc.abstractmethod
    def texts(self, samples: Sequence[Sample]) -> list[str]:
        """One answer a sample."""


class MostFrequent(Baseline):
    """The most frequent training answer; ties go to the one seen first."""

    def fit(self, train: Sequence[Sample]) -> None:
        """Count."""
        self._answer = Counter(known_answer(sample) for sample in train).most_common(1)[0][0]

    def texts(self, samples: Sequence[Sample]) -> list[str]:
        """The same for all."""
        return [self._answer] * len(samples)


class QuestionTypePrior(Baseline):
    """The most frequent training answer to questions of the same groups, but for organ and modality.

    For VQA-RAD: the same answer type (open or closed) and question type(s). Ties go to the answer seen first;
    groups without a training question get the most frequent answer of all.
    """

    def fit(self, train: Sequence[Sample]) -> None:
        """Count by groups."""
        self._counts: dict[tuple[tuple[str, ...], ...], Counter[str]] = defaultdict(Counter)
        for sample in train:
            self._counts[_kind(sample)][known_answer(sample)] += 1
        self._overall = sum(self._counts.values(), Counter[str]())

    def texts(self, samples: Sequence[Sample]) -> list[str]:
        """One answer a kind."""
        return [(self._counts.get(_kind(s)) or self._overall).most_common(1)[0][0] for s in samples]


class NearestQuestion(Baseline):
    """The answer to the training question with the most similar set of words (Jaccard index).

    Words as in the `exact` protocol; among equally near questions the most frequent answer, then the one seen
    first.
    """

    def words(self, sample: Sample) -> list[str]:
        """What is compared."""
        return answer_tokens(sample.prompt)

    def fit(self, train: Sequence[Sample]) -> None:
        """Count the words of each question."""
        words = dict.fromkeys(word for sample in train for word in self.words(sample))
        self._index = {word: k for k, word in enumerate(words)}
        self._answers = [known_answer(sample) for sample in train]
        self._known = self.counts(train)

    def texts(self, samples: Sequence[Sample]) -> list[str]:
        """The vote of each sample's nearest questions."""
        return [_vote(self._answers, row) for row in self.similarity(samples)]

    def similarity(self, samples: Sequence[Sample]) -> npt.NDArray[np.float64]:
        """(samples, training questions), in [0, 1]."""
        known, asked = self._known > 0, self.counts(samples) > 0
        shared = (asked.astype(np.float64) @ known.T.astype(np.float64)).toarray()
        sizes = np.array([len(set(self.words(s))) for s in samples])[:, None]  # unknown words count too
        union = sizes + np.asarray(known.sum(axis=1)).reshape(1, -1) - shared
        return np.asarray(shared / np.maximum(union, 1))

    def counts(self, samples: Sequence[Sample]) -> sparse.csr_array:
        """Occurrences of known words, float64 (samples, words)."""
        places = [
            (row, self._index[word])
            for row, sample in enumerate(samples)
            for word in self.words(sample)
            if word in self._index
        ]
        rows, columns = np.array(places, dtype=np.int64).reshape(-1, 2).T
        return sparse.csr_array(
            (np.ones(len(places)), (rows, columns)), shape=(len(samples), len(self._index))
        )


class NearestQuestionAndFile(NearestQuestion):
    """As `NearestQuestion`, with the name of the image's file as one more word: memory of the training set.

    No image is opened. What it scores above `NearestQuestion` is owed to images that recur.
    """

    def words(self, sample: Sample) -> list[str]:
        """The question's, and the file."""
        return [*super().words(sample), f"file:{sample.image_path}"]


class NearestQuestionTfidf(NearestQuestion):
    """The answer to the training question with the greatest TF-IDF cosine.

    Term frequency times log((1 + n) / (1 + document frequency)) + 1, as in scikit-learn's default; ties as in
    `NearestQuestion`.
    """

    def similarity(self, samples: Sequence[Sample]) -> npt.NDArray[np.float64]:
        """Cosines, (samples, training questions)."""
        documents = np.asarray((self._known > 0).sum(axis=0)).ravel()
        idf = np.log((1 + self._known.shape[0]) / (1 + documents)) + 1
        asked, known = (_unit_rows(counts.multiply(idf)) for counts in (self.counts(samples), self._known))
        return np.asarray((asked @ known.T).toarray())


class NearestReport(Baseline):
    """The report of the training image that looks most alike: 32 x 32 grey thumbnails, correlated.

    Of more than 20,000 training images, evenly spaced ones are compared.
    """

    def fit(self, train: Sequence[Sample]) -> None:
        """Look at the training images."""
        self._reports = [train[k] for k in np.unique(np.linspace(0, len(train) - 1, _MAX_IMAGES, dtype=int))]
        self._seen = np.stack([thumbnail(sample.image_path) for sample in self._reports])

    def texts(self, samples: Sequence[Sample]) -> list[str]:
        """One report a sample; the first of equally near ones."""
        seen = np.stack([thumbnail(sample.image_path) for sample in samples])
        return [self._reports[k].reference for k in np.argmax(seen @ self._seen.T, axis=1)]


VQA_BASELINES: dict[str, type[Baseline]] = {
    "most-frequent": MostFrequent,
    "question-type-prior": QuestionTypePrior,
    "nearest-question": NearestQuestion,
    "nearest-question-tfidf": NearestQuestionTfidf,
    "nearest-question-and-file": NearestQuestionAndFile,
}
REPORT_BASELINES: dict[str, type[Baseline]] = {"most-frequent": MostFrequent, "nearest-report": NearestReport}


def known_answer(sample: Sample) -> str:
    """An answer as it is counted: in the normal form of `exact`, or a report as it stands."""
    return normalize_answer(sample.reference) if "answer type" in sample.groups else sample.reference


def thumbnail(path: Path) -> npt.NDArray[np.float64]:
    """The picture as a grey vector of mean 0 and length 1; a blank one is all zeros."""
    from PIL import Image

    from grounding.types import MedicalImage

    picture = Image.fromarray(MedicalImage.open(path).pixels).convert("L")
    grey = np.asarray(picture.resize((_THUMBNAIL, _THUMBNAIL), Image.Resampling.BOX), dtype=np.float64)
    centred = (grey - grey.mean()).ravel()
    return np.asarray(centred / max(float(np.linalg.norm(centred)), 1e-12))


def _kind(sample: Sample) -> tuple[tuple[str, ...], ...]:
    return tuple(values for name, values in sorted(sample.groups.items()) if name not in _NOT_IN_PRIOR)


def _unit_rows(matrix: sparse.sparray) -> sparse.csr_array:
    lengths = np.sqrt(np.asarray(matrix.multiply(matrix).sum(axis=1)).ravel())
    return sparse.csr_array(sparse.diags_array(1 / np.maximum(lengths, 1e-12)) @ matrix)


def _vote(answers: Sequence[str], similarity: npt.NDArray[np.float64]) -> str:
    """The most frequent answer among the nearest training samples; similarity (train,)."""
    nearest = np.flatnonzero(similarity >= similarity.max() - 1e-9).tolist()
    return Counter(answers[k] for k in nearest).most_common(1)[0][0]
