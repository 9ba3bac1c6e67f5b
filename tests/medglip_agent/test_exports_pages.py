"""The HTML page and the Markdown report: complete, escaped, without scripts."""

from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest

from grounding.types import MedicalImage, PixelSpacing, Regions
from llm.types import Answer, Finding, Report, Step
from medglip_agent import NOTICE
from medglip_agent.exports import Model, Result, result_to_dict
from medglip_agent.exports.html_page import encode as html_page
from medglip_agent.exports.markdown import encode as markdown
from medglip_agent.exports.markdown import escape

EVIL = '<script>alert(1)</script> ![x](http://evil/x.png) [R9] <img src=x onerror="go()"> | `x` # y'


@pytest.fixture
def image() -> MedicalImage:
    grey = np.tile(np.arange(64, dtype=np.uint8), (48, 1))
    rgb = np.repeat(grey[:, :, None], 3, axis=2)
    return MedicalImage(rgb, "CR", PixelSpacing(0.5, 0.25, "detector"))


@pytest.fixture
def regions(image: MedicalImage) -> Regions:
    boxes = np.array([[4, 8, 24, 40], [30, 8, 60, 40]], dtype=np.float32)
    return Regions(boxes, np.array([0.9, 0.4]), np.array([0, 1]), ("left lung", EVIL, "polyp"), image.size)


@pytest.fixture
def evil(image: MedicalImage, regions: Regions) -> Result:
    """An answer in which every text that comes from outside attacks."""
    step = Step(EVIL, {"question": EVIL}, EVIL, 0.5)
    answer = Answer(f"Left [R1]. {EVIL}", regions, 0.5, False, (step,), EVIL)
    return Result(image, answer, (Model("vlm", EVIL, {EVIL: "0" * 64}),), EVIL)


class Tags(HTMLParser):
    """Collects tags with their attributes."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


def test_html_lets_nothing_in(evil: Result) -> None:
    page = html_page(evil).decode()
    tags = Tags(page).found
    assert not {tag for tag, _ in tags} & {"script", "iframe", "object", "link", "form"}
    assert not [name for _, attributes in tags for name in attributes if name.startswith("on")]
    addresses = [a[key] or "" for _, a in tags for key in ("src", "href") if key in a]
    assert addresses and all(address.startswith(("data:image/", "#R")) for address in addresses)
    assert "default-src 'none'" in page and page.count("&lt;script&gt;") >= 5


def test_html_links_only_citations_of_regions(evil: Result) -> None:
    tags = Tags(html_page(evil).decode()).found
    links = {a["href"] for tag, a in tags if tag == "a"}
    rows = {a["id"] for tag, a in tags if tag == "tr" and "id" in a}
    assert links == {"#R1"} and rows == {"R1", "R2"}, "R9 does not exist"


def test_html_says_it_all(image: MedicalImage, regions: Regions) -> None:
    findings = (Finding("Left lung is seen.", (0,), True), Finding("No effusion.", (), False))
    report = Report(findings, "Nothing [R1].", regions)
    page = html_page(Result(image, report, (Model("grounder", "toy", {"a": "ab" * 32}),))).decode()
    assert page.count(NOTICE) == 2 and "ab" * 32 in page
    assert 'No effusion. <span class="ungrounded">not grounded</span>' in page
    assert 'Left lung is seen. <a class="cite" href="#R1">R1</a>' in page
    assert 'Impression: Nothing <a class="cite" href="#R1">R1</a>.' in page
    assert "20 x 32 px, 5.0 x 16.0 mm at the detector" in page
    assert "<td>4.0, 8.0, 24.0, 40.0</td>" in page and "not found: polyp" in page
    assert "prefers-color-scheme: dark" in page and "@media print" in page


def test_what_speaks_against_a_sentence_stands_beside_it(image: MedicalImage, regions: Regions) -> None:
    findings = (Finding("No polyp.", (), False, "polyp was found [R1] with score 0.60."),)
    result = Result(image, Report(findings, "None.", regions))
    page, text = html_page(result).decode(), markdown(result).decode()
    cited = '<a class="cite" href="#R1">R1</a>'
    assert f'<span class="conflict">contradicted: polyp was found {cited} with score 0.60</span>' in page
    assert r"_(not grounded)_ **(contradicted: polyp was found [R1] with".replace("[R1]", r"\[R1\]") in (
        text.replace(r"\:", ":")
    )
    assert result_to_dict(result)["findings"][0]["conflict"] == "polyp was found [R1] with score 0.60."


def test_nothing_found_is_said(image: MedicalImage) -> None:
    result = Result(image, Regions.empty(image.size, ["polyp"]))
    for page in (html_page(result).decode(), markdown(result).decode()):
        assert "No region was found." in page and "not found: polyp" in page and NOTICE in page


def test_an_abstention_gives_its_reason_once(image: MedicalImage) -> None:
    answer = Answer("I cannot answer this. No lung.", Regions.empty(image.size), None, True, (), "No lung.")
    page = html_page(Result(image, answer, (), "Why?")).decode()
    assert page.count("No lung.") == 1 and "Not answered." in page


def test_markdown_lets_nothing_in(evil: Result) -> None:
    text = markdown(evil).decode()
    body, _, picture = text.rpartition("[picture]: ")
    assert re.fullmatch(r"data:image/png;base64,[\w+/=]+\n", picture)
    live = re.sub(r"\\.", "", body)
    assert "<" not in live and "`" not in live
    assert re.findall(r"!?\[[^\]]*\][(\[]", live) == ["![The picture with its regions]["]
    assert all(line.count("|") == 6 for line in live.splitlines() if line.startswith("| R"))


def test_markdown_says_it_all(evil: Result) -> None:
    answer = Answer("Left [R1].\nAnd right.", evil.regions, 0.5, False)
    text = markdown(replace(evil, content=answer, question="Which?")).decode()
    assert text.startswith(f"# Which?\n\n> **{NOTICE}**\n\n- Left \\[R1\\].\\\n  And right.\n")
    assert "| R1 | left lung | 0.90 | 4.0, 8.0, 24.0, 40.0 | 20 x 32 px" in text
    assert "Confidence 0.50 \\(uncalibrated\\)." in text and "0" * 64 in text


@pytest.mark.parametrize(
    ("text", "escaped"),
    [("a*b", "a\\*b"), ("1. x", "1\\. x"), ("a\n# b", "a \\# b"), ("x 2.5 mm", "x 2.5 mm"), ("- x", "\\- x")],
)
def test_escape(text: str, escaped: str) -> None:
    assert escape(text) == escaped
