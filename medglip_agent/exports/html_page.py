"""A report as one HTML file: no script, nothing fetched, light or dark as the system says, printable.

What users, models and labels say is escaped; besides, a policy in the page forbids scripts and fetching.
"""

from __future__ import annotations

import re
from html import escape
from importlib import resources
from typing import Final

from grounding.types import GroundedRegion
from llm.types import Answer, Finding, Step

from .. import NOTICE
from ..citations import cite
from ..render import colour_of
from ..report import against
from .annotated_png import data_uri, draw
from .provenance import SOFTWARE, Model, software_version
from .result import Result
from .wording import COORDINATES, UNGROUNDED, box_text, extent_text, image_facts, remarks

_CITATION: Final = re.compile(r"\[R(\d+)\]")
_POLICY: Final = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


def encode(result: Result) -> bytes:
    """Return the result as an HTML page, UTF-8."""
    style = resources.files("medglip_agent").joinpath("exports", "page.css").read_text(encoding="utf-8")
    title = escape(result.title)
    return (
        f'<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n<title>{title}</title>\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'<meta name="color-scheme" content="light dark">\n<style>\n{style}</style>\n'
        "</head>\n<body>\n<main>\n"
        f'<header><p class="kind">{SOFTWARE} · {result.kind}</p><h1>{title}</h1>'
        f'<p class="notice" role="note">{escape(NOTICE)}</p></header>\n'
        f"{_said(result)}{_figure(result)}{_regions(result)}{_trace(result.steps)}{_footer(result)}"
        "</main>\n</body>\n</html>\n"
    ).encode()


def _said(result: Result) -> str:
    if not result.statements:
        return ""
    only = isinstance(result.content, Answer)
    said = "".join(_statement(item, result, "p" if only else "li") for item in result.statements)
    body = f'<div class="answer">{said}</div>' if only else f'<ul class="findings">{said}</ul>'
    kind = "remark" if only else "impression"
    notes = "".join(f'<p class="{kind}">{_linked(remark, result)}</p>' for remark in remarks(result))
    return f"<section>{'' if only else '<h2>Findings</h2>'}{body}{notes}</section>\n"


def _statement(item: Finding, result: Result, tag: str) -> str:
    text = (
        item.sentence
        if "[R" in item.sentence or not item.grounded
        else f"{item.sentence} {cite(item.region_ids)}"
    )
    mark = "" if item.grounded else f' <span class="ungrounded">{UNGROUNDED}</span>'
    if said := against(item):
        mark += f' <span class="conflict">{_linked(said, result)}</span>'
    return f"<{tag}>{_linked(text, result)}{mark}</{tag}>"


def _linked(text: str, result: Result) -> str:
    """Escape, then make the citations of regions that exist links to their row."""

    def link(match: re.Match[str]) -> str:
        number = int(match[1])
        known = 1 <= number <= len(result.regions)
        return f'<a class="cite" href="#R{number}">R{number}</a>' if known else match[0]

    return _CITATION.sub(link, escape(text))


def _figure(result: Result) -> str:
    drawn = "the cited regions" if result.cited else "all regions"
    caption = " · ".join(map(escape, image_facts(result.image)))
    return (
        f'<figure><img src="{data_uri(draw(result))}" alt="The picture with {drawn} drawn on it">'
        f"<figcaption>{caption}</figcaption></figure>\n"
    )


def _regions(result: Result) -> str:
    missing = ""
    if result.regions.missing:
        names = escape(", ".join(result.regions.missing))
        missing = f'<p class="remark">Looked for and not found: {names}.</p>'
    if not len(result.regions):
        return f"<section><h2>Regions</h2><p>No region was found.</p>{missing}</section>\n"
    rows = "".join(_row(region, result) for region in result.regions)
    return (
        '<section><h2>Regions</h2><div class="scroll"><table><thead><tr><th scope="col"></th>'
        '<th scope="col">label</th><th scope="col">score</th><th scope="col">box (px)</th>'
        f'<th scope="col">size</th></tr></thead><tbody>{rows}</tbody></table></div>'
        f'<p class="remark">{COORDINATES}</p>{missing}</section>\n'
    )


def _row(region: GroundedRegion, result: Result) -> str:
    red, green, blue = colour_of(region.phrase)
    number = region.index + 1
    kind = ' class="cited"' if region.index in result.cited else ""
    return (
        f'<tr id="R{number}"{kind}><th scope="row">'
        f'<span class="swatch" style="background:rgb({red},{green},{blue})"></span>R{number}</th>'
        f"<td>{escape(region.phrase)}</td><td>{region.score:.2f}</td>"
        f"<td>{box_text(region)}</td><td>{extent_text(region, result.image)}</td></tr>"
    )


def _trace(steps: tuple[Step, ...]) -> str:
    if not steps:
        return ""
    rows = "".join(
        f'<tr><th scope="row">{escape(step.name)}</th><td>{escape(step.outcome)}</td>'
        f"<td>{step.seconds:.2f} s</td></tr>"
        for step in steps
    )
    table = f'<div class="scroll"><table>{rows}</table></div>'
    return f"<details><summary>What was done</summary>{table}</details>\n"


def _footer(result: Result) -> str:
    models = "".join(map(_model, result.models))
    return (
        f"<footer><h2>Made by</h2><dl><dt>software</dt><dd>{SOFTWARE} {escape(software_version())}</dd>"
        f"{models}<dt>made</dt><dd>{result.created:%Y-%m-%d %H:%M %Z}</dd></dl>"
        f"<p>{escape(NOTICE)}</p></footer>\n"
    )


def _model(model: Model) -> str:
    files = "".join(
        f"<br><code>{escape(file)} sha256 {digest}</code>" for file, digest in model.weights.items()
    )
    named = f"{model.name}, calibrated" if model.calibrated else model.name
    return f"<dt>{escape(model.role)}</dt><dd>{escape(named)}{files or ' (weights unknown)'}</dd>"
