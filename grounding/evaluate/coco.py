"""COCO average precision and recall, by faster-coco-eval (parity-tested against pycocotools).

Owns the COCO protocol: at most the 100 best boxes an image, area range "all". Knows no grounder and no files.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..boxes import xyxy_to_xywh
from ..types import Regions

MAX_DETECTIONS = 100
"""Boxes kept an image, best scores first (COCO's `maxDets`)."""


@dataclass(frozen=True)
class CategoryResult:
    """Average precision of one category; nan where the set has no true box of it."""

    name: str
    ap: float
    ap50: float
    n_boxes: int


@dataclass(frozen=True)
class DetectionResult:
    """COCO figures in [0, 1] over one set (area range "all"); nan where the set has no true box.

    `ap` averages IoU 0.50:0.95, `ap50` and `ap75` are at one IoU, `ar100` is average recall with 100 boxes an
    image.
    """

    ap: float
    ap50: float
    ap75: float
    ar100: float
    per_category: tuple[CategoryResult, ...]
    n_images: int
    n_boxes: int

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types; nan becomes None."""
        return {
            **{key: _or_none(getattr(self, key)) for key in ("ap", "ap50", "ap75", "ar100")},
            "n_images": self.n_images,
            "n_boxes": self.n_boxes,
            "per_category": {
                c.name: {"ap": _or_none(c.ap), "ap50": _or_none(c.ap50), "n_boxes": c.n_boxes}
                for c in self.per_category
            },
        }


def _or_none(value: float) -> float | None:
    return None if math.isnan(value) else value


def regions_to_coco(regions: Regions, image_id: int, category_ids: Sequence[int]) -> list[dict[str, Any]]:
    """The best `MAX_DETECTIONS` regions as COCO results (`bbox` = xywh, pixels of the original image).

    Args:
        regions: one image's regions; `phrase_index` points into the asked categories.
        image_id: COCO image id.
        category_ids: COCO category ids in the order in which their names were asked.

    Raises:
        ValueError: `regions.asked` and `category_ids` differ in length.
    """
    if len(regions.asked) != len(category_ids):
        raise ValueError(
            f"expected regions that asked for {len(category_ids)} categories, got {len(regions.asked)} "
            "phrases; the grounder must keep `asked` as given, found or not"
        )
    best = regions.sorted()[:MAX_DETECTIONS]
    return [
        {
            "image_id": image_id,
            "category_id": category_ids[int(phrase)],
            "bbox": [float(v) for v in box],
            "score": float(score),
        }
        for box, score, phrase in zip(xyxy_to_xywh(best.boxes), best.scores, best.phrase_index, strict=True)
    ]


def score_detections(coco: Mapping[str, Any], detections: Sequence[Mapping[str, Any]]) -> DetectionResult:
    """COCO average precision of `detections` against the annotations of `coco`.

    Args:
        coco: a COCO dictionary (`images`, `annotations`, `categories`); `bbox` = xywh pixels.
        detections: COCO results: {image_id, category_id, bbox xywh, score}. May be empty: every figure is
            then 0.

    Returns:
        The figures, per category too.
    """
    names = {c["id"]: c["name"] for c in coco["categories"]}
    n_boxes = dict.fromkeys(names, 0)
    for annotation in coco["annotations"]:
        n_boxes[annotation["category_id"]] += 1
    total = sum(n_boxes.values())
    if total == 0 or not detections:
        return _constant_result(names, n_boxes, len(coco["images"]))
    evaluation = _run_cocoeval(coco, detections)
    precision = evaluation.eval["precision"]  # (IoU threshold, recall point, category, area range, maxDets)
    recall = evaluation.eval["recall"]  # (IoU threshold, category, area range, maxDets)
    iou = np.asarray(evaluation.params.iouThrs)
    at50, at75 = (int(np.flatnonzero(np.isclose(iou, t))[0]) for t in (0.5, 0.75))
    # Last maxDets is MAX_DETECTIONS, area range 0 is "all"; -1 marks categories without a true box.
    per_category = tuple(
        CategoryResult(
            names[i], _mean(precision[:, :, k, 0, -1]), _mean(precision[at50, :, k, 0, -1]), n_boxes[i]
        )
        for k, i in enumerate(evaluation.params.catIds)
    )
    return DetectionResult(
        ap=_mean(precision[:, :, :, 0, -1]),
        ap50=_mean(precision[at50, :, :, 0, -1]),
        ap75=_mean(precision[at75, :, :, 0, -1]),
        ar100=_mean(recall[:, :, 0, -1]),
        per_category=per_category,
        n_images=len(coco["images"]),
        n_boxes=total,
    )


def _run_cocoeval(coco: Mapping[str, Any], detections: Sequence[Mapping[str, Any]]) -> Any:
    from faster_coco_eval import COCO, COCOeval_faster

    keep = ("id", "image_id", "category_id", "bbox", "area", "iscrowd")  # boxes only, masks are not scored
    truth = COCO(
        {
            "info": {},
            "images": [{"id": i["id"], "width": i["width"], "height": i["height"]} for i in coco["images"]],
            "categories": [{"id": c["id"], "name": c["name"]} for c in coco["categories"]],
            "annotations": [{key: a.get(key, 0) for key in keep} for a in coco["annotations"]],
        }
    )
    evaluation = COCOeval_faster(truth, truth.loadRes([dict(d) for d in detections]), iouType="bbox")
    evaluation.params.maxDets = [1, 10, MAX_DETECTIONS]
    evaluation.evaluate()
    evaluation.accumulate()
    return evaluation


def _constant_result(names: Mapping[int, str], n_boxes: Mapping[int, int], n_images: int) -> DetectionResult:
    """Zeros where there are true boxes, nan where there are none."""
    by_category = {i: 0.0 if n else math.nan for i, n in n_boxes.items()}
    total = 0.0 if any(n_boxes.values()) else math.nan
    per_category = tuple(CategoryResult(names[i], v, v, n_boxes[i]) for i, v in by_category.items())
    return DetectionResult(total, total, total, total, per_category, n_images, sum(n_boxes.values()))


def _mean(values: np.ndarray) -> float:
    valid = values[values > -1]
    return float(valid.mean()) if valid.size else math.nan


def markdown_table(results: Mapping[str, DetectionResult]) -> str:
    """One row a set, and the mean over sets."""
    lines = [
        "| set | images | boxes | AP | AP50 | AP75 | AR100 |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    keys = ("ap", "ap50", "ap75", "ar100")
    for name, r in results.items():
        figures = " | ".join(f"{getattr(r, key):.3f}" for key in keys)
        lines.append(f"| {name} | {r.n_images} | {r.n_boxes} | {figures} |")
    if len(results) > 1:
        means = " | ".join(f"{np.nanmean([getattr(r, key) for r in results.values()]):.3f}" for key in keys)
        lines.append(f"| mean of {len(results)} sets | | | {means} |")
    return "\n".join(lines)
