"""Protocol `vila-m3`: equality in lower case, closed questions only; its "open" is nan. Not a headline."""

from .protocols import vila_m3_score
from .vqa_base import VqaMetric


class VqaVilaM3(VqaMetric):
    """`compute(predictions, references, answer_types)` -> {"open", "closed", "overall"} in [0, 1]."""

    description = (
        """VILA-M3's rule: equality in lower case of closed answers; a full stop makes them wrong."""
    )

    def score(self, prediction: str, reference: str, answer_type: str) -> float:
        """Judge one answer by the protocol."""
        return vila_m3_score(prediction, reference, answer_type)
