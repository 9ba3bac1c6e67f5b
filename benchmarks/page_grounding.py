"""The parts of a page on a grounding run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.gallery import grounding_cards, in_turn, judged_images
from benchmarks.grounding_tables import TOPICS
from benchmarks.markup import Html, section, table, tag
from benchmarks.plots import Dot, curve_plot, interval_plot, legend
from benchmarks.run_folder import MEAN, RunFolder, interval_text

HEADLINE = "ap50"
Figures = Mapping[str, Mapping[str, Any]]
"""Metric -> interval."""


def grounding_sections(run: RunFolder, data_dir: Path | None, regions: Path | None, count: int) -> list[Html]:
    """Results by set and detector, sensitivity, labels, differences to peers, gallery."""
    detectors = run.detectors()
    return [
        _introduction(run, detectors),
        _results(run, detectors),
        _sensitivity(run),
        _slices(run),
        _labels(detectors),
        _differences(run),
        Html() if data_dir is None else _gallery(run, data_dir, count),
    ]


def _introduction(run: RunFolder, detectors: Mapping[str, Mapping[str, Any]]) -> Html:
    sets = next(iter(detectors.values()))
    images, boxes = (sum(figures[key] for figures in sets.values()) for key in ("n_images", "n_boxes"))
    told = (
        f"{images} images of {len(sets)} sets with {boxes} true boxes. 95 % bootstrap intervals that draw "
        f"whole patients where they are known; headline: {HEADLINE}. A mean over sets counts every set alike."
    )
    if run.settings.get("limit"):
        told += f" The first {run.settings['limit']} images a set only: a quick look, no result."
    return tag("p", told)


def _results(run: RunFolder, detectors: Mapping[str, Mapping[str, Any]]) -> Html:
    names = list(next(iter(detectors.values())))
    means: Mapping[str, Figures] = run.metrics[MEAN]
    several = len(detectors) > 1
    dots = []
    for name in [*names, MEAN]:
        for series, detector in enumerate(detectors):
            found = means[detector] if name == MEAN else detectors[detector].get(name, {}).get("figures", {})
            if HEADLINE in found:
                dots.append(Dot.of(f"{name}: {detector}" if several else name, found[HEADLINE], series))
    parts = []
    for topic, metrics in TOPICS.items():
        body = table(["set", "detector", *metrics], _topic_rows(detectors, means, metrics))
        parts.append(tag("details", tag("summary", topic), body, open="" if topic == "Detection" else None))
    return section(
        f"Results ({HEADLINE})",
        legend(list(detectors)) if several else "",
        interval_plot(dots, "AP at IoU .5 by set"),
        *parts,
    )


def _topic_rows(
    detectors: Mapping[str, Mapping[str, Any]], means: Mapping[str, Figures], metrics: tuple[str, ...]
) -> list[list[str]]:
    rows = [
        [name, detector, *(interval_text(figures["figures"].get(metric)) for metric in metrics)]
        for detector, sets in detectors.items()
        for name, figures in sets.items()
    ]
    rows += [
        [MEAN, detector, *(interval_text(found.get(metric)) for metric in metrics)]
        for detector, found in means.items()
    ]
    order = {name: k for k, name in enumerate(dict.fromkeys(row[0] for row in rows))}
    return sorted(rows, key=lambda row: order[row[0]])


def _sensitivity(run: RunFolder) -> Html:
    curves = {
        detector: [
            (float(name.removeprefix("froc")), interval["mean"])
            for name, interval in found.items()
            if name.startswith("froc")
        ]
        for detector, found in run.metrics[MEAN].items()
    }
    curves = {detector: points for detector, points in curves.items() if points}
    return section(
        "Sensitivity",
        legend(list(curves)) if len(curves) > 1 else "",
        curve_plot(
            curves, "True boxes found (IoU .5), mean over sets", "false boxes an image", "share found"
        ),
    )


def _slices(run: RunFolder) -> Html:
    slices: Mapping[str, Mapping[str, Figures]] = run.metrics["modality and granularity"]
    dots = [
        Dot.of(f"{name}: {detector}" if len(slices) > 1 else name, found[HEADLINE], series)
        for series, (detector, cells) in enumerate(slices.items())
        for name, found in cells.items()
        if HEADLINE in found
    ]
    return section(
        "Modality and granularity", interval_plot(dots, f"{HEADLINE}, mean over the sets that have it")
    )


def _labels(detectors: Mapping[str, Mapping[str, Any]]) -> Html:
    rows = [
        [f"{name}: {label}", detector, *(interval_text(found.get(metric)) for metric in ("ap50", "ap"))]
        for detector, sets in detectors.items()
        for name, figures in sets.items()
        for label, found in figures["labels"].items()
    ]
    body = table(["label", "detector", "ap50", "ap"], rows)
    return section("Labels", tag("details", tag("summary", f"{len(rows)} labels"), body)) if rows else Html()


def _differences(run: RunFolder) -> Html:
    pairs: Mapping[str, Mapping[str, Figures]] = run.metrics["differences"]
    if not pairs:
        return Html()
    dots = [Dot.of(pair, found[MEAN][HEADLINE]) for pair, found in pairs.items() if HEADLINE in found[MEAN]]
    rows = [
        [f"{pair}, {name}", *(interval_text(figures.get(m)) for m in TOPICS["Detection"])]
        for pair, found in pairs.items()
        for name, figures in found.items()
    ]
    note = "Differences of the same resamples. Intervals are not adjusted for standing in one table."
    return section(
        "Paired differences",
        interval_plot(dots, f"{HEADLINE}, a - b, {MEAN}", signed=True),
        table(["a - b", *TOPICS["Detection"]], rows),
        tag("p", note, class_="remark"),
    )


def _gallery(run: RunFolder, data_dir: Path, count: int) -> Html:
    sets = judged_images(run, data_dir)
    right = in_turn([[e for e in own if not e.wrong and len(e.target.boxes)] for own in sets], count)
    wrong = in_turn([sorted((e for e in own if e.wrong), key=lambda e: -e.wrong) for own in sets], count)
    note = (
        "Dashed: true boxes. Shown boxes are right where they meet a true one of their label at IoU .5. The "
        "wrong ones are those with the most mistakes, set by set."
    )
    return section(
        f"Answers: {next(iter(run.detectors()))}",
        tag("p", note, class_="remark"),
        *([tag("h3", f"Right: {len(right)}"), grounding_cards(right, "right")] if right else []),
        *([tag("h3", f"Wrong: {len(wrong)}"), grounding_cards(wrong, "wrong")] if wrong else []),
    )
