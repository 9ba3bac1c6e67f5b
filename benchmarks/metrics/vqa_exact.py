"""Protocol `exact`: normalised exact match, for open and closed questions alike. The default headline."""

from .protocols import exact_score
from .vqa_base import VqaMetric


class VqaExact(VqaMetric):
    """`compute(predictions, references, answer_types)` -> {"open", "closed", "overall"} in [0, 1]."""

    description = """Normalised exact match: lower case, articles and punctuation dropped, number words as
    digits, yes/no aliases, one spelling of x-ray. An empty prediction is wrong."""

    def score(self, prediction: str, reference: str, answer_type: str) -> float:
        """Judge one answer by the protocol."""
        return exact_score(prediction, reference, answer_type)
