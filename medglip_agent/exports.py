"""What leaves the product: grounded-answer JSON v0 and the annotated PNG, with the notice and the models.

No path and no patient identifier is written: an image is named by the hash of its pixels.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, Final

from grounding.types import MedicalImage, Regions
from llm.types import Answer, Report

from . import NOTICE
from .citations import cited_regions
from .trace import step_to_dict

SCHEMA: Final = "medglip.grounded-answer/0"
_CONFIDENCE_NOTE: Final = "uncalibrated: it ranks answers, it is no probability of being right"


def answer_to_dict(
    answer: Answer, image: MedicalImage, question: str, models: Mapping[str, str]
) -> dict[str, Any]:
    """Return the answer in plain JSON types; `citations` are 1-based like the text's [Rn]."""
    return {
        **_head("answer", image, models),
        "question": question,
        "answer": {
            "text": answer.text,
            "abstained": answer.abstained,
            "reason": answer.reason,
            "confidence": answer.confidence,
            "confidence_note": _CONFIDENCE_NOTE,
            "citations": [] if answer.abstained else [index + 1 for index in cited_regions(answer.text)],
        },
        "regions": regions_to_list(answer.regions),
        "asked": list(answer.regions.asked),
        "steps": [step_to_dict(step) for step in answer.steps],
    }


def report_to_dict(report: Report, image: MedicalImage, models: Mapping[str, str]) -> dict[str, Any]:
    """Return the report in plain JSON types; `regions` of a finding are 1-based."""
    return {
        **_head("report", image, models),
        "findings": [
            {
                "sentence": finding.sentence,
                "grounded": finding.grounded,
                "regions": [index + 1 for index in finding.region_ids],
            }
            for finding in report.findings
        ],
        "impression": report.impression,
        "regions": regions_to_list(report.regions),
        "asked": list(report.regions.asked),
        "steps": [step_to_dict(step) for step in report.steps],
    }


def grounding_to_dict(regions: Regions, image: MedicalImage, models: Mapping[str, str]) -> dict[str, Any]:
    """Return the regions of phrases in plain JSON types."""
    return {
        **_head("grounding", image, models),
        "regions": regions_to_list(regions),
        "asked": list(regions.asked),
        "missing": list(regions.missing),
    }


def regions_to_list(regions: Regions) -> list[dict[str, Any]]:
    """Return one {"id", "label", "score", "box_xyxy"} a region; boxes in pixels of the original image."""
    return [
        {
            "id": f"R{region.index + 1}",
            "label": region.phrase,
            "score": round(float(region.score), 4),
            "box_xyxy": [round(float(value), 2) for value in region.box],
        }
        for region in regions
    ]


def save_annotated(
    path: Path,
    image: MedicalImage,
    regions: Regions,
    models: Mapping[str, str],
    *,
    min_score: float = 0.0,
    only: Collection[int] | None = None,
) -> None:
    """Write a PNG: the picture with its regions, a footer with the notice and models, the same as metadata.

    Args:
        path: where to write; must end in .png.
        image: the picture.
        regions: boxes xyxy in pixels of `image`.
        models: role -> model name.
        min_score: regions below it are left out.
        only: indices of the regions to draw; None for all.

    Raises:
        ValueError: `path` does not end in .png.
    """
    from PIL import Image, ImageDraw, ImageFont, PngImagePlugin

    from .render import draw_regions

    if path.suffix.lower() != ".png":
        raise ValueError(f"the annotated picture is a PNG: expected a name ending in .png, got {path.name!r}")
    picture = draw_regions(image, regions, min_score=min_score, only=only)
    lines = [NOTICE, _models_line(models)]
    size = max(10, round(picture.width / 45))
    longest = max(ImageFont.load_default(size=size).getlength(line) for line in lines)
    size = max(6, int(size * min(1.0, (picture.width - 8) / longest)))
    font = ImageFont.load_default(size=size)
    line_height = round(size * 1.4)
    page = Image.new("RGB", (picture.width, picture.height + line_height * len(lines) + 6), (20, 20, 20))
    page.paste(picture, (0, 0))
    draw = ImageDraw.Draw(page)
    for number, line in enumerate(lines):
        position = (4, picture.height + 3 + number * line_height)
        draw.text(position, line, font=font, fill=(235, 235, 235))
    info = PngImagePlugin.PngInfo()
    info.add_text("Disclaimer", NOTICE)
    info.add_text("Software", _models_line(models))
    path.parent.mkdir(parents=True, exist_ok=True)
    page.save(path, pnginfo=info)


def _models_line(models: Mapping[str, str]) -> str:
    named = ", ".join(f"{role} {name}" for role, name in models.items())
    return f"Med-GLIP Agent: {named}"


def _head(kind: str, image: MedicalImage, models: Mapping[str, str]) -> dict[str, Any]:
    spacing = image.spacing
    return {
        "schema": SCHEMA,
        "kind": kind,
        "notice": NOTICE,
        "models": dict(models),
        "image": {
            "source_id": image.source_id,
            "height": image.height,
            "width": image.width,
            "modality": image.modality,
            "spacing": None
            if spacing is None
            else {"row_mm": spacing.row_mm, "col_mm": spacing.col_mm, "kind": spacing.kind},
            "orientation": None if image.orientation is None else list(image.orientation),
        },
    }
