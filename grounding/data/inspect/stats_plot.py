"""The counts of a built data set drawn as one PNG. Knows `Stats` and matplotlib, no rows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from .stats import LabelCounts, Stats, ordered, ranked_labels

_PRESENT: Final = "#4477aa"
_ABSENT: Final = "#ddcc77"


def plot(stats: Stats, path: Path, label_limit: int = 30) -> None:
    """Write the counts as one PNG: modality, granularity, box size, licence, and the frequent labels.

    Args:
        stats: the counts.
        path: the PNG; its folder is made.
        label_limit: as many labels as are drawn, the most frequent first.
    """
    from matplotlib.figure import Figure

    labels = ranked_labels(stats)
    shown = labels[:label_limit]
    figure = Figure(figsize=(13, 7.5 + 0.16 * max(len(shown) - 10, 0)), layout="constrained")
    figure.suptitle(f"{stats.images:,} images, {stats.regions:,} regions, {stats.negatives:,} negatives")
    grid = figure.add_gridspec(3, 3, width_ratios=(1, 1, 1.25))
    panels = [
        ("images by modality", stats.images_by, "modality"),
        ("images by split", stats.images_by, "split"),
        ("regions by granularity", stats.regions_by, "granularity"),
        ("regions by box size (COCO)", stats.regions_by, "box size"),
        ("regions by share of the picture", stats.regions_by, "box area"),
        ("images by licence", stats.images_by, "licence"),
    ]
    for index, (title, counts, facet) in enumerate(panels):
        values = counts.get(facet, Counter())
        names = ordered(facet, values)[:8]
        _bars(figure.add_subplot(grid[index // 2, index % 2]), title, names, [values[n] for n in names])
    axes = figure.add_subplot(grid[:, 2])
    title = "images with the label" + ("" if len(shown) == len(labels) else f", the first {len(shown)}")
    _label_bars(axes, title, shown)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=100)


def _bars(axes: Any, title: str, names: Sequence[str], counts: Sequence[int]) -> None:
    bars = axes.barh([_short(name) for name in names], counts, color=_PRESENT)
    axes.bar_label(bars, labels=[f"{count:,}" for count in counts], padding=3, fontsize=8)
    _plain(axes, title, rows=max(len(names), 6), longest=1.2 * max(counts, default=1))


def _label_bars(axes: Any, title: str, labels: Sequence[tuple[str, LabelCounts]]) -> None:
    """Present and absent side by side: what is never absent cannot teach a grounder to say no."""
    names = [_short(name) for name, _ in labels]
    present, absent = [label.images for _, label in labels], [label.absent for _, label in labels]
    axes.barh(names, present, color=_PRESENT, label="present")
    axes.barh(names, absent, left=present, color=_ABSENT, label="absent (negative)")
    axes.legend(loc="upper left", bbox_to_anchor=(0, -0.03), ncols=2, fontsize=8, frameon=False)
    longest = max((p + a for p, a in zip(present, absent, strict=True)), default=1)
    _plain(axes, title, rows=max(len(names), 6), longest=1.05 * longest)


def _plain(axes: Any, title: str, rows: int, longest: float) -> None:
    """One look for all panels: the first bar on top, room for `rows` of them."""
    axes.set_title(title, fontsize=10, loc="left")
    axes.set_ylim(rows - 0.4, -0.6)
    axes.set_xlim(0, longest)
    axes.tick_params(labelsize=8)
    axes.spines[["top", "right"]].set_visible(False)
    axes.locator_params(axis="x", nbins=5)


def _short(text: str, length: int = 30) -> str:
    return text if len(text) <= length else f"{text[: length - 3]}..."
