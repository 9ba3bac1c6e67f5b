"""Metrics of grounding: the one place where they are computed. Numpy alone, but for COCO's own evaluator.

coco.py        COCO average precision and recall (faster-coco-eval)
matching.py    the same from boxes matched once, for resampling; FROC
phrases.py     a phrase as the unit: accuracy, recall at k, pointing game, no-target accuracy
absent.py      phrases that are not in the image: false positives, presence AUROC
calibrate.py   whether a score is a probability: ECE, reliability, temperature, thresholds
consistency.py whether lesions lie in their organ
resampling.py  metrics as functions of image weights, which a bootstrap draws
targets.py detections.py   what is true, what was answered
dataset.py command.py      COCO figures of a grounder over sets: `python -m grounding.evaluate`
"""

from ..tiling import BatchGrounder
from .coco import (
    MAX_DETECTIONS,
    CategoryResult,
    DetectionResult,
    markdown_table,
    regions_to_coco,
    score_detections,
)
from .command import add_arguments, evaluate_sets, main
from .dataset import detect_dataset, evaluate_dataset, find_sets, read_coco

__all__ = [
    "MAX_DETECTIONS",
    "BatchGrounder",
    "CategoryResult",
    "DetectionResult",
    "add_arguments",
    "detect_dataset",
    "evaluate_dataset",
    "evaluate_sets",
    "find_sets",
    "main",
    "markdown_table",
    "read_coco",
    "regions_to_coco",
    "score_detections",
]
