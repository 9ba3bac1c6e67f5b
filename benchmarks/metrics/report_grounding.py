"""Grounded precision and recall of report sentences. Loads by `evaluate.load(path)`."""

import datasets
import evaluate
import numpy as np

from .grounded import MIN_IOU, PlacedPhrase, grounded_scores

DESCRIPTION = """A sentence tied to a region is right where the region's IoU with a true box of the same
finding or structure is at least 0.5. Boxes are xyxy in pixels of the original image."""


class ReportGrounding(evaluate.Metric):  # type: ignore[misc]  # evaluate is untyped
    """`compute(predictions, references, min_iou=0.5)` -> {"precision", "recall", "f1", "grounded"}.

    Both are, for each report, a list of {"phrase": str, "boxes": [[x1, y1, x2, y2], ...]}: one a sentence in
    predictions (no boxes: it points nowhere), one a finding or structure in references.
    """

    def _info(self) -> evaluate.MetricInfo:
        box = datasets.Sequence(datasets.Value("float64"), length=4)
        placed = [{"phrase": datasets.Value("string"), "boxes": datasets.Sequence(box)}]
        return evaluate.MetricInfo(
            description=DESCRIPTION,
            citation="",
            inputs_description="predictions, references: lists of {phrase, boxes}, one list a report",
            features=datasets.Features({"predictions": placed, "references": placed}),
        )

    def _compute(
        self,
        predictions: list[list[dict[str, object]]],
        references: list[list[dict[str, object]]],
        min_iou: float = MIN_IOU,
    ) -> dict[str, float]:
        said, true = (
            [[_placed(item) for item in items] for items in side] for side in (predictions, references)
        )
        return grounded_scores(said, true, min_iou=min_iou)


def _placed(item: dict[str, object]) -> PlacedPhrase:
    boxes = np.asarray(item["boxes"], dtype=np.float64).reshape(-1, 4)
    return PlacedPhrase(str(item["phrase"]), boxes)
