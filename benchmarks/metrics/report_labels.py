"""Clinical content of generated reports: F1 of the 14 CheXpert observations by this project's own rules.

Not CheXbert: figures of the two are not comparable. How good the labeller is stands in docs/scoring.md.
"""

import datasets
import evaluate

from .chexpert_rules import OBSERVATIONS
from .label_f1 import label_f1
from .labeller import label_report

DESCRIPTION = f"""Label F1 over {", ".join(OBSERVATIONS)}, read from both texts by one rule-based labeller.
Uncertain mentions count as positive unless uncertain="negative"; an empty prediction has no label right."""


class ReportLabels(evaluate.Metric):  # type: ignore[misc]  # evaluate is untyped
    """`compute(predictions, references, uncertain="positive")` -> what `label_f1` gives."""

    def _info(self) -> evaluate.MetricInfo:
        text = datasets.Value("string")
        return evaluate.MetricInfo(
            description=DESCRIPTION,
            citation="",
            inputs_description="predictions, references: str; uncertain: positive or negative",
            features=datasets.Features({"predictions": text, "references": text}),
        )

    def _compute(
        self, predictions: list[str], references: list[str], uncertain: str = "positive"
    ) -> dict[str, float]:
        said, true = ([label_report(text) for text in texts] for texts in (predictions, references))
        return label_f1(said, true, uncertain=uncertain)  # type: ignore[arg-type]  # label_f1 checks it
