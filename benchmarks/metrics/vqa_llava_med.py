"""Protocol `llava-med`: how LLaVA-Med's own script scores, faults kept, to set figures beside its table.

Closed: a substring test that needs "yes" or "no" to occur anywhere in the prediction: truth "no", prediction
"abnormal findings" is right; truth "left", prediction "left" is wrong. Open: token recall. One departure:
the script leaves out of the count a closed answer that says yes or no but not the truth;
here it counts as wrong.
"""

from collections import Counter

import datasets
import evaluate

from .aggregate import by_answer_type
from .normalize import answer_tokens

DESCRIPTION = """LLaVA-Med's rule: closed by substring (yes/no only), open by token recall. Not a headline."""


def llava_med_score(prediction: str, reference: str, answer_type: str) -> float:
    """1.0 or 0.0 for closed questions, token recall in [0, 1] for open ones.

    Recall is the script's: the prediction's occurrences of words of the truth, over these plus the truth's
    occurrences of words that the prediction lacks.

    Args:
        prediction: the system's answer.
        reference: the true answer.
        answer_type: "OPEN" or "CLOSED".
    """
    said, true = answer_tokens(prediction), answer_tokens(reference)
    if answer_type == "CLOSED":
        text = " ".join(said)
        return float(("yes" in text or "no" in text) and " ".join(true) in text)
    found = sum(n for word, n in Counter(said).items() if word in set(true))
    lost = sum(n for word, n in Counter(true).items() if word not in set(said))
    return found / (found + lost) if found else 0.0


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
