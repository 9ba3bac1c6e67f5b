"""One picture's regions as COCO json: boxes xywh in pixels, masks as run lengths, scores as in results files.

What COCO has no place for stands in `info` and in extra fields, which other programs ignore. `asked` phrases
are the categories, found or not.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

import numpy as np

from grounding.boxes import xywh_to_xyxy, xyxy_to_xywh
from grounding.types import GroundedRegion, Regions

from .. import NOTICE
from .masks import decode_mask, encode_mask
from .provenance import model_line, software_version
from .result import ExportError, Result

_HEX: Final = 64  # whole hashes


def encode(result: Result) -> bytes:
    """Return the regions as COCO json, UTF-8. The picture is named by its hash: COCO wants a file name."""
    image, regions = result.image, result.regions
    content = {
        "info": {
            "description": NOTICE,
            "version": software_version(),
            "date_created": result.created.isoformat(),
            "contributor": "; ".join(model_line(model, _HEX) for model in result.models),
        },
        "licenses": [],
        "images": [
            {"id": 1, "file_name": f"{image.source_id}.png", "height": image.height, "width": image.width}
        ],
        "categories": [{"id": number, "name": name} for number, name in enumerate(regions.asked, start=1)],
        "annotations": [
            _annotation(region, int(index) + 1)
            for region, index in zip(regions, regions.phrase_index, strict=True)
        ],
    }
    return json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False).encode()


def read(data: Mapping[str, Any]) -> Regions:
    """Return the regions of a COCO file about one picture; without scores they are 1.

    Raises:
        ExportError: it is about several pictures, or does not hang together.
    """
    try:
        images, found = data["images"], data["annotations"]
        if len(images) != 1:
            raise ExportError(
                f"expected COCO json about one picture, got {len(images)}: use `medglip data` for data sets"
            )
        size = (int(images[0]["height"]), int(images[0]["width"]))
        order = {category["id"]: index for index, category in enumerate(data["categories"])}
        masked = [a["segmentation"] for a in found if isinstance(a.get("segmentation"), dict)]
        boxes = np.array([annotation["bbox"] for annotation in found], dtype=np.float32).reshape(-1, 4)
        return Regions(
            xywh_to_xyxy(boxes),
            np.array([annotation.get("score", 1.0) for annotation in found], dtype=np.float32),
            np.array([order[annotation["category_id"]] for annotation in found], dtype=np.int64),
            tuple(category["name"] for category in data["categories"]),
            size,
            np.stack([decode_mask(runs, size) for runs in masked])
            if found and len(masked) == len(found)
            else None,
        )
    except (KeyError, TypeError) as error:
        raise ExportError(f"this COCO json does not hang together ({error!r})") from error


def _annotation(region: GroundedRegion, category: int) -> dict[str, Any]:
    x, y, width, height = (round(float(value), 3) for value in xyxy_to_xywh(region.box))
    return {
        "id": region.index + 1,
        "image_id": 1,
        "category_id": category,
        "bbox": [x, y, width, height],
        "area": round(width * height, 3) if region.mask is None else float(region.mask.sum()),
        "segmentation": [] if region.mask is None else encode_mask(region.mask),
        "iscrowd": 0,
        "score": round(region.score, 4),
    }
