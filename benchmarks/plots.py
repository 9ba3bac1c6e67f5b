"""Pictures of results, as PNG files. The only place in benchmarks that draws."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from grounding.evaluate import DetectionResult


def plot_detection(results: Mapping[str, DetectionResult], path: Path) -> None:
    """Horizontal bars of AP50 and AP a set (left) and AP50 a category (right)."""
    from matplotlib.figure import Figure  # no pyplot: no global state, no display

    categories = {f"{s}: {c.name}": c.ap50 for s, r in results.items() for c in r.per_category if c.n_boxes}
    figure = Figure(figsize=(12, max(3.0, 0.28 * len(categories) + 1)), layout="constrained")
    by_set, by_category = figure.subplots(1, 2)
    places = range(len(results))
    by_set.barh(places, [r.ap50 for r in results.values()], height=0.8, color="#9ecae1", label="AP50")
    by_set.barh(places, [r.ap for r in results.values()], height=0.4, color="#08519c", label="AP")
    by_set.set_yticks(list(places), list(results))
    by_set.legend(loc="lower right")
    by_category.barh(list(categories), list(categories.values()), color="#9ecae1")
    for axes, title in ((by_set, "COCO AP by set"), (by_category, "AP50 by category")):
        axes.set(title=title, xlim=(0, 1))
        axes.invert_yaxis()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)


def plot_coverage(curve: Mapping[str, Sequence[float]], path: Path) -> None:
    """Accuracy of the answers given against their share, by falling threshold."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    axes.step(curve["coverage"], curve["accuracy"], where="post", color="#08519c")
    axes.set(xlabel="share of questions answered", ylabel="accuracy of the answers", xlim=(0, 1), ylim=(0, 1))
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)
