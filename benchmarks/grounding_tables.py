"""Grounding figures as markdown: detectors side by side, one table a topic."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from benchmarks.grounding_figures import SetFigures, pooled, pooled_slices
from benchmarks.stats import Resampled

Runs = Mapping[str, Mapping[str, SetFigures]]
"""Detector -> set -> figures."""

TOPICS = {
    "Detection": ("ap", "ap50", "ap75", "ar100"),
    "Phrase grounding": ("acc25", "acc50", "acc75", "miou", "pointing"),
    "Recall among the best boxes": ("recall1", "recall5", "recall10", "merged1", "merged5", "merged10"),
    "Sensitivity at false boxes an image": (
        "froc0.125",
        "froc0.25",
        "froc0.5",
        "froc1",
        "froc2",
        "froc4",
        "froc8",
    ),
    "At the default threshold": ("phrase_recall", "box_recall50", "f1_is_1", "no_target", "in_organ"),
    "Absent phrases": (
        "false_positives_annotated",
        "auroc_annotated",
        "false_positives_foreign",
        "auroc_foreign",
    ),
    "Calibration": ("ece_mass", "ece_width"),
}


def report(runs: Runs) -> str:
    """All topics, then modality x granularity."""
    parts = [f"## {topic}\n\n{topic_table(runs, metrics)}" for topic, metrics in TOPICS.items()]
    if len(runs) > 1:
        parts.insert(0, f"## AP50 side by side\n\n{side_by_side(runs, 'ap50')}")
    return "\n\n".join([*parts, f"## Modality and granularity\n\n{slice_table(runs)}"]) + "\n"


def topic_table(runs: Runs, metrics: Sequence[str]) -> str:
    """One row a set and detector, and the mean over sets; 95 % intervals in brackets."""
    rows = []
    for name in dict.fromkeys(name for sets in runs.values() for name in sets):
        rows += [
            [name, detector, *_cells(sets[name].metrics, metrics)]
            for detector, sets in runs.items()
            if name in sets
        ]
    rows += [
        [f"mean of {len(sets)} sets", detector, *_cells(pooled(sets.values()), metrics)]
        for detector, sets in runs.items()
        if len(sets) > 1
    ]
    return markdown(["set", "detector", *metrics], rows)


def side_by_side(runs: Runs, metric: str) -> str:
    """One metric: a row a set and one for their mean, a column a detector."""
    names = list(dict.fromkeys(name for sets in runs.values() for name in sets))
    found = {
        detector: {**{name: each.metrics for name, each in sets.items()}, "mean": pooled(sets.values())}
        for detector, sets in runs.items()
    }
    rows = [
        [name, *(cell(metrics.get(name, {}).get(metric)) for metrics in found.values())]
        for name in [*names, "mean"]
    ]
    return markdown(["set", *runs], rows)


def slice_table(runs: Runs) -> str:
    """One row a modality, granularity and detector: the mean over the sets that have it."""
    rows = [
        [*key, detector, *_cells(metrics, ("ap", "ap50"))]
        for detector, sets in runs.items()
        for key, metrics in pooled_slices(sets.values()).items()
    ]
    return markdown(["modality", "granularity", "detector", "ap", "ap50"], sorted(rows))


def _cells(metrics: Mapping[str, Resampled], names: Sequence[str]) -> list[str]:
    return [cell(metrics.get(name)) for name in names]


def cell(metric: Resampled | None) -> str:
    """Such as `0.530 [0.480, 0.581]`; a dash where the metric has no meaning."""
    if metric is None or metric.estimate != metric.estimate:
        return "-"
    found = metric.interval()
    return f"{found.mean:.3f} [{found.low:.3f}, {found.high:.3f}]"


def markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
