"""Pictures of results: intervals and curves as SVG for pages, COCO figures as a PNG file."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.markup import Html, tag
from grounding.evaluate import DetectionResult

_WIDTH, _ROW, _LABEL, _VALUE, _FOOT = 780, 24, 250, 70, 30
"""Pixels of an interval plot: in all, a row, room for names, room for figures, the axis."""
SERIES = 6
"""Colours that page.css has for series (`s0`, `s1`, ...)."""


class Dot(NamedTuple):
    """One row of an interval plot: a mean with the ends of its interval, and its colour."""

    name: str
    mean: float
    low: float
    high: float
    series: int = 0

    @classmethod
    def of(cls, name: str, interval: Mapping[str, Any], series: int = 0) -> Dot:
        """From an interval as the runs write it."""
        return cls(name, interval["mean"], interval["low"], interval["high"], series)


def interval_plot(dots: Sequence[Dot], title: str, *, signed: bool = False) -> Html:
    """Means as dots with their intervals as bars, one below the other; empty without rows.

    Args:
        dots: the rows.
        title: shown above.
        signed: for differences: the axis is symmetric about 0, which is drawn as a line; else it is [0, 1],
            or ends above 1 where a metric does.
    """
    if not dots:
        return Html()
    low, high = _range(dots, signed)
    left, right = _LABEL, _WIDTH - _VALUE
    bottom = _ROW * len(dots) + 8

    def x(value: float) -> float:
        return round(left + (value - low) / (high - low) * (right - left), 1)

    marks = []
    for k in range(5):
        value = low + (high - low) * k / 4
        kind = "zero" if signed and k == 2 else "grid"
        marks.append(tag("line", x1=x(value), x2=x(value), y1=4, y2=bottom, class_=kind))
        marks.append(tag("text", f"{value:.3g}", x=x(value), y=bottom + 16, class_="tick middle"))
    for place, dot in enumerate(dots):
        y = 8 + _ROW * place + _ROW // 2
        colour = f"s{dot.series % SERIES}"
        marks += [
            tag("text", _short(dot.name), x=left - 12, y=y + 4, class_="name end"),
            tag("line", x1=x(dot.low), x2=x(dot.high), y1=y, y2=y, class_=f"bar {colour}"),
            tag("circle", cx=x(dot.mean), cy=y, r=4.5, class_=f"dot {colour}"),
            tag("text", f"{dot.mean:.3f}", x=right + 14, y=y + 4, class_="value"),
        ]
    return _picture(_WIDTH, bottom + _FOOT, title, marks)


def _range(dots: Sequence[Dot], signed: bool) -> tuple[float, float]:
    """The ends of the axis, round numbers."""
    wide = max(max(abs(dot.low), abs(dot.high)) for dot in dots) or 1.0
    if not signed and wide <= 1:
        return 0.0, 1.0
    step = 10.0 ** math.floor(math.log10(wide)) / 2
    wide = math.ceil(round(wide / step, 6)) * step
    return -wide if signed else 0.0, wide


def _short(name: str, most: int = 33) -> str:
    """The name, its middle left out where it is long: both ends tell names apart."""
    return name if len(name) <= most else f"{name[:14]}…{name[-(most - 15) :]}"


def curve_plot(
    curves: Mapping[str, Sequence[tuple[float, float]]], title: str, x_name: str, y_name: str
) -> Html:
    """Curves over places that are named by their x, evenly spaced; y in [0, 1]. Empty without curves."""
    if not curves:
        return Html()
    places = sorted({x for points in curves.values() for x, _ in points})
    width, height, left, top = 620, 300, 54, 12
    right, bottom = width - 16, height - 48

    def at(x: float, y: float) -> tuple[float, float]:
        across = places.index(x) / max(1, len(places) - 1)
        return round(left + 12 + across * (right - left - 24), 1), round(bottom - y * (bottom - top), 1)

    marks = []
    for k in range(5):
        y = at(places[0], k / 4)[1]
        marks.append(tag("line", x1=left, x2=right, y1=y, y2=y, class_="grid"))
        marks.append(tag("text", f"{k / 4:g}", x=left - 8, y=y + 4, class_="tick end"))
    for x in places:
        marks.append(tag("text", f"{x:g}", x=at(x, 0)[0], y=bottom + 18, class_="tick middle"))
    marks.append(tag("text", x_name, x=(left + right) / 2, y=height - 8, class_="tick middle"))
    marks.append(tag("text", y_name, x=left + 4, y=top + 12, class_="tick"))
    for series, points in enumerate(curves.values()):
        colour = f"s{series % SERIES}"
        placed = [at(*point) for point in points]
        line = " ".join(f"{x},{y}" for x, y in placed)
        marks.append(tag("polyline", points=line, class_=f"curve {colour}"))
        marks += [tag("circle", cx=x, cy=y, r=3.5, class_=f"dot {colour}") for x, y in placed]
    return _picture(width, height, title, marks)


def legend(names: Sequence[str]) -> Html:
    """Names of series beside their colours."""
    keys = [
        tag("span", tag("span", class_=f"key s{k % SERIES}"), name, class_="entry")
        for k, name in enumerate(names)
    ]
    return tag("p", *keys, class_="legend")


def _picture(width: int, height: int, title: str, marks: Sequence[Html]) -> Html:
    svg = tag(
        "svg",
        tag("title", title),
        *marks,
        viewBox=f"0 0 {width} {height}",
        style=f"max-width:{width}px",
        role="img",
        class_="plot",
    )
    return tag("figure", tag("figcaption", title), svg)


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
