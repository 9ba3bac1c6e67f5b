"""Protocol `token-f1`: SQuAD-style F1 over the words of the normal form."""

from collections import Counter

import datasets
import evaluate

from .aggregate import by_answer_type
from .normalize import normalize_answer

DESCRIPTION = """Token F1 (Rajpurkar et al. 2016, SQuAD) over the words of the `exact` normal form."""


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
