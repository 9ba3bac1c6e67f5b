"""A report in Markdown, one file: the picture stands at its end as data, so that the text stays readable.

What users, models and labels say is escaped: no link, picture or HTML of theirs comes alive.
"""

from __future__ import annotations

import re
from typing import Final

from grounding.types import GroundedRegion, MedicalImage
from llm.types import Finding

from .. import NOTICE
from ..citations import cite
from ..report import against
from .annotated_png import data_uri, draw
from .provenance import SOFTWARE, model_line, software_version
from .result import Result
from .wording import COORDINATES, UNGROUNDED, box_text, extent_text, image_facts, remarks

_SPECIAL: Final = re.compile(r"([\\`*_{}\[\]()#+!|<>~$&:@-])")
_NUMBERED: Final = re.compile(r"^(\d+)([.)])")
_HEX: Final = 64  # whole hashes


def escape(text: str) -> str:
    """Return text on one line that Markdown shows as it is."""
    line = _SPECIAL.sub(r"\\\1", " ".join(text.split()))
    return _NUMBERED.sub(r"\1\\\2", line)


def encode(result: Result) -> bytes:
    """Return the result as Markdown, UTF-8."""
    blocks = [f"# {escape(result.title)}", f"> **{NOTICE}**"]
    if result.statements:
        blocks.append("\n".join(f"- {_sentence(statement)}" for statement in result.statements))
    blocks += [escape(remark) for remark in remarks(result)]
    blocks += ["![The picture with its regions][picture]", " · ".join(map(escape, image_facts(result.image)))]
    blocks += ["## Regions", _table(result)]
    if result.regions.missing:
        blocks.append(f"Looked for and not found: {escape(', '.join(result.regions.missing))}.")
    blocks += ["## Made by", "\n".join(f"- {line}" for line in _made_by(result))]
    blocks.append(f"[picture]: {data_uri(draw(result))}")
    return ("\n\n".join(blocks) + "\n").encode()


def _sentence(item: Finding) -> str:
    said = "\\\n  ".join(escape(line) for line in item.sentence.splitlines() if line.strip())
    if not item.grounded:
        said += f" _({UNGROUNDED})_"
    elif "[R" not in item.sentence:
        said += f" {escape(cite(item.region_ids))}"
    return f"{said} **({escape(conflict)})**" if (conflict := against(item)) else said


def _table(result: Result) -> str:
    if not len(result.regions):
        return "No region was found."
    rows = [_row(region, result.image) for region in result.regions]
    head = "| | label | score | box (px) | size |\n|---|---|---|---|---|"
    return "\n".join([head, *rows]) + f"\n\n{COORDINATES}"


def _row(region: GroundedRegion, image: MedicalImage) -> str:
    cells = (
        f"R{region.index + 1}",
        escape(region.phrase),
        f"{region.score:.2f}",
        box_text(region),
        extent_text(region, image),
    )
    return f"| {' | '.join(cells)} |"


def _made_by(result: Result) -> list[str]:
    models = [escape(model_line(model, _HEX)) for model in result.models]
    return [f"{SOFTWARE} {software_version()}", *models, f"{result.created:%Y-%m-%d %H:%M %Z}"]
