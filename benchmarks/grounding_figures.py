"""All figures of one detector on one set, with intervals by patient or group, and their mean over sets.

Owns which metrics are reported and how sets, modalities and granularities are put together. The metrics
themselves live in `grounding.evaluate`, the resampling in `benchmarks.stats`.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks.stats import Resampled, pool, resample
from grounding.evaluate.absent import absent_metrics, box_recall
from grounding.evaluate.calibrate import calibration_error
from grounding.evaluate.coco import DetectionResult, regions_to_coco, score_detections
from grounding.evaluate.consistency import organ_metric
from grounding.evaluate.detections import Detections, Threshold
from grounding.evaluate.matching import AT50, AT75, FALSE_BOXES_AN_IMAGE, Figure, Matches, match
from grounding.evaluate.phrases import phrase_metrics
from grounding.evaluate.resampling import Floats, Metric
from grounding.evaluate.targets import TargetSet

Slice = tuple[str, str]
"""(modality, granularity)."""


@dataclass(frozen=True, eq=False)
class SetFigures:
    """One detector on one set.

    Attributes:
        targets: the set.
        own: the answers to its labels.
        matches: of these answers.
        coco: the official COCO figures.
        metrics: every metric of the whole set, resampled.
        slices: AP and AP50 by modality and granularity, resampled.
        labels: AP and AP50 by label, resampled.
    """

    targets: TargetSet
    own: Sequence[Detections]
    matches: Matches
    coco: DetectionResult
    metrics: dict[str, Resampled]
    slices: dict[Slice, dict[str, Resampled]]
    labels: dict[str, dict[str, Resampled]]

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types: COCO's figures on top, the rest with intervals below."""
        return {
            **self.coco.to_dict(),
            "n_groups": len(set(self.targets.groups)),
            "figures": intervals(self.metrics),
            "slices": {" / ".join(key): intervals(each) for key, each in self.slices.items()},
            "labels": {label: intervals(each) for label, each in self.labels.items()},
        }


def measure(
    targets: TargetSet,
    own: Sequence[Detections],
    foreign: Sequence[Detections],
    threshold: Threshold,
    *,
    n_bootstrap: int = 1000,
) -> SetFigures:
    """Compute every figure of one detector on one set.

    Args:
        targets: the set.
        own: answers to the set's labels, image by image.
        foreign: answers to labels of other modalities; empty where the detector cannot be asked.
        threshold: what is shown by default.
        n_bootstrap: resamples.
    """
    matches = match(targets, own)
    whole: dict[str, Metric] = {
        **_detection_metrics(matches, None),
        **{f"froc{rate:g}": _FrocAt(matches, rate) for rate in FALSE_BOXES_AN_IMAGE},
        **phrase_metrics(targets, own, threshold),
        **absent_metrics(targets, own, foreign, threshold),
        "box_recall50": box_recall(matches, targets, own, threshold),
        "in_organ": organ_metric(own, threshold),
        "ece_mass": calibration_error(matches, equal_mass=True),
        "ece_width": calibration_error(matches, equal_mass=False),
    }
    parts = {key: _few(matches, labels, keep) for key, labels, keep in _slices(targets)}
    by_label = {label: _few(matches, (k,), None) for k, label in enumerate(targets.labels)}
    seed = zlib.crc32(targets.name.encode())  # its own for each set, the same for each detector

    def drawn(metrics: Mapping[str, Metric]) -> dict[str, Resampled]:
        return resample(metrics, targets.groups, n_bootstrap=n_bootstrap, seed=seed)

    return SetFigures(
        targets=targets,
        own=own,
        matches=matches,
        coco=official(targets, own),
        metrics=drawn(whole),
        slices={key: drawn(metrics) for key, metrics in parts.items()},
        labels={label: drawn(metrics) for label, metrics in by_label.items()},
    )


def official(targets: TargetSet, own: Sequence[Detections]) -> DetectionResult:
    """COCO's figures by faster-coco-eval."""
    rows = [
        row
        for target, answer in zip(targets.targets, own, strict=True)
        for row in regions_to_coco(answer.regions, target.image_id, targets.category_ids)
    ]
    return score_detections(targets.to_coco(), rows)


def _detection_metrics(matches: Matches, labels: tuple[int, ...] | None) -> dict[str, Metric]:
    return {
        "ap": Figure(matches, labels=labels),
        "ap50": Figure(matches, at=AT50, labels=labels),
        "ap75": Figure(matches, at=AT75, labels=labels),
        "ar100": Figure(matches, recall=True, labels=labels),
    }


def _few(matches: Matches, labels: tuple[int, ...], keep: Floats | None) -> dict[str, Metric]:
    """AP and AP50 of some labels, on the images with `keep` = 1 only."""
    figures: dict[str, Metric] = {
        "ap": Figure(matches, labels=labels),
        "ap50": Figure(matches, at=AT50, labels=labels),
    }
    return figures if keep is None else {name: _OnImages(each, keep) for name, each in figures.items()}


@dataclass(frozen=True, eq=False)
class _OnImages:
    """A metric on some of the images: the others count 0 times."""

    metric: Metric
    keep: Floats

    def __call__(self, weights: Floats) -> Floats:
        return self.metric(weights * self.keep)


@dataclass(frozen=True, eq=False)
class _FrocAt:
    """Sensitivity at one rate of false boxes an image."""

    matches: Matches
    rate: float

    def __call__(self, weights: Floats) -> Floats:
        return self.matches.froc(weights, [self.rate])[:, 0]


def _slices(targets: TargetSet) -> Iterable[tuple[Slice, tuple[int, ...], Floats]]:
    """Every modality x granularity of a set: its labels, and its images as 1 among 0."""
    modalities = [target.modality or "unknown" for target in targets.targets]
    for modality in sorted(set(modalities)):
        keep = np.array([float(each == modality) for each in modalities])
        for granularity in sorted(set(targets.granularity)):
            labels = tuple(k for k, each in enumerate(targets.granularity) if each == granularity)
            yield (modality, granularity), labels, keep


def pooled(figures: Iterable[SetFigures]) -> dict[str, Resampled]:
    """The mean over sets of every metric."""
    parts: dict[str, list[Resampled]] = {}
    for each in figures:
        for name, metric in each.metrics.items():
            parts.setdefault(name, []).append(metric)
    return _pool(parts)


def pooled_slices(figures: Iterable[SetFigures]) -> dict[Slice, dict[str, Resampled]]:
    """The mean over sets of AP and AP50, by modality and granularity."""
    parts: dict[Slice, dict[str, list[Resampled]]] = {}
    for each in figures:
        for key, metrics in each.slices.items():
            for name, metric in metrics.items():
                parts.setdefault(key, {}).setdefault(name, []).append(metric)
    found = {key: _pool(metrics) for key, metrics in sorted(parts.items())}
    return {key: metrics for key, metrics in found.items() if metrics}


def differences(ours: Mapping[str, SetFigures], other: Mapping[str, SetFigures]) -> dict[str, Any]:
    """Paired differences `ours - other` of every shared metric, by set and as the mean over sets."""
    by_set = {
        name: {
            metric: mine.minus(other[name].metrics[metric])
            for metric, mine in ours[name].metrics.items()
            if metric in other[name].metrics
        }
        for name in ours.keys() & other.keys()
    }
    parts: dict[str, list[Resampled]] = {}
    for metrics in by_set.values():
        for metric, difference in metrics.items():
            parts.setdefault(metric, []).append(difference)
    return {
        **{name: intervals(metrics) for name, metrics in sorted(by_set.items())},
        "mean over sets": intervals(_pool(parts)),
    }


def _pool(parts: Mapping[str, Sequence[Resampled]]) -> dict[str, Resampled]:
    return {
        name: pool(each) for name, each in parts.items() if any(not math.isnan(one.estimate) for one in each)
    }


def intervals(metrics: Mapping[str, Resampled]) -> dict[str, dict[str, float]]:
    """Estimate and 95 % interval as plain numbers; what has no meaning on this set is left out."""
    found = {name: each.interval() for name, each in metrics.items()}
    return {
        name: {"mean": each.mean, "low": each.low, "high": each.high}
        for name, each in found.items()
        if not math.isnan(each.mean)
    }
