"""What each detector answered on each set, kept in files: figures can be had again without running it.

Owns the cache and the reading of other people's COCO result files. Knows no model and no metric.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from benchmarks.whole_files import write_whole
from grounding.boxes import xywh_to_xyxy
from grounding.evaluate.detections import Detections, Detector, Threshold
from grounding.evaluate.targets import TargetSet
from grounding.types import Regions

Progress = Callable[[int, int], None]


class AnswerSource(Protocol):
    """Where the answers to a set come from.

    Attributes:
        name: what a table calls it.
        open_vocabulary: whether it can be asked for phrases that are no labels of the set.
        threshold: what is shown by default.
    """

    name: str
    open_vocabulary: bool
    threshold: Threshold

    def answer(self, targets: TargetSet, phrases_per_image: Sequence[Sequence[str]]) -> list[Detections]:
        """Each image's answer to its own phrases."""
        ...


class CachedAnswers:
    """A detector whose answers are kept in a folder, under its fingerprint and the question."""

    open_vocabulary = True

    def __init__(
        self, detector: Detector, folder: Path, *, batch_size: int = 8, progress: Progress | None = None
    ) -> None:
        """Keep the detector's answers in `folder`; `progress` is called with (images done, in all)."""
        self._detector, self._folder, self._batch_size = detector, folder, batch_size
        self._progress = progress
        self.name, self.threshold = detector.name, detector.threshold

    def answer(self, targets: TargetSet, phrases_per_image: Sequence[Sequence[str]]) -> list[Detections]:
        """Ask the detector, or read what it answered to the same question before."""
        path = self._folder / f"{targets.name}-{self._key(targets, phrases_per_image)}.json"
        if path.is_file():
            return [Detections.from_dict(each) for each in json.loads(path.read_text(encoding="utf-8"))]
        answers: list[Detections] = []
        for start in range(0, len(targets.targets), self._batch_size):
            part = slice(start, start + self._batch_size)
            images = [targets.open(target) for target in targets.targets[part]]
            answers += self._detector.detect(images, phrases_per_image[part])
            if self._progress is not None:
                self._progress(len(answers), len(targets.targets))
        write_whole(path, json.dumps([each.to_dict() for each in answers]))
        return answers

    def _key(self, targets: TargetSet, phrases_per_image: Sequence[Sequence[str]]) -> str:
        images = [[t.file_name, t.image_size, t.modality] for t in targets.targets]
        question = [self._detector.fingerprint, images, [list(phrases) for phrases in phrases_per_image]]
        return hashlib.sha256(json.dumps(question).encode()).hexdigest()[:16]


class CocoResults:
    """A folder with `<set>.json` files of COCO results ({image_id, category_id, bbox xywh pixels, score})."""

    open_vocabulary = False

    def __init__(self, folder: Path, *, score_threshold: float = 0.5) -> None:
        """Read results from `folder`, shown from `score_threshold` on."""
        self._folder, self.name = folder, folder.name
        self.threshold = Threshold(lambda _phrase: score_threshold)  # of all, since the files do not say

    def answer(self, targets: TargetSet, phrases_per_image: Sequence[Sequence[str]]) -> list[Detections]:
        """The results of each image; it was asked for the set's labels.

        Raises:
            FileNotFoundError: there is no file of this set.
            ValueError: other phrases than the set's labels, or an unknown category.
        """
        path = self._folder / f"{targets.name}.json"
        if not path.is_file():
            raise FileNotFoundError(f"expected COCO results at {path}")
        if any(tuple(phrases) != targets.labels for phrases in phrases_per_image):
            raise ValueError(f"{path}: result files answer only the set's own labels")
        rows: dict[int, list[dict[str, Any]]] = {}
        for row in json.loads(path.read_text(encoding="utf-8")):
            rows.setdefault(row["image_id"], []).append(row)
        unknown = {r["category_id"] for each in rows.values() for r in each} - set(targets.category_ids)
        if unknown:
            raise ValueError(
                f"{path}: expected category ids {targets.category_ids}, got also {sorted(unknown)}"
            )
        return [_read_rows(rows.get(t.image_id, []), targets, t.image_size) for t in targets.targets]


def _read_rows(rows: Sequence[dict[str, Any]], targets: TargetSet, image_size: tuple[int, int]) -> Detections:
    index_of = {category: k for k, category in enumerate(targets.category_ids)}
    boxes = np.array([row["bbox"] for row in rows], dtype=np.float32).reshape(-1, 4)
    return Detections.by_best_box(
        Regions(
            boxes=xywh_to_xyxy(boxes),
            scores=np.array([row["score"] for row in rows], dtype=np.float32),
            phrase_index=np.array([index_of[row["category_id"]] for row in rows], dtype=np.int64),
            asked=targets.labels,
            image_size=image_size,
        )
    )
