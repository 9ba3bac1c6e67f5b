"""Masks as COCO run lengths and back: {"size": [height, width], "counts": text}, column by column."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from .result import ExportError


def encode_mask(mask: npt.NDArray[np.bool_]) -> dict[str, Any]:
    """Return the compressed run lengths of a bool (H, W) mask."""
    from pycocotools import mask as coco_mask

    runs = coco_mask.encode(np.asfortranarray(mask, dtype=np.uint8))
    return {"size": [int(side) for side in runs["size"]], "counts": runs["counts"].decode("ascii")}


def decode_mask(runs: Mapping[str, Any], image_size: tuple[int, int]) -> npt.NDArray[np.bool_]:
    """Return the mask, bool (H, W).

    Raises:
        ExportError: it is of another size.
    """
    from pycocotools import mask as coco_mask

    if tuple(runs.get("size", ())) != image_size or not isinstance(runs.get("counts"), str):
        raise ExportError(
            f"a mask must be COCO run lengths of (height, width) {image_size}, got {runs.get('size')}"
        )
    decoded = coco_mask.decode({"size": list(image_size), "counts": runs["counts"].encode("ascii")})
    mask: npt.NDArray[np.bool_] = np.asarray(decoded, dtype=bool)
    return mask
