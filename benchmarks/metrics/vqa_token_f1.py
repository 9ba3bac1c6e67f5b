"""Protocol `token-f1`: SQuAD-style F1 over the words of the normal form."""

from .protocols import token_f1_score
from .vqa_base import VqaMetric


class VqaTokenF1(VqaMetric):
    """`compute(predictions, references, answer_types)` -> {"open", "closed", "overall"} in [0, 1]."""

    description = """Token F1 (Rajpurkar et al. 2016, SQuAD) over the words of the `exact` normal form."""

    def score(self, prediction: str, reference: str, answer_type: str) -> float:
        """Judge one answer by the protocol."""
        return token_f1_score(prediction, reference, answer_type)
