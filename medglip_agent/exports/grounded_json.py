"""Grounded-answer JSON: the product's own format, schema in `medglip_agent/schemas/`. What `--json` prints.

Boxes are xyxy in pixels of the original image, origin at its top-left corner; regions are cited 1-based, as
[Rn] in the text.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from importlib import resources
from typing import Any, Final

import numpy as np

from grounding.types import MedicalImage, Regions
from llm.types import Answer, Report

from .. import NOTICE
from ..confidence import confidence_note
from ..trace import step_to_dict
from .masks import decode_mask, encode_mask
from .provenance import SOFTWARE, Model, software_version
from .result import ExportError, Result

SCHEMA: Final = "medglip.grounded-answer/1"


def schema() -> dict[str, Any]:
    """Return the JSON schema (draft 2020-12) of this format."""
    file = resources.files("medglip_agent").joinpath("schemas", "grounded-answer-1.json")
    read: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return read


def result_to_dict(result: Result) -> dict[str, Any]:
    """Return the result in plain JSON types."""
    return {
        "schema": SCHEMA,
        "kind": result.kind,
        "notice": NOTICE,
        "created": result.created.isoformat(),
        "software": {"name": SOFTWARE, "version": software_version()},
        "models": {m.role: _model(m) for m in result.models},
        "image": _image(result.image),
        **_said(result),
        "regions": _regions(result.regions),
        "asked": list(result.regions.asked),
        "missing": list(result.regions.missing),
        "steps": [step_to_dict(step) for step in result.steps],
    }


def encode(result: Result) -> bytes:
    """Return the result as JSON text, UTF-8."""
    return json.dumps(result_to_dict(result), indent=2, ensure_ascii=False, allow_nan=False).encode()


def read(data: Mapping[str, Any]) -> Regions:
    """Return the regions of a grounded answer; boxes xyxy in pixels of the image it names.

    Raises:
        ExportError: it is of another version, or a part is absent.
    """
    if data.get("schema") != SCHEMA:
        raise ExportError(f"expected the schema {SCHEMA!r}, got {data.get('schema')!r}; export it again")
    try:
        size = (int(data["image"]["height"]), int(data["image"]["width"]))
        asked, found = tuple(data["asked"]), data["regions"]
        masks = [decode_mask(region["mask"], size) for region in found if "mask" in region]
        if masks and len(masks) != len(found):
            raise ExportError(
                f"expected a mask for each of {len(found)} regions or for none, got {len(masks)}"
            )
        return Regions(
            np.array([region["box_xyxy"] for region in found], dtype=np.float32),
            np.array([region["score"] for region in found], dtype=np.float32),
            np.array([asked.index(region["label"]) for region in found], dtype=np.int64),
            asked,
            size,
            np.stack(masks) if masks else None,
        )
    except (KeyError, TypeError) as error:
        raise ExportError(f"this grounded answer does not follow its schema ({error!r})") from error


def _model(model: Model) -> dict[str, Any]:
    return {"name": model.name, "weights": dict(model.weights), "calibrated": model.calibrated}


def _said(result: Result) -> dict[str, Any]:
    content = result.content
    if isinstance(content, Answer):
        return {"question": result.question, "answer": _answer(content, result.cited)}
    if isinstance(content, Report):
        return {"findings": _findings(content), "impression": content.impression}
    return {}


def _answer(answer: Answer, cited: Sequence[int]) -> dict[str, Any]:
    return {
        "text": answer.text,
        "abstained": answer.abstained,
        "reason": answer.reason,
        "confidence": answer.confidence,
        "calibrated": answer.calibrated,
        "confidence_note": confidence_note(calibrated=answer.calibrated),
        "citations": [index + 1 for index in cited],
    }


def _findings(report: Report) -> list[dict[str, Any]]:
    return [
        {
            "sentence": finding.sentence,
            "grounded": finding.grounded,
            "regions": [index + 1 for index in finding.region_ids],
            "conflict": finding.conflict,
        }
        for finding in report.findings
    ]


def _regions(regions: Regions) -> list[dict[str, Any]]:
    return [
        {
            "id": f"R{region.index + 1}",
            "label": region.phrase,
            "score": round(region.score, 4),
            "box_xyxy": [round(float(value), 2) for value in region.box],
            **({} if region.mask is None else {"mask": encode_mask(region.mask)}),
        }
        for region in regions
    ]


def _image(image: MedicalImage) -> dict[str, Any]:
    spacing = image.spacing
    return {
        "source_id": image.source_id,
        "height": image.height,
        "width": image.width,
        "modality": image.modality,
        "spacing": None
        if spacing is None
        else {"row_mm": spacing.row_mm, "col_mm": spacing.col_mm, "kind": spacing.kind},
        "orientation": None if image.orientation is None else list(image.orientation),
    }
