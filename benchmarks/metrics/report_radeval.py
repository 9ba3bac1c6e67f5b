"""CheXbert F1, RadGraph F1 and GREEN as one `evaluate` module; what cannot run is named with its reason."""

import datasets
import evaluate

from .radeval_scores import METRICS, radeval_scores

DESCRIPTION = """Scores of the optional radeval package. "unavailable" maps each metric that did not run to
the reason."""


class ReportRadEval(evaluate.Metric):  # type: ignore[misc]  # evaluate is untyped
    """`compute(predictions, references, metrics=...)` -> {name: figure, "unavailable": {metric: reason}}."""

    def _info(self) -> evaluate.MetricInfo:
        text = datasets.Value("string")
        return evaluate.MetricInfo(
            description=DESCRIPTION,
            citation="",
            inputs_description="predictions, references: str; metrics: names that radeval knows",
            features=datasets.Features({"predictions": text, "references": text}),
        )

    def _compute(
        self, predictions: list[str], references: list[str], metrics: tuple[str, ...] = METRICS
    ) -> dict[str, object]:
        result = radeval_scores(predictions, references, metrics)
        return {**result.scores, "unavailable": result.unavailable}
