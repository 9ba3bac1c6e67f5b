"""Protocol `medevalkit`: how MedEvalKit scores, faults kept, to set figures beside its table.

Truth "no", prediction "abnormal" is right (it holds "no"), truth "yes", prediction "yes, abnormal" is wrong
(it holds both); an open answer with a full stop is wrong. Its first SLAKE script counted closed answers
twice: not copied. An empty open answer stops its script (ROUGE): here it is wrong.
"""

from .medevalkit_text import OPEN_SCORES, open_scores
from .protocols import medevalkit_score
from .vqa_base import VqaMetric


class VqaMedEvalKit(VqaMetric):
    """`compute(...)` -> {"open", "closed", "overall"}, and "open_*" for its BLEU, ROUGE and token F1."""

    description = """MedEvalKit's rule: exclusive yes or no, plain equality of the rest. Not a headline."""

    def score(self, prediction: str, reference: str, answer_type: str) -> float:
        """Judge one answer by the protocol."""
        return medevalkit_score(prediction, reference, answer_type)

    def extras(
        self, predictions: list[str], references: list[str], answer_types: list[str]
    ) -> dict[str, float]:
        """Means of the script's text scores over the open questions."""
        rows = [
            open_scores(p, r)
            for p, r, t in zip(predictions, references, answer_types, strict=True)
            if t == "OPEN"
        ]
        return {f"open_{name}": sum(row[name] for row in rows) / len(rows) for name in OPEN_SCORES if rows}
