"""Finding the findings and the impression in the free text of a radiology report.

Owns the rules for headings; they follow what the MIMIC-CXR project's own section parser takes for a heading
(https://github.com/MIT-LCP/mimic-cxr, the folder txt), written anew: capitals before a colon at the start of
a line. Knows no files and no data set.

1. A heading that says findings, impression or conclusion, also misspelt by a letter or two, is that section.
   Both in one heading ("FINDINGS AND IMPRESSION") is an impression, as in the original.
2. A heading that only describes the views ("PA AND LATERAL CHEST:") stands for findings where the report has
   no heading that says so.
3. Of several sections of one kind the last with text counts: wet reads and titles come first.
4. With neither section, what follows the first empty line of the last section is the last paragraph.
"""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass
from typing import Literal

from .reading import one_line

Kind = Literal["findings", "impression", "views", "other"]

_COMBINED = (
    r"(?:FINDINGS? *(?:AND|/|&) *(?:IMPRESSION|CONCLUSION)|(?:IMPRESSION|CONCLUSION) *(?:AND|/|&) *FINDINGS?)"
)
_NAMED = rf"(?:{_COMBINED}|FINDINGS?|IMPRESSIONS?|CONCLUSIONS?)"
_HEADING = re.compile(
    r"^[ \t]*(?P<line>[A-Z][A-Z ()/,&-]{0,60}?)[ \t]*:(?=\s|$)"  # capitals at the start of a line
    rf"|^[ \t]*(?P<named>(?=[FIC])(?i:{_NAMED}))[ \t]*:"  # "Findings: clear"
    rf"|^[ \t]*(?P<alone>{_NAMED})[ \t\r]*$"  # FINDINGS alone on its line
    rf"|(?<=[.!?])[ \t]+(?P<inline>{_NAMED})[ \t]*:",  # "... cough. FINDINGS: clear"
    re.MULTILINE,
)
_WORDS: dict[str, Kind] = {
    "FINDING": "findings",
    "FINDINGS": "findings",
    "IMPRESSION": "impression",
    "IMPRESSIONS": "impression",
    "CONCLUSION": "impression",
    "CONCLUSIONS": "impression",
}
_OTHER = ("INDICATION", "COMPARISON", "TECHNIQUE", "HISTORY", "ADDENDUM", "REASON", "RECOMMENDATION")
_VIEWS = re.compile(
    r"\b(CHEST|PORTABLE|PA|AP|(ONE|TWO|THREE|SINGLE|FRONTAL|LATERAL) VIEWS?|FRONTAL|LATERAL|UPRIGHT|RIBS)\b"
)
_EMPTY_LINE = re.compile(r"\n[ \t]*\r?\n")


@dataclass(frozen=True)
class ReportSections:
    """Parts of a report, each on one line, empty where it has none.

    Attributes:
        findings: What was seen.
        impression: The summary.
        last_paragraph: Only where the report has neither of the two: its last paragraphs, of either kind.
    """

    findings: str
    impression: str
    last_paragraph: str = ""


def read_sections(text: str) -> ReportSections:
    """Find the sections of a report; a report with none gives empty ones."""
    sections = split_sections(text)
    findings = _last(sections, "findings") or _last(sections, "views")
    impression = _last(sections, "impression")
    if findings or impression:
        return ReportSections(findings, impression)
    parts = _EMPTY_LINE.split(sections[-1][1].rstrip(), maxsplit=1)
    return ReportSections("", "", one_line(parts[1]) if len(parts) > 1 else "")


def split_sections(text: str) -> list[tuple[Kind, str]]:
    """The text before the first heading (kind "other"), then each heading's kind and text, in order."""
    found = list(_HEADING.finditer(text))
    ends = [match.start() for match in found] + [len(text)]
    sections: list[tuple[Kind, str]] = [("other", text[: ends[0]])]
    for match, end in zip(found, ends[1:], strict=True):
        name = next(filter(None, match.groups()))
        sections.append((heading_kind(name), text[match.end() : end]))
    return sections


def heading_kind(name: str) -> Kind:
    """What a heading announces."""
    name = " ".join(name.upper().split())
    if re.fullmatch(_COMBINED, name):
        return "impression"
    if name in _WORDS:
        return _WORDS[name]
    close = difflib.get_close_matches(name, [*_WORDS, *_OTHER], n=1, cutoff=0.8)
    if close:
        return _WORDS.get(close[0], "other")
    words = [word for word in ("IMPRESSION", "FINDINGS") if re.search(rf"\b{word}\b", name)]
    if words:  # "FINAL IMPRESSION", "CHEST FINDINGS"
        return _WORDS[words[0]]
    if any(word in name for word in _OTHER):  # "REASON FOR CHEST FILM"
        return "other"
    return "views" if _VIEWS.search(name) else "other"


def _last(sections: list[tuple[Kind, str]], kind: Kind) -> str:
    """Text of the last section of a kind that has any."""
    return next((one_line(text) for found, text in reversed(sections) if found == kind and text.strip()), "")
