"""Protocol `llava-med`: how LLaVA-Med's own script scores, faults kept, to set figures beside its table.

Closed: a substring test that needs "yes" or "no" to occur anywhere in the prediction: truth "no", prediction
"abnormal findings" is right; truth "left", prediction "left" is wrong. Open: token recall. The script leaves
out of its count every closed answer that says yes or no but not the truth, so that a model that always says
yes scores 1: "closed" counts these as wrong, "closed_as_script" is the script's own figure.
"""

import math

from .protocols import llava_med_score, llava_med_uncounted
from .vqa_base import VqaMetric


class VqaLlavaMed(VqaMetric):
    """`compute(...)` -> {"open", "closed", "overall", "closed_as_script"} in [0, 1]."""

    description = (
        """LLaVA-Med's rule: closed by substring (yes/no only), open by token recall. Not a headline."""
    )

    def score(self, prediction: str, reference: str, answer_type: str) -> float:
        """Judge one answer by the protocol."""
        return llava_med_score(prediction, reference, answer_type)

    def extras(
        self, predictions: list[str], references: list[str], answer_types: list[str]
    ) -> dict[str, float]:
        """The script's own closed figure, without the answers that it does not count."""
        counted = [
            self.score(p, r, t)
            for p, r, t in zip(predictions, references, answer_types, strict=True)
            if t == "CLOSED" and not llava_med_uncounted(p, r)
        ]
        return {"closed_as_script": sum(counted) / len(counted) if counted else math.nan}
