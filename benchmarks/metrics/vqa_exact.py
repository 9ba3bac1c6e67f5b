"""Protocol `exact`: normalised exact match, for open and closed questions alike. The default headline."""

import datasets
import evaluate

from .aggregate import by_answer_type
from .normalize import normalize_answer

DESCRIPTION = """Normalised exact match: lower case, articles and punctuation dropped, number words as digits,
yes/no aliases, one spelling of x-ray. An empty prediction is wrong."""


def exact_score(prediction: str, reference: str, answer_type: str) -> float:
    """1.0 where both have the same non-empty normal form, else 0.0; open and closed answers are judged alike.

    Args:
        prediction: the system's answer.
        reference: the true answer.
        answer_type: "OPEN" or "CLOSED"; unused here, part of the protocols' common signature.
    """
    normal = normalize_answer(prediction)
    return float(bool(normal) and normal == normalize_answer(reference))


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
