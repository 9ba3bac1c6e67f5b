"""Protocol `token-f1`: SQuAD-style F1 over the words of the normal form."""

import datasets
import evaluate

from .protocols import by_answer_type, token_f1_score

DESCRIPTION = """Token F1 (Rajpurkar et al. 2016, SQuAD) over the words of the `exact` normal form."""


class VqaTokenF1(evaluate.Metric):  # type: ignore[misc]  # evaluate is untyped
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
        return by_answer_type(token_f1_score, predictions, references, answer_types)
