"""Instructions as training files of other programs: ms-swift and LLaMA-Factory, one JSON line an example.

- ms-swift (4.6): ``messages`` with ``<image>`` and ``<bbox>`` in place, and ``objects`` with the boxes xyxy
  in pixels of the image (``bbox_type`` "real"). Its templates write each box as the model at hand wants it.
- LLaMA-Factory (0.9.5): ``conversations`` of ``human`` and ``gpt`` (sharegpt), ``images``, and a
  ``dataset_info.json`` that names the columns. It has no boxes: they are written as text in the convention of
  the model that will be trained.

Neither has a place for scores beyond the words of the region block, nor for groups and kinds.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Final

from grounding.types import Regions

from ..prompt import TEXT_STYLE, PromptStyle, user_text
from ..spatial import escape_text, mentions, score_bucket
from .instructions import Instruction

SWIFT_TAGS: Final = (
    "<image>",
    "<video>",
    "<audio>",
    "<bbox>",
    "<ref-object>",
    "<cot-process>",
    "<start-image>",
)
SHAREGPT_TAGS: Final = ("<image>", "<video>", "<audio>")


def swift_record(item: Instruction) -> dict[str, Any]:
    """One instruction for ms-swift.

    The region block reads ``[R1] liver <bbox> high``; ``<bbox>`` number k stands for ``objects["bbox"][k]``.
    """
    regions = item.regions
    block = "" if regions is None else _swift_block(regions, item.question)
    tag = "" if item.image_path is None else "<image>"
    content = f"{tag}{block}{escape_text(item.question, SWIFT_TAGS)}"
    record: dict[str, Any] = {
        "messages": [
            {"role": "user", "content": content},
            {"role": "assistant", "content": escape_text(item.answer, SWIFT_TAGS)},
        ]
    }
    if item.image_path is not None:
        record["images"] = _images(item)
    if regions is not None and len(regions):
        boxes = [[round(float(value), 2) for value in box] for box in regions.boxes]
        record["objects"] = {"ref": [], "bbox": boxes, "bbox_type": "real"}
    return record


def sharegpt_record(item: Instruction, style: PromptStyle = TEXT_STYLE) -> dict[str, Any]:
    """One instruction for LLaMA-Factory, its boxes written in `style`."""
    text = user_text(item.question, item.regions, style, SHAREGPT_TAGS)
    tag = "" if item.image_path is None else "<image>"
    return {
        "conversations": [
            {"from": "human", "value": f"{tag}{text}"},
            {"from": "gpt", "value": escape_text(item.answer, SHAREGPT_TAGS)},
        ],
        "images": _images(item),
    }


def export_swift(items: Iterable[Instruction], path: Path) -> int:
    """Write a file for ``swift sft --dataset <path>``; returns the number of lines."""
    return _write_lines(path, [swift_record(item) for item in items])


def export_sharegpt(items: Iterable[Instruction], path: Path, style: PromptStyle = TEXT_STYLE) -> int:
    """Write a file for LLaMA-Factory and its entry in ``dataset_info.json`` beside it.

    Args:
        items: What to train on.
        path: ``<dataset_dir>/<name>.jsonl``; the data set is called by the file's stem.
        style: How the model to be trained reads boxes.

    Returns:
        The number of lines.
    """
    count = _write_lines(path, [sharegpt_record(item, style) for item in items])
    info = path.with_name("dataset_info.json")
    known = json.loads(info.read_text(encoding="utf-8")) if info.is_file() else {}
    known[path.stem] = {
        "file_name": path.name,
        "formatting": "sharegpt",
        "columns": {"messages": "conversations", "images": "images"},
    }
    info.write_text(json.dumps(known, indent=2) + "\n", encoding="utf-8")
    return count


def _swift_block(regions: Regions, question: str) -> str:
    """The region block with a tag for each box."""
    lines = []
    for region in regions:
        phrase = escape_text(region.phrase, SWIFT_TAGS)
        lines.append(f"[R{region.index + 1}] {phrase} <bbox> {score_bucket(region.score)}\n")
    absent = [p for p in regions.missing if not lines or mentions(question, p)]
    if absent or not lines:
        names = ", ".join(escape_text(phrase, SWIFT_TAGS) for phrase in absent)
        lines.append(f"No region found: {names or 'none asked'}\n")
    return "".join(lines)


def _images(item: Instruction) -> list[str]:
    return [] if item.image_path is None else [str(item.image_path.resolve())]


def _write_lines(path: Path, records: Sequence[dict[str, Any]]) -> int:
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [json.dumps(record, ensure_ascii=False) + "\n" for record in records]
    path.write_text("".join(lines), encoding="utf-8")
    return len(lines)
