"""What the `evaluate` modules of the VQA protocols share; each `vqa_*.py` adds its protocol's score.

`evaluate.load(path)` copies only what the loaded file itself imports, one import a line: a module names
`protocols` too, though only this base calls most of it.
"""

import abc

import datasets
import evaluate

from .protocols import by_answer_type


class VqaMetric(evaluate.Metric, abc.ABC):  # type: ignore[misc]  # evaluate is untyped
    """`compute(predictions, references, answer_types)` -> "open", "closed", "overall" in [0, 1], and extras.

    Abstract, so that `evaluate.load` finds the protocol's own class beside it.
    """

    description: str

    @abc.abstractmethod
    def score(self, prediction: str, reference: str, answer_type: str) -> float:
        """Judge one answer, as the protocol of this name in `protocols` does."""

    def extras(
        self, predictions: list[str], references: list[str], answer_types: list[str]
    ) -> dict[str, float]:
        """Further figures of the protocol; none unless it has some."""
        return {}

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description=self.description,
            citation="",
            inputs_description="predictions, references: str; answer_types: OPEN or CLOSED",
            features=datasets.Features(
                {name: datasets.Value("string") for name in ("predictions", "references", "answer_types")}
            ),
        )

    def _compute(
        self, predictions: list[str], references: list[str], answer_types: list[str]
    ) -> dict[str, float]:
        means = by_answer_type(self.score, predictions, references, answer_types)
        return means | self.extras(predictions, references, answer_types)
