"""Native folders by hand: rows of `grounding.data.schema.SCHEMA`, written without the builder."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pycocotools import mask as coco_mask

from grounding.data.records import encode_png
from grounding.data.schema import SCHEMA


@pytest.fixture(scope="session")
def make_rle() -> Callable[[np.ndarray], str]:
    """A function: (H, W) bool -> COCO's compressed counts."""

    def make(mask: np.ndarray) -> str:
        return coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))["counts"].decode()

    return make


@pytest.fixture(scope="session")
def make_region() -> Callable[..., dict[str, Any]]:
    """A function making one region of a row; keyword arguments replace fields."""

    def make(label: str = "liver", box: Sequence[float] = (10, 10, 50, 40), **changes: Any) -> dict[str, Any]:
        region = {
            "box": [float(value) for value in box],
            "label": label,
            "raw_label": label,
            "known": True,
            "granularity": "organ",
            "parent": "",
            "side": next((side for side in ("left", "right") if label.startswith(side)), ""),
            "phrase": label,
            "mask": "",
            "area": float((box[2] - box[0]) * (box[3] - box[1])),
            "source_index": 0,
            "attributes": "{}",
        }
        assert not set(changes) - set(region)
        return region | changes

    return make


@pytest.fixture(scope="session")
def make_row() -> Callable[..., dict[str, Any]]:
    """A function making one row: a grey picture of 80 x 100 pixels; keyword arguments replace fields."""

    def make(key: str = "1", regions: Sequence[dict[str, Any]] = (), **changes: Any) -> dict[str, Any]:
        height, width = changes.get("height", 80), changes.get("width", 100)
        pixels = np.linspace(0, 255, height * width).reshape(height, width).astype(np.uint8)
        row = {
            "image_id": f"{changes.get('dataset', 'made')}/{key}",
            "image": {"bytes": encode_png(pixels), "path": None},
            "height": height,
            "width": width,
            "dataset": "made",
            "licence": "CC0",
            "file_name": f"{key}.png",
            "modality": "CT",
            "body_region": "abdomen",
            "patient": f"patient-{key}",
            "series": "",
            "slice_index": -1,
            "axis": "",
            "window": [],
            "orientation": [],
            "spacing_mm": [],
            "perceptual_hash": f"{int.from_bytes(key.encode()) * 0x9E3779B97F4A7C15 % 2**64:016x}",
            "split": "train",
            "annotated_labels": sorted({region["label"] for region in regions}),
            "absent_labels": [],
            "attributes": "{}",
            "regions": list(regions),
        }
        assert not set(changes) - set(row)
        return row | changes

    return make


@pytest.fixture
def write_native(tmp_path: Path) -> Callable[..., Path]:
    """A function writing rows as a native folder, a shard a split."""

    def write(rows: Sequence[dict[str, Any]], **manifest: Any) -> Path:
        folder = tmp_path / "native"
        (folder / "data").mkdir(parents=True, exist_ok=True)
        for split in {row["split"] for row in rows}:
            table = pa.Table.from_pylist([row for row in rows if row["split"] == split], schema=SCHEMA)
            pq.write_table(table, folder / "data" / f"{split}-00000-of-00001.parquet")
        (folder / "manifest.json").write_text(json.dumps(manifest))
        return folder

    return write
