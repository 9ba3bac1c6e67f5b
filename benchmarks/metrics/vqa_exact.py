"""Protocol `exact`: normalised exact match, for open and closed questions alike. The default headline."""

import datasets
import evaluate

from .protocols import by_answer_type, exact_score

DESCRIPTION = """Normalised exact match: lower case, articles and punctuation dropped, number words as digits,
yes/no aliases, one spelling of x-ray. An empty prediction is wrong."""


class VqaExact(evaluate.Metric):  # type: ignore[misc]  # evaluate is untyped
    """`compute(predictions, references, answer_types)` -> {"open", "closed", "overall"} in [0, 1]."""

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description=DESCRIPTION,
            citation="",
            inputs_description="predictions, references: str; answer_types: OPEN or CLOSED",
            features=datasets.Features(
                {name: datasets.Value("string") for name in ("predictions", "references", "answer_types")}
            ),
        )

    def _compute(
        self, predictions: list[str], references: list[str], answer_types: list[str]
    ) -> dict[str, float]:
        return by_answer_type(exact_score, predictions, references, answer_types)
