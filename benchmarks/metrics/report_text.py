"""Word overlap of generated reports with their references: BLEU-1..4, ROUGE-L, CIDEr, METEOR."""

import datasets
import evaluate

from .meteor import meteor, meteor_exact, meteor_is_installed
from .overlap import bleu, cider, report_tokens, rouge_l

DESCRIPTION = """BLEU-1..4, ROUGE-L and CIDEr as the COCO caption evaluation defines them, on this project's
words. "meteor" is there only where the real program runs; "meteor_exact" is an approximation without its
data."""


class ReportText(evaluate.Metric):  # type: ignore[misc]  # evaluate is untyped
    """`compute(predictions, references)` -> "bleu_1" to "bleu_4", "rouge_l", "cider", "meteor_exact".

    And "meteor", where the real program is installed. Predictions are texts, references lists of one or more
    texts each. An empty prediction scores 0.
    """

    def _info(self) -> evaluate.MetricInfo:
        text = datasets.Value("string")
        return evaluate.MetricInfo(
            description=DESCRIPTION,
            citation="",
            inputs_description="predictions: str; references: list of str",
            features=datasets.Features({"predictions": text, "references": datasets.Sequence(text)}),
        )

    def _compute(self, predictions: list[str], references: list[list[str]]) -> dict[str, float]:
        said = [report_tokens(text) for text in predictions]
        true = [[report_tokens(text) for text in texts] for texts in references]
        scores = {f"bleu_{n}": score for n, score in enumerate(bleu(said, true).corpus, start=1)}
        scores["rouge_l"] = _mean([rouge_l(s, t) for s, t in zip(said, true, strict=True)])
        scores["cider"] = _mean(cider(said, true))
        scores["meteor_exact"] = _mean([meteor_exact(s, t) for s, t in zip(said, true, strict=True)])
        if meteor_is_installed():
            scores["meteor"] = meteor(said, true)[0]
        return scores


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)
