"""What the task files here name: how lmms-eval asks a document of `documents`, and how an answer is judged.

lmms-eval loads this file by its path, in its own environment: it needs `benchmarks` on the path and Pillow,
nothing else of ours. A document is {"qid", "image" (path), "question", "answer", "answer_type"}.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from PIL import Image

from benchmarks.metrics.protocols import exact_score, token_f1_score

JUDGES = {"exact": exact_score, "token_f1": token_f1_score}
"""Score by the first part of its metrics' names."""


def doc_to_visual(doc: Mapping[str, Any]) -> list[Image.Image]:
    """The image, RGB."""
    with Image.open(doc["image"]) as image:
        return [image.convert("RGB")]


def doc_to_text(doc: Mapping[str, Any], lmms_eval_specific_kwargs: Mapping[str, Any] | None = None) -> str:
    """The question between the texts that the task file gives the model."""
    around = lmms_eval_specific_kwargs or {}
    return f"{around.get('pre_prompt', '')}{doc['question']}{around.get('post_prompt', '')}"


def process_results(doc: Mapping[str, Any], results: Sequence[str]) -> dict[str, float]:
    """Metric -> score in [0, 1] of the one answer in `results`; each metric's mean is the figure.

    A metric counts over all questions (`exact`), over the open or over the closed ones (`exact_open`): a
    question counts for its own type only.
    """
    prediction, kind = results[0], doc["answer_type"]
    scores = {name: judge(prediction, doc["answer"], kind) for name, judge in JUDGES.items()}
    return scores | {f"{name}_{kind.lower()}": score for name, score in scores.items()}
