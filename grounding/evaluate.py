"""Detection metrics for a grounder on COCO sets: the one place where they are computed.

Owns the COCO protocol (average precision and recall by faster-coco-eval, parity-tested against pycocotools)
and the command that reports it. It knows nothing about networks: a grounder is anything with `ground_batch`.

Protocol: each image is asked for ALL category names of its set in one prompt, whether present or not, so that
a false box on an absent category costs precision; every box is kept with its score (`box_threshold=0.0`), at
most the 100 best an image.

    python -m grounding.evaluate --data-dir DATA --sets cxr_lungs,ct_organs --out results.json
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from .boxes import xyxy_to_xywh
from .data.coco import modality_code  # training and evaluation must name modalities alike
from .types import MedicalImage, Regions

MAX_DETECTIONS = 100
"""Boxes kept an image, best scores first (COCO's `maxDets`)."""


class BatchGrounder(Protocol):
    """What evaluation needs from a grounder; `grounding.Grounder` has it."""

    def ground_batch(
        self,
        images: Sequence[MedicalImage],
        phrases_per_image: Sequence[Sequence[str]],
        *,
        box_threshold: float | None = None,
    ) -> list[Regions]:
        """Return one `Regions` an image, `asked` equal to that image's phrases."""
        ...


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


def detect_dataset(
    grounder: BatchGrounder,
    coco: Mapping[str, Any],
    image_dir: str | Path,
    *,
    batch_size: int = 8,
    progress: Callable[[int, int], None] | None = None,
) -> list[dict[str, Any]]:
    """Ground every image of a COCO set with all its category names.

    Args:
        grounder: has `ground_batch`.
        coco: a COCO dictionary.
        image_dir: folder that `file_name` is relative to.
        batch_size: images a call.
        progress: called with (images done, images in all) after each batch.

    Returns:
        COCO results (`bbox` = xywh, pixels of the original image).

    Raises:
        ValueError: an image file's size differs from the one stated in the set (its boxes would be in another
            frame).
    """
    phrases = [c["name"] for c in coco["categories"]]
    category_ids = [c["id"] for c in coco["categories"]]
    records = coco["images"]
    detections: list[dict[str, Any]] = []
    for start in range(0, len(records), batch_size):
        batch = records[start : start + batch_size]
        images = [_open(Path(image_dir) / r["file_name"], r) for r in batch]
        found = grounder.ground_batch(images, [phrases] * len(images), box_threshold=0.0)
        for record, regions in zip(batch, found, strict=True):
            detections += regions_to_coco(regions, record["id"], category_ids)
        if progress is not None:
            progress(start + len(batch), len(records))
    return detections


def _open(path: Path, record: Mapping[str, Any]) -> MedicalImage:
    image = MedicalImage.open(path, modality=modality_code(dict(record)))
    expected = (record["height"], record["width"])
    if image.size != expected:
        raise ValueError(
            f"{path}: expected (height, width) {expected} from the annotations, got {image.size}; "
            "boxes and image belong to different versions of the set"
        )
    return image


def evaluate_dataset(
    grounder: BatchGrounder,
    coco_json: str | Path,
    image_dir: str | Path,
    *,
    batch_size: int = 8,
    limit: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> DetectionResult:
    """COCO figures of a grounder on one set: `detect_dataset` followed by `score_detections`.

    Args:
        grounder: has `ground_batch`.
        coco_json: annotation file.
        image_dir: folder of the images.
        batch_size: images a call.
        limit: only the first `limit` images (for a quick look; not a result to report).
        progress: called with (images done, images in all) after each batch.
    """
    coco = read_coco(coco_json, limit=limit)
    detections = detect_dataset(grounder, coco, image_dir, batch_size=batch_size, progress=progress)
    return score_detections(coco, detections)


def read_coco(path: str | Path, *, limit: int | None = None) -> dict[str, Any]:
    """Read a COCO annotation file, if wanted only its first `limit` images.

    Raises:
        ValueError: the file lacks one of `images`, `annotations`, `categories`.
    """
    coco: dict[str, Any] = json.loads(Path(path).read_text(encoding="utf-8"))
    missing = {"images", "annotations", "categories"} - coco.keys()
    if missing:
        raise ValueError(f"{path}: expected a COCO detection file, got one without {sorted(missing)}")
    if limit is None:
        return coco
    images = coco["images"][:limit]
    kept = {i["id"] for i in images}
    return {
        **coco,
        "images": images,
        "annotations": [a for a in coco["annotations"] if a["image_id"] in kept],
    }


def find_sets(data_dir: str | Path, names: Sequence[str] = ()) -> list[Path]:
    """Folders of `<data_dir>/grounding` with a validation split, all of them or those named.

    Raises:
        FileNotFoundError: a named set, or any set at all, is not there.
    """
    root = Path(data_dir) / "grounding"
    found = {p.parent.name: p.parent for p in sorted(root.glob("*/val.json"))}
    unknown = [n for n in names if n not in found]
    if unknown or not found:
        raise FileNotFoundError(
            f"{root}: expected sets {list(names) or '(any)'} as folders with val.json and images/, "
            f"got {list(found)}; check --data-dir and --sets"
        )
    return [found[n] for n in names] if names else list(found.values())


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


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's flags, shared with benchmarks/run_grounding.py."""
    parser.add_argument(
        "--data-dir", required=True, help="folder that holds grounding/<set>/val.json and images/"
    )
    parser.add_argument("--sets", default="", help="comma-separated set names; default: every set found")
    parser.add_argument("--checkpoint", default="nano", help="grounder: a shipped name, a folder or a hub id")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--batch-size", type=int, default=8, help="images a forward pass")
    parser.add_argument(
        "--limit", type=int, default=None, help="first N images a set (a quick look, no result)"
    )


def evaluate_sets(grounder: BatchGrounder, args: argparse.Namespace) -> dict[str, DetectionResult]:
    """Evaluate the sets that `add_arguments`' flags name; progress goes to stderr."""
    results = {}
    for folder in find_sets(args.data_dir, [s for s in args.sets.split(",") if s]):
        started = time.monotonic()
        results[folder.name] = evaluate_dataset(
            grounder,
            folder / "val.json",
            folder / "images",
            batch_size=args.batch_size,
            limit=args.limit,
            progress=partial(_show, folder.name),
        )
        print(f" in {time.monotonic() - started:.0f} s", file=sys.stderr)
    return results


def _show(name: str, done: int, total: int) -> None:
    print(f"\r{name}: {done}/{total} images", end="", file=sys.stderr, flush=True)


def main(argv: Sequence[str] | None = None) -> None:
    """Print the table; write JSON where asked."""
    parser = argparse.ArgumentParser(description="COCO figures of a grounder on the validation splits.")
    add_arguments(parser)
    parser.add_argument("--out", type=Path, default=None, help="write the figures as JSON")
    args = parser.parse_args(argv)
    from .predictor import Grounder

    results = evaluate_sets(Grounder.from_pretrained(args.checkpoint, device=args.device), args)
    print(markdown_table(results))
    if args.out is not None:
        args.out.parent.mkdir(parents=True, exist_ok=True)
        args.out.write_text(
            json.dumps({n: r.to_dict() for n, r in results.items()}, indent=2), encoding="utf-8"
        )


if __name__ == "__main__":
    main()
