"""Native rows as a folder that ``datasets.load_dataset(folder)`` reads, in the hub's layout for detection.

``data/<split>-*.parquet``, one file a shard of the source, and a ``README.md`` that says what it is.
`objects` is a dictionary of lists, as detection sets on the hub have it: bbox is xywh in pixels (COCO),
category a number with its name in the features. All other columns, of the image and beside category, keep
the names and values that :mod:`grounding.data.schema` gives them, so nothing is left out.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from ..schema import SCHEMA, SPLITS, shard_paths
from .report import NOTICE, ExportReport, Row, Tally, categories_of, new_folder

LOSSES: Final[tuple[str, ...]] = ()

_REGION_FIELDS: Final = {
    **dict.fromkeys(("label", "raw_label", "granularity", "parent", "side", "phrase", "mask"), "string"),
    **{"attributes": "string", "known": "bool", "area": "float64", "source_index": "int32"},
}


def export_hf(source: Path, folder: Path, split: str | None = None) -> ExportReport:
    """Write a built data set for the `datasets` library.

    Args:
        source: what ``medglip data build`` wrote.
        folder: a new or empty folder.
        split: train, val or test; None for all.

    Raises:
        FileNotFoundError: the source is no built data set.
        FileExistsError: the folder holds files.
    """
    categories = categories_of(source, split)
    labels = sorted({label for own in categories.values() for label in own})
    numbers = {label: number for number, label in enumerate(labels)}
    features, licences = features_of(labels), set[str]()
    tally, data = Tally(LOSSES, categories), new_folder(new_folder(folder) / "data")
    for path in shard_paths(source, split):
        with (
            pq.ParquetFile(path) as shard,
            pq.ParquetWriter(data / path.name, features.arrow_schema) as writer,
        ):
            for batch in shard.iter_batches(batch_size=64):
                rows = batch.to_pylist()
                converted = [example_of(row, numbers) for row in rows]
                writer.write_table(pa.Table.from_pylist(converted, schema=features.arrow_schema))
                for row in rows:
                    tally.add(row)
                    licences.add(row["licence"])
    splits = [name for name in SPLITS if any(data.glob(f"{name}-*.parquet"))]
    (folder / "README.md").write_text(_card(splits, licences, sorted(categories)), encoding="utf-8")
    return tally.report(folder)


def features_of(labels: list[str]) -> datasets.Features:
    """The columns as `datasets` names their types."""
    plain = datasets.Features.from_arrow_schema(
        pa.schema([f for f in SCHEMA if f.name not in ("image", "regions")])
    )
    objects: dict[str, Any] = {
        "bbox": datasets.List(datasets.List(datasets.Value("float64"), length=4)),
        "category": datasets.List(datasets.ClassLabel(names=labels)),
        **{name: datasets.List(datasets.Value(kind)) for name, kind in _REGION_FIELDS.items()},
    }
    return datasets.Features({"image": datasets.Image(), **plain, "objects": objects})


def example_of(row: Row, numbers: Mapping[str, int]) -> dict[str, Any]:
    """A row with its regions as a dictionary of lists, boxes as xywh."""
    regions = row["regions"]
    corners = [region["box"] for region in regions]
    objects: dict[str, Any] = {
        "bbox": [[x1, y1, x2 - x1, y2 - y1] for x1, y1, x2, y2 in corners],
        "category": [numbers[region["label"]] for region in regions],
        **{name: [region[name] for region in regions] for name in _REGION_FIELDS},
    }
    return {name: value for name, value in row.items() if name != "regions"} | {"objects": objects}


def _card(splits: list[str], licences: set[str], names: list[str]) -> str:
    """README.md: the files of each split for `load_dataset`, then words for people."""
    files = [{"split": name, "path": f"data/{name}-*.parquet"} for name in splits]
    head = {
        "task_categories": ["object-detection"],
        "license": "other",
        "configs": [{"config_name": "default", "data_files": files}],
    }
    return (
        f"---\n{yaml.safe_dump(head, sort_keys=False)}---\n\n{NOTICE}\n\n"
        f"Sources: {', '.join(names)}.\nLicences: {'; '.join(sorted(licences))}.\n\n"
        "`objects.bbox` is x, y, width, height in pixels; `objects.mask` is COCO's compressed run lengths\n"
        "over (height, width); `absent_labels` are the labels that were looked for and are not there.\n"
    )
