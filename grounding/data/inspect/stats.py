"""Counts of a built data set as tables, in one pass over its rows.

Owns what is counted. Holds counters only, so memory does not grow with the number of rows. Reads no pixels;
`stats_plot.py` draws the counts.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from ..schema import SPLITS, iterate_rows, shard_paths

SIZES: Final = ("small", "medium", "large")
"""COCO's classes of box area: below 32 x 32, below 96 x 96, and above, in pixels of the stored picture."""

RELATIVE_AREAS: Final[Mapping[str, float]] = {
    "below 0.1 %": 0.001,
    "0.1 to 1 %": 0.01,
    "1 to 10 %": 0.1,
    "10 to 50 %": 0.5,
    "50 % and more": float("inf"),
}
"""Classes of box area as a share of the picture: name -> upper bound, not included."""

_NOTHING: Final = "not known"


@dataclass
class LabelCounts:
    """What is counted for one label.

    Attributes:
        granularity: region, organ, substructure, lesion or cell; "" where unknown.
        known: whether the ontology has the label.
        images: images with at least one region of it.
        regions: regions.
        masks: regions that have a mask.
        absent: images of which the source says that it is not there (the negatives).
        sizes: regions by COCO's class of box area.
    """

    granularity: str = ""
    known: bool = True
    images: int = 0
    regions: int = 0
    masks: int = 0
    absent: int = 0
    sizes: Counter[str] = field(default_factory=Counter)


@dataclass
class Stats:
    """The counts of a native folder.

    Attributes:
        images: all images.
        empty: images without any region.
        regions: all regions.
        negatives: pairs of an image and a label that is absent from it.
        images_by: facet (split, modality, body region, data set, licence) -> value -> images.
        regions_by: facet (split, modality, body region, granularity, box size, box area, data set, licence)
            -> value -> regions.
        labels: label -> its counts.
        left_out: "dropped" and "quarantined" -> reason -> count, as the builder logged them.
    """

    images: int = 0
    empty: int = 0
    regions: int = 0
    negatives: int = 0
    images_by: dict[str, Counter[str]] = field(default_factory=dict)
    regions_by: dict[str, Counter[str]] = field(default_factory=dict)
    labels: dict[str, LabelCounts] = field(default_factory=dict)
    left_out: dict[str, Counter[str]] = field(default_factory=dict)


def box_size(box: Sequence[float]) -> str:
    """COCO's size class of a box xyxy in pixels."""
    area = _area(box)
    return SIZES[0] if area < 32**2 else SIZES[1] if area < 96**2 else SIZES[2]


def relative_area(box: Sequence[float], height: int, width: int) -> str:
    """Class of a box (xyxy in pixels) by its share of a picture of (height, width) pixels."""
    share = _area(box) / (height * width)
    return next(name for name, bound in RELATIVE_AREAS.items() if share < bound)


def collect(folder: Path) -> Stats:
    """Count a native folder.

    Raises:
        FileNotFoundError: the folder is no built data set.
    """
    shard_paths(folder)
    stats = count_rows(iterate_rows(folder, pixels=False))
    for kind, name in (("dropped", "dropped.jsonl"), ("quarantined", "quarantine.jsonl")):
        stats.left_out[kind] = _reasons(folder / name)
    return stats


def count_rows(rows: Iterable[Mapping[str, Any]]) -> Stats:
    """Count native rows, one at a time."""
    stats = Stats()
    for row in rows:
        _count_image(stats, row)
        for region in row["regions"]:
            _count_region(stats, row, region)
    return stats


def _count_image(stats: Stats, row: Mapping[str, Any]) -> None:
    stats.images += 1
    stats.empty += not row["regions"]
    stats.negatives += len(row["absent_labels"])
    for facet, value in _facets(row).items():
        stats.images_by.setdefault(facet, Counter())[value] += 1
    for label in {region["label"] for region in row["regions"]}:
        stats.labels.setdefault(label, LabelCounts()).images += 1
    for label in row["absent_labels"]:
        stats.labels.setdefault(label, LabelCounts()).absent += 1


def _count_region(stats: Stats, row: Mapping[str, Any], region: Mapping[str, Any]) -> None:
    size = box_size(region["box"])
    facets = _facets(row) | {
        "granularity": region["granularity"] or _NOTHING,
        "box size": size,
        "box area": relative_area(region["box"], row["height"], row["width"]),
    }
    stats.regions += 1
    for facet, value in facets.items():
        stats.regions_by.setdefault(facet, Counter())[value] += 1
    label = stats.labels[region["label"]]
    label.granularity, label.known = region["granularity"], region["known"]
    label.regions += 1
    label.masks += bool(region["mask"])
    label.sizes[size] += 1


def _facets(row: Mapping[str, Any]) -> dict[str, str]:
    columns = ("split", "modality", "body_region", "dataset", "licence")
    names = ("split", "modality", "body region", "data set", "licence")
    return {name: row[column] or _NOTHING for name, column in zip(names, columns, strict=True)}


def _area(box: Sequence[float]) -> float:
    return max(box[2] - box[0], 0.0) * max(box[3] - box[1], 0.0)


def _reasons(path: Path) -> Counter[str]:
    """Reasons of a log of the builder, one JSON object a line."""
    if not path.is_file():
        return Counter()
    with path.open(encoding="utf-8") as lines:
        return Counter(str(json.loads(line).get("reason", _NOTHING)) for line in lines if line.strip())


def render(stats: Stats, label_limit: int = 40) -> str:
    """The counts as Markdown tables that also read well in a terminal.

    Args:
        stats: the counts.
        label_limit: as many labels as are listed, the most frequent first.
    """
    parts = [
        f"{stats.images:,} images ({stats.empty:,} without a region), {stats.regions:,} regions of "
        f"{sum(label.regions > 0 for label in stats.labels.values()):,} labels, {stats.negatives:,} negatives"
    ]
    for facet in ("split", "modality", "body region", "data set", "licence"):
        images, regions = stats.images_by.get(facet, Counter()), stats.regions_by.get(facet, Counter())
        rows = [[value, f"{images[value]:,}", f"{regions[value]:,}"] for value in ordered(facet, images)]
        parts.append(_table([facet, "images", "regions"], rows))
    for facet in ("granularity", "box size", "box area"):
        regions = stats.regions_by.get(facet, Counter())
        rows = [[value, f"{regions[value]:,}", _share(regions, value)] for value in ordered(facet, regions)]
        parts.append(_table([facet, "regions", "share"], rows))
    parts.append(_label_table(stats, label_limit))
    for kind, reasons in stats.left_out.items():
        if reasons:
            rows = [[reason, f"{count:,}"] for reason, count in reasons.most_common()]
            parts.append(_table([f"{kind}: reason", "count"], rows))
    return "\n\n".join(parts)


def _label_table(stats: Stats, limit: int) -> str:
    header = ["label", "granularity", "images", "regions", "masks", *SIZES, "absent"]
    ranked = ranked_labels(stats)
    rows = []
    for name, label in ranked[:limit]:
        counts = [label.images, label.regions, label.masks, *(label.sizes[size] for size in SIZES)]
        told = label.granularity or ("" if label.known else "not in the ontology")
        rows.append([name, told, *(f"{count:,}" for count in [*counts, label.absent])])
    table = _table(header, rows)
    rest = len(ranked) - limit
    return table if rest <= 0 else f"{table}\n\n... and {rest:,} more labels"


def ranked_labels(stats: Stats) -> list[tuple[str, LabelCounts]]:
    """Labels with their counts, the most frequent first."""
    return sorted(stats.labels.items(), key=lambda item: (-item[1].regions, -item[1].absent, item[0]))


def ordered(facet: str, counts: Counter[str]) -> list[str]:
    """Values of a facet: in their natural order where they have one, else the most frequent first."""
    natural: Mapping[str, Sequence[str]] = {
        "split": SPLITS,
        "box size": SIZES,
        "box area": tuple(RELATIVE_AREAS),
        "granularity": ("region", "organ", "substructure", "lesion", "cell"),
    }
    first = [value for value in natural.get(facet, ()) if value in counts]
    rest = sorted(set(counts) - set(first), key=lambda value: (-counts[value], value))
    return [*first, *rest]


def _share(counts: Counter[str], value: str) -> str:
    return f"{counts[value] / counts.total():.1%}"


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table; columns of numbers are set to the right."""
    widths = [max(len(cell) for cell in column) for column in zip(header, *rows, strict=True)]
    right = [bool(rows) and all(row[i][:1].isdigit() for row in rows) for i in range(len(header))]

    def line(cells: Sequence[str]) -> str:
        return f"| {' | '.join(_pad(c, w, r) for c, w, r in zip(cells, widths, right, strict=True))} |"

    rule = "|".join("-" * (w + 1) + (":" if r else "-") for w, r in zip(widths, right, strict=True))
    return "\n".join([line(header), f"|{rule}|", *map(line, rows)])


def _pad(cell: str, width: int, right: bool) -> str:
    cell = cell.replace("|", "/")
    return cell.rjust(width) if right else cell.ljust(width)
