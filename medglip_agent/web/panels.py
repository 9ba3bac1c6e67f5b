"""Words and HTML around the picture: the trace, the reply's markdown, the loading state, the notices."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Sequence
from html import escape
from typing import Final

from grounding.types import Regions
from llm.types import Answer, Finding, Report, Step

from .. import NOTICE
from ..citations import cite
from ..confidence import confidence_text
from ..report import against
from .loading import LoadStatus

TAGLINE: Final = "Ask a medical image a question; get an answer that points at its evidence."
LIMITS: Final = (
    "The nano models are small and were trained on few pictures: answers are short and often wrong, "
    "a confidence is a probability only where it is called calibrated, and a missing box does not mean "
    "a healthy organ. Check every answer against the picture."
)
PAST: Final = (
    "A past conversation, from this browser. Its picture was not kept: open the picture again to ask more, "
    "which starts a new conversation."
)

_MARKDOWN: Final = re.compile(r"([\\`*_{}\[\]()#+\-.!|<>~$&:/])")
_CITATION: Final = re.compile(r"\\\[R(\d+)\\\]")
_STEP_WORDS: Final = {
    "plan": "Reading the question",
    "image": "Looking at the image",
    "grounding": "Finding regions",
    "generation": "Writing the answer",
    "citation": "Choosing the evidence",
}


def plain(text: str) -> str:
    """Escape text from users and models, so that markdown and HTML in it stay text (no links, no images)."""
    return _MARKDOWN.sub(r"\\\1", text)


def reply_markdown(text: str) -> str:
    """Return a reply as markdown: plain text whose [Rn] marks become links that `page.js` follows."""
    return _CITATION.sub(r"[R\1](#R\1)", plain(text))


def answer_markdown(answer: Answer) -> str:
    """Return a finished answer with a line on how sure it is and what it took."""
    seconds = sum(step.seconds for step in answer.steps)
    notes = ["not answered"] if answer.abstained else []
    if answer.confidence is not None:
        notes.append(f"confidence {confidence_text(answer.confidence, calibrated=answer.calibrated)}")
    notes.append(_count(answer.regions))
    notes.append(f"{seconds:.1f} s")
    return f"{reply_markdown(answer.text)}\n\n<small>{' · '.join(notes)}</small>"


def report_markdown(report: Report) -> str:
    """Return a report: each sentence with its regions or marked, and what speaks against it."""
    lines = [f"- {_sentence_markdown(finding)}" for finding in report.findings]
    found = "\n".join(lines) or "Nothing that can be described was found."
    seconds = sum(step.seconds for step in report.steps)
    return (
        f"**Findings**\n\n{found}\n\n**Impression**\n\n{reply_markdown(report.impression)}\n\n"
        f"<small>{_count(report.regions)} · {seconds:.1f} s</small>"
    )


def _count(regions: Regions) -> str:
    return f"{len(regions)} region{'' if len(regions) == 1 else 's'}"


def _sentence_markdown(finding: Finding) -> str:
    mark = reply_markdown(cite(finding.region_ids)) if finding.grounded else "*(not grounded)*"
    conflict = against(finding)
    return f"{plain(finding.sentence)} {mark}" + (f" **({reply_markdown(conflict)})**" if conflict else "")


def progress_markdown(step: Step | None) -> str:
    """Return what to show until text comes, given the last finished step."""
    order = list(_STEP_WORDS)
    following = order[order.index(step.name) + 1 :] if step is not None and step.name in order else order
    words = _STEP_WORDS[following[0]] if following else "Working"
    return f"*{words} ...*"


def download_html(name: str, data: bytes) -> str:
    """Return a link that holds the file itself: none of it lies where another session could ask for it."""
    coded = base64.b64encode(data).decode("ascii")
    size = f"{len(data) / 1000:.0f} kB" if len(data) >= 1000 else f"{len(data)} B"
    address = f"data:application/octet-stream;base64,{coded}"
    words = f"Download {escape(name)} ({size})"
    return f'<a class="mg-download" download="{escape(name)}" href="{address}">{words}</a>'


def trace_html(steps: Sequence[Step]) -> str:
    """Return the steps as a timeline: what was done, with what, with what outcome, in what time."""
    if not steps:
        return '<p class="mg-hint">Each step of the answer, its inputs, outcome and time appear here.</p>'
    longest = max(step.seconds for step in steps) or 1.0
    items = "".join(_step_html(step, step.seconds / longest) for step in steps)
    total = sum(step.seconds for step in steps)
    return f'<ol class="mg-trace">{items}</ol><p class="mg-hint">{total:.2f} s in all</p>'


def _step_html(step: Step, share: float) -> str:
    inputs = escape(json.dumps(step.inputs, indent=2, ensure_ascii=False))
    return (
        f'<li><div class="mg-step"><b>{escape(step.name)}</b><span>{escape(step.outcome)}</span>'
        f"<i>{step.seconds:.2f} s</i></div>"
        f'<div class="mg-bar" style="--share:{100 * share:.1f}%"></div>'
        f"<details><summary>inputs</summary><pre>{inputs}</pre></details></li>"
    )


def header_html() -> str:
    """Return the product's name and what it does."""
    return f"<h1>Med-GLIP <em>Agent</em></h1><p>{TAGLINE}</p>"


def notice_html() -> str:
    """Return the notice that is always visible."""
    return f'<div role="note" class="mg-notice"><b>Research use only.</b> {NOTICE.partition(". ")[2]}</div>'


def status_html(status: LoadStatus) -> str:
    """Return the state of the models."""
    return f'<div class="mg-status mg-{status.state}" role="status">{escape(status.message)}</div>'
