"""Pictures of grounding results, as PNG files: curves, reliability, FROC, and a gallery of failures.

The gallery shows real images: it stays in the output folder and is never committed.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.grounding_figures import SetFigures
from grounding.boxes import box_iou
from grounding.evaluate.calibrate import reliability
from grounding.evaluate.detections import Detections, Threshold
from grounding.evaluate.matching import AT50, FALSE_BOXES_AN_IMAGE, take_greedily
from grounding.evaluate.targets import Target

GALLERY = 12  # pictures a set


def _grid(count: int, size: float = 3.4, columns: int = 4) -> tuple[Any, list[Any]]:
    """A figure with `count` axes in rows of `columns`."""
    from matplotlib.figure import Figure  # no pyplot: no global state, no display

    columns = max(1, min(columns, count))
    rows = max(1, -(-count // columns))
    figure = Figure(figsize=(size * columns, size * rows), layout="constrained")
    axes = list(np.atleast_1d(figure.subplots(rows, columns)).flat)
    for unused in axes[count:]:
        unused.set_axis_off()
    return figure, axes


def _save(figure: Any, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)


def plot_precision_recall(figures: Mapping[str, SetFigures], path: Path) -> None:
    """Precision over recall at IoU .5, one picture a set, one line a label."""
    figure, axes = _grid(len(figures))
    for ax, (name, each) in zip(axes, figures.items(), strict=False):
        for index, label in enumerate(each.targets.labels):
            if each.matches.n_true[:, index].any():
                recall, precision = each.matches.precision_recall(index)
                ax.plot(recall, precision, label=label, linewidth=1)
        ax.set(title=name, xlim=(0, 1), ylim=(0, 1.02), xlabel="recall", ylabel="precision")
        if ax.lines:
            ax.legend(fontsize=6, loc="lower left")
    _save(figure, path)


def plot_reliability(figures: Mapping[str, SetFigures], path: Path) -> None:
    """Share of right boxes (IoU .5) over their mean score, in bins of equal mass and of equal width."""
    figure, axes = _grid(len(figures))
    for ax, (name, each) in zip(axes, figures.items(), strict=False):
        ax.plot([0, 1], [0, 1], color="grey", linewidth=0.8)
        for equal_mass, marker in ((True, "o"), (False, "s")):
            bins = reliability(each.matches.scores, each.matches.hits[AT50], equal_mass=equal_mass)
            label = "equal mass" if equal_mass else "equal width"
            ax.plot(bins.score, bins.right, marker=marker, markersize=3, linewidth=1, label=label)
        ax.set(title=name, xlim=(0, 1), ylim=(0, 1), xlabel="score", ylabel="right")
        ax.legend(fontsize=6)
    _save(figure, path)


def plot_froc(runs: Mapping[str, Mapping[str, SetFigures]], path: Path) -> None:
    """Share of true boxes found over false boxes an image, one picture a set, one line a detector."""
    names = list(dict.fromkeys(name for sets in runs.values() for name in sets))
    figure, axes = _grid(len(names))
    for ax, name in zip(axes, names, strict=False):
        for detector, sets in runs.items():
            if name in sets:
                once = np.ones((1, len(sets[name].targets.targets)))
                found = sets[name].matches.froc(once)[0]
                ax.plot(FALSE_BOXES_AN_IMAGE, found, marker="o", markersize=3, label=detector)
        limits = FALSE_BOXES_AN_IMAGE[0], FALSE_BOXES_AN_IMAGE[-1]  # a set without true boxes draws nothing
        ax.set(title=name, xlim=limits, ylim=(0, 1.02), xlabel="false boxes an image", ylabel="found")
        ax.set_xscale("log", base=2)
        ax.legend(fontsize=6)
    _save(figure, path)


def mistakes(target: Target, answer: Detections, threshold: Threshold) -> int:
    """True boxes missed plus false boxes shown, at the threshold and IoU .5."""
    regions, wrong = answer.regions[answer.shown(threshold)].sorted(), 0
    for label in range(len(regions.asked)):
        shown = regions[regions.phrase_index == label]
        truth = target.boxes[target.labels == label]
        hits = int(take_greedily(box_iou(shown.boxes.astype(np.float64), truth))[AT50].sum())
        wrong += len(truth) + len(shown) - 2 * hits
    return wrong


def plot_failures(figures: SetFigures, threshold: Threshold, path: Path) -> None:
    """The images of a set with the most mistakes: true boxes green, shown boxes red with their score."""
    pairs = list(zip(figures.targets.targets, figures.own, strict=True))
    wrong = [mistakes(target, answer, threshold) for target, answer in pairs]
    worst = [int(i) for i in np.argsort(-np.array(wrong), kind="stable")[:GALLERY] if wrong[i]]
    if not worst:
        return
    figure, axes = _grid(len(worst))
    for ax, index in zip(axes, worst, strict=False):
        target, answer = pairs[index]
        ax.imshow(figures.targets.open(target).pixels)
        ax.set_title(f"{target.file_name}: {wrong[index]} wrong", fontsize=6)
        ax.set_axis_off()
        for box in target.boxes:
            _draw(ax, box, "lime")
        for region in answer.regions[answer.shown(threshold)]:
            _draw(ax, region.box, "red")
            ax.text(*region.box[:2], f"{region.phrase} {region.score:.2f}", fontsize=5, color="red")
    _save(figure, path)


def _draw(ax: Any, box: np.ndarray[Any, Any], colour: str) -> None:
    from matplotlib.patches import Rectangle

    x1, y1, x2, y2 = (float(v) for v in box)
    ax.add_patch(Rectangle((x1, y1), x2 - x1, y2 - y1, fill=False, edgecolor=colour, linewidth=0.9))
