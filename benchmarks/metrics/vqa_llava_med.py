"""Protocol `llava-med`: how LLaVA-Med's own script scores, faults kept, to set figures beside its table.

Closed: a substring test that needs "yes" or "no" to occur anywhere in the prediction: truth "no", prediction
"abnormal findings" is right; truth "left", prediction "left" is wrong. Open: token recall. One departure:
the script leaves out of the count a closed answer that says yes or no but not the truth;
here it counts as wrong.
"""

import datasets
import evaluate

from .protocols import by_answer_type, llava_med_score

DESCRIPTION = """LLaVA-Med's rule: closed by substring (yes/no only), open by token recall. Not a headline."""


class VqaLlavaMed(evaluate.Metric):  # type: ignore[misc]  # evaluate is untyped
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
        return by_answer_type(llava_med_score, predictions, references, answer_types)
