"""The native form of a built data set: one row an image, parquet that `datasets` reads as it is.

A folder written by the builder holds ``data/<split>-00000-of-00002.parquet`` (load it with
``datasets.load_dataset("parquet", data_files=...)`` or with :func:`iterate_rows`), ``manifest.json``,
``dropped.jsonl`` and ``quarantine.jsonl``. Pixel coordinates are xyxy of the stored picture, origin top-left.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

SPLITS: Final = ("train", "val", "test")

REGION: Final = pa.struct(
    [
        ("box", pa.list_(pa.float64())),  # xyxy pixels
        ("label", pa.string()),  # the ontology's name; the raw label where the ontology has none
        ("raw_label", pa.string()),
        ("known", pa.bool_()),  # whether the ontology knows the label
        ("granularity", pa.string()),  # region, organ, substructure, lesion, cell; "" where unknown
        ("parent", pa.string()),  # the broader label, "" where unknown
        ("side", pa.string()),  # the patient's side: right, left or ""
        ("phrase", pa.string()),  # one way to ask for it, drawn by seed
        ("mask", pa.string()),  # COCO's compressed RLE counts over (height, width), "" where there is no mask
        ("area", pa.float64()),  # pixels: of the mask, or of the box where there is none
        ("source_index", pa.int32()),  # which annotation of the source image it came from
        ("attributes", pa.string()),  # JSON
    ]
)

SCHEMA: Final = pa.schema(
    [
        ("image_id", pa.string()),  # "<dataset>/<source key>", unique
        ("image", pa.struct([("bytes", pa.binary()), ("path", pa.string())])),  # datasets' Image feature
        ("height", pa.int32()),
        ("width", pa.int32()),
        ("dataset", pa.string()),
        ("licence", pa.string()),
        ("file_name", pa.string()),
        ("modality", pa.string()),  # DICOM code, "" where unknown
        ("body_region", pa.string()),
        ("patient", pa.string()),  # a hash, never the identifier; "" where unknown
        ("series", pa.string()),  # a hash; "" where there is none
        ("slice_index", pa.int32()),  # -1 where there is none
        ("axis", pa.string()),
        ("window", pa.list_(pa.float64())),  # [centre, width], empty where there is none
        ("orientation", pa.list_(pa.string())),  # patient directions of [rows, columns], empty where unknown
        ("spacing_mm", pa.list_(pa.float64())),  # [row, column], empty where unknown
        ("perceptual_hash", pa.string()),  # 16 hexadecimal digits
        ("split", pa.string()),
        ("annotated_labels", pa.list_(pa.string())),  # what the source looks for in this image
        ("absent_labels", pa.list_(pa.string())),  # of those, what is not there: the only negatives
        ("attributes", pa.string()),  # JSON
        ("regions", pa.list_(REGION)),
    ]
)


def shard_paths(folder: Path, split: str | None = None) -> list[Path]:
    """The parquet files of a built data set, of one split or of all, in order.

    Raises:
        FileNotFoundError: the folder is no built data set.
    """
    if not (folder / "manifest.json").is_file():
        raise FileNotFoundError(f"expected manifest.json in {folder}; build it with `medglip data build`")
    pattern = "*.parquet" if split is None else f"{split}-*.parquet"
    return sorted((folder / "data").glob(pattern))


def iterate_rows(folder: Path, split: str | None = None, *, pixels: bool = True) -> Iterator[dict[str, Any]]:
    """The rows of a built data set as dictionaries, in order, a few at a time in memory.

    Args:
        folder: what ``medglip data build`` wrote.
        split: train, val or test; None for all.
        pixels: False leaves the column ``image`` out, which is fast.
    """
    columns = [name for name in SCHEMA.names if pixels or name != "image"]
    for path in shard_paths(folder, split):
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=64, columns=columns):
                yield from batch.to_pylist()


def read_manifest(folder: Path) -> Mapping[str, Any]:
    """The manifest of a built data set.

    Raises:
        FileNotFoundError: the folder is no built data set.
    """
    shard_paths(folder)
    manifest: Mapping[str, Any] = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    return manifest
