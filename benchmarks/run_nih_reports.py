"""Labels that generated chest X-ray reports state, on the given validation part of NIH ChestX-ray14.

    python benchmarks/run_nih_reports.py --data-dir DATA --out runs/nih

The model writes a report of each image in three ways: freely, with the lungs that the grounder finds
(`predicted`) and without any region (`none`), and by being asked for each label (`asked`): what it affirms
surely enough becomes a sentence, tied to the lungs; how sure is chosen for each label so that it is stated as
often as it occurs in a sample of the training part. What a report states is read by
`llm.data.nih_text.labels_stated` and compared with the labels of the source (text-mined, about one in ten is
wrong). Beside it: reports that always state the most frequent label in training, and a linear classifier on
the model's own vision features, its penalty and thresholds chosen by cross-validation in the training part.
Writes reports.jsonl, metrics.json and results.md. Intervals draw patients.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from tqdm import tqdm

from benchmarks.manifest import write_manifest
from benchmarks.report_figures import f1
from benchmarks.stats import Resampled, resample
from grounding.predictor import Grounder
from grounding.types import MedicalImage, Regions
from llm.data.nih_cxr import LABELS, LabelledXray, read_nih_cxr
from llm.data.nih_text import LUNGS, WORDS, labels_stated, nih_report, report_answer
from llm.generate import VisionLanguageModel
from llm.report import REQUEST, read_report
from llm.types import Generation, SpatialPrompt

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
N_BOOTSTRAP = 2000
MACRO_POSITIVES = 10
"""A label counts in the macro mean where the validation part has at least so many images of it."""
WRITTEN = ("none", "predicted", "asked")
"""The model's reports; the others are baselines."""
ASKED_TRAIN = 240
"""Images of the training part on which the thresholds of `asked` are chosen."""
_FOLDS = 5
_PENALTIES = (0.01, 0.1, 1.0, 10.0)
"""Of the ridge, in units of the mean square of an image's features."""


def main(argv: Sequence[str] | None = None) -> None:
    """Run and write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data-dir", type=Path, required=True, help="folder with classification/nih_cxr")
    parser.add_argument("--out", type=Path, required=True, help="output folder")
    parser.add_argument("--model", default="nano", help="nano or a folder of its form (default: nano)")
    parser.add_argument("--grounder", default="nano", help="checkpoint that finds the lungs (default: nano)")
    parser.add_argument("--seed", type=int, default=0, help="of resampling and of the folds")
    args = parser.parse_args(argv)
    args.out.mkdir(parents=True, exist_ok=True)
    root = args.data_dir / "classification" / "nih_cxr"
    train, val = (read_nih_cxr(root, split).examples for split in ("train", "val"))
    model = VisionLanguageModel.from_pretrained(args.model)
    grounder = Grounder.from_pretrained(args.grounder)

    rows = [*_written(model, grounder, val), *asked_reports(model, grounder, train, val, seed=args.seed)]
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    (args.out / "reports.jsonl").write_text(lines, encoding="utf-8")
    true = label_matrix(xray.labels for xray in val)
    said = {
        boxes: label_matrix(labels_stated(row["report"]) for row in rows if row["boxes"] == boxes)
        for boxes in WRITTEN
    }
    said["most frequent label"] = np.tile(_most_frequent(train), (len(val), 1))
    said["linear classifier"] = classify(
        _features(model, train),
        label_matrix(xray.labels for xray in train),
        [xray.group for xray in train],
        _features(model, val),
        seed=args.seed,
    )
    groups = [xray.group for xray in val]
    found = {name: label_f1(stated, true, groups, seed=args.seed) for name, stated in said.items()}
    metrics: dict[str, Any] = {
        "images": len(val),
        "positives": dict(zip(LABELS, true.sum(axis=0).tolist(), strict=True)),
        "conditions": {
            name: {key: asdict(each.interval()) for key, each in kinds.items()}
            for name, kinds in found.items()
        },
        "differences": {
            f"{own} - {other}": {
                key: asdict(found[own][key].minus(each).interval()) for key, each in kinds.items()
            }
            for own in ("predicted", "asked")
            for other, kinds in found.items()
            if other != own and (own, other) != ("asked", "predicted")
        },
        "grounded": {
            boxes: grounded_share(row for row in rows if row["boxes"] == boxes) for boxes in WRITTEN
        },
    }
    (args.out / "metrics.json").write_text(json.dumps(metrics, indent=2) + "\n", encoding="utf-8")
    markdown = to_markdown(metrics)
    (args.out / "results.md").write_text(markdown, encoding="utf-8")
    write_manifest(
        args.out / "manifest.json",
        {"model": str(args.model), "grounder": str(args.grounder), "seed": args.seed},
    )
    print(markdown)


def label_matrix(labels: Any) -> Bools:
    """Collections of label names as bool (N, 14)."""
    return np.array([[name in each for name in LABELS] for each in labels])


def label_f1(said: Bools, true: Bools, groups: Sequence[str], *, seed: int) -> dict[str, Resampled]:
    """F1 of stated labels: over all decisions (`micro`), and the mean over frequent labels (`macro`)."""
    often = true.sum(axis=0) >= MACRO_POSITIVES
    metrics = {
        "micro": partial(f1, said, true, micro=True),
        "macro": partial(f1, said[:, often], true[:, often], micro=False),
    }
    return resample(metrics, groups, n_bootstrap=N_BOOTSTRAP, seed=seed)


def classify(features: Floats, labels: Bools, groups: Sequence[str], asked: Floats, *, seed: int) -> Bools:
    """Labels (M, 14) of `asked` (M, C) by ridge regression on `features` (N, C) and `labels` (N, 14).

    One weight of the penalty for all labels and a threshold for each, both the best for F1 over folds of the
    training part, patients kept together.
    """
    mean, spread = features.mean(axis=0), features.std(axis=0) + 1e-6
    known, asked = (features - mean) / spread, (asked - mean) / spread
    best: tuple[float, float, Floats] | None = None
    for weight in _PENALTIES:
        scores = out_of_fold(known, labels, groups, weight, seed=seed)
        thresholds = np.array([_best_threshold(scores[:, k], labels[:, k]) for k in range(labels.shape[1])])
        value = float(f1(scores >= thresholds, labels, np.ones((1, len(labels))), micro=True)[0])
        if best is None or value > best[0]:
            best = (value, weight, thresholds)
    assert best is not None
    return np.asarray(_ridge(known, labels, asked, best[1]) >= best[2])


def out_of_fold(
    features: Floats, labels: Bools, groups: Sequence[str], weight: float, *, seed: int = 0
) -> Floats:
    """Scores (N, 14) by ridge regression, each image's from folds without its group."""
    names = sorted(set(groups))
    order = np.random.default_rng(seed).permutation(len(names))
    fold_of = {name: int(order[k]) % _FOLDS for k, name in enumerate(names)}
    folds = np.array([fold_of[group] for group in groups])
    scores = np.empty(labels.shape)
    for fold in range(_FOLDS):
        apart = folds == fold
        scores[apart] = _ridge(features[~apart], labels[~apart], features[apart], weight)
    return scores


def _ridge(features: Floats, labels: Bools, asked: Floats, weight: float) -> Floats:
    """Scores (M, 14) by ridge regression, solved through the N x N matrix of inner products."""
    mean = labels.mean(axis=0)
    gram = features @ features.T + weight * np.eye(len(features)) * features.shape[1]
    return np.asarray(asked @ (features.T @ np.linalg.solve(gram, labels - mean)) + mean)


def _best_threshold(scores: Floats, truth: Bools) -> float:
    """The threshold of the greatest F1; above all scores where nothing is positive."""
    order = np.argsort(-scores)
    right = truth[order].cumsum()
    values = 2 * right / (np.arange(1, len(order) + 1) + truth.sum())
    return float(scores[order[int(values.argmax())]]) if truth.any() else float("inf")


def _most_frequent(train: Sequence[LabelledXray]) -> Bools:
    name, _ = Counter(label for xray in train for label in xray.labels).most_common(1)[0]
    return np.array([label == name for label in LABELS])


def _features(model: VisionLanguageModel, xrays: Sequence[LabelledXray]) -> Floats:
    """Mean and greatest vision feature over the image, float64 (N, 2 C)."""
    rows = []
    for xray in tqdm(xrays, desc="vision features", disable=None):
        picture = MedicalImage.open(xray.image_path).pixels
        pixels = model.processor(images=picture, return_tensors="pt")["pixel_values"]
        with torch.inference_mode():
            features = model.model.vision_features(pixels)[0].float().numpy()  # type: ignore[operator]
        rows.append(np.concatenate((features.mean(axis=0), features.max(axis=0))))
    return np.array(rows, dtype=np.float64)


def _written(
    model: VisionLanguageModel, grounder: Grounder, xrays: Sequence[LabelledXray], batch: int = 16
) -> Iterator[dict[str, Any]]:
    """Each image's two reports, with how many of their sentences are grounded."""
    for start in tqdm(range(0, len(xrays), batch), desc="reports", disable=None):
        part = xrays[start : start + batch]
        images = [MedicalImage.open(xray.image_path, modality="DX") for xray in part]
        lungs = [grounder.ground(image, LUNGS) for image in images]
        for boxes in ("none", "predicted"):
            given: list[Regions | None] = list(lungs) if boxes == "predicted" else [None] * len(part)
            prompts = [SpatialPrompt(REQUEST, i, r) for i, r in zip(images, given, strict=True)]
            replies = model.generate(prompts, max_new_tokens=160)
            for xray, reply, regions in zip(part, replies, given, strict=True):
                known = Regions.empty((1, 1)) if regions is None else regions
                report = read_report(reply.text, known, lambda text: ())
                yield {
                    "boxes": boxes,
                    "image": xray.key,
                    "report": reply.text,
                    "true": list(xray.labels),
                    "sentences": len(report.findings),
                    "grounded": sum(finding.grounded for finding in report.findings),
                }


def asked_reports(
    model: VisionLanguageModel,
    grounder: Grounder,
    train: Sequence[LabelledXray],
    val: Sequence[LabelledXray],
    *,
    seed: int,
) -> Iterator[dict[str, Any]]:
    """Reports of what the model affirms when it is asked for each label, sure enough by the training part."""
    picked = np.random.default_rng(seed).permutation(len(train))[:ASKED_TRAIN]
    sample = [train[index] for index in picked.tolist()]
    truth, sure = label_matrix(xray.labels for xray in sample), affirmed(model, sample)
    thresholds = [as_often(sure[:, k], int(truth[:, k].sum())) for k in range(len(LABELS))]
    for xray, scores in zip(val, affirmed(model, val), strict=True):
        stated = tuple(name for name, s, t in zip(LABELS, scores, thresholds, strict=True) if s >= t)
        lungs = grounder.ground(MedicalImage.open(xray.image_path, modality="DX"), LUNGS)
        report = nih_report(replace(xray, labels=stated), lungs)
        yield {
            "boxes": "asked",
            "image": xray.key,
            "report": report_answer(report),
            "true": list(xray.labels),
            "sentences": len(report.findings),
            "grounded": sum(finding.grounded for finding in report.findings),
        }


def as_often(sure: Floats, count: int) -> float:
    """The threshold that `count` of (N,) numbers reach, ties included; infinite for none."""
    return float(np.sort(sure)[-count]) if count else float("inf")


def affirmed(model: VisionLanguageModel, xrays: Sequence[LabelledXray]) -> Floats:
    """How surely the model says "yes" to each label: (N, 14) in [0, 1], of greedy answers."""
    rows = []
    for xray in tqdm(xrays, desc="labels asked", disable=None):
        image = MedicalImage.open(xray.image_path, modality="DX")
        prompts = [SpatialPrompt(f"Is there {WORDS[label].name}?", image, None) for label in LABELS]
        rows.append([sureness(reply) for reply in model.generate(prompts, max_new_tokens=4)])
    return np.array(rows, dtype=np.float64)


def sureness(reply: Generation) -> float:
    """The probability of "yes" that a greedy reply shows: 1/2 where it is neither yes nor no."""
    says = {"yes": reply.confidence, "no": 1 - reply.confidence}
    return says.get(reply.text.strip().lower().rstrip("."), 0.5)


def grounded_share(rows: Any) -> float:
    """Part of all sentences that rest on a region."""
    rows = list(rows)
    return float(sum(row["grounded"] for row in rows) / max(1, sum(row["sentences"] for row in rows)))


def to_markdown(metrics: Mapping[str, Any]) -> str:
    """The tables."""

    def cell(interval: Mapping[str, float]) -> str:
        return f"{interval['mean']:.3f} [{interval['low']:.3f}, {interval['high']:.3f}]"

    often = [name for name, count in metrics["positives"].items() if count >= MACRO_POSITIVES]
    lines = [
        "# Reports of NIH chest X-rays: F1 of the stated labels",
        "",
        f"{metrics['images']} images; macro over {', '.join(often)}.",
        "",
        "| | micro | macro | grounded sentences |",
        "|---|---:|---:|---:|",
    ]
    for name, kinds in metrics["conditions"].items():
        share = f"{metrics['grounded'][name]:.2f}" if name in metrics["grounded"] else ""
        lines.append(f"| {name} | {cell(kinds['micro'])} | {cell(kinds['macro'])} | {share} |")
    lines += ["", "| difference | micro | macro |", "|---|---:|---:|"]
    for name, kinds in metrics["differences"].items():
        lines.append(f"| {name} | {cell(kinds['micro'])} | {cell(kinds['macro'])} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
