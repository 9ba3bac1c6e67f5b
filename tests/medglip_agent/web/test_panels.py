"""Replies link their citations and let no markup through; the trace tells each step."""

import numpy as np

from grounding.types import Regions
from llm.types import Answer, Finding, Report, Step
from medglip_agent.web.loading import LoadStatus
from medglip_agent.web.panels import (
    answer_markdown,
    notice_html,
    plain,
    progress_markdown,
    reply_markdown,
    report_markdown,
    status_html,
    trace_html,
)


def test_citations_become_links_to_their_region() -> None:
    assert reply_markdown("the left lung [R2]") == "the left lung [R2](#R2)"
    assert reply_markdown("[R1] [R12]") == "[R1](#R1) [R12](#R12)"


def test_markup_from_a_model_stays_text() -> None:
    assert plain("![x](http://a.b/c.png)") == r"\!\[x\]\(http\:\/\/a\.b\/c\.png\)"
    assert "<script>" not in reply_markdown("<script>alert(1)</script>")


def test_answer_tells_confidence_regions_and_time() -> None:
    found = Regions(np.array([[0, 0, 1, 1]]), np.array([0.5]), np.array([0]), ("liver",), (4, 4))
    steps = (Step("plan", {}, "ask", 0.5), Step("generation", {}, "yes", 1.0))
    text = answer_markdown(Answer("yes [R1].", found, 0.624, False, steps))
    assert "[R1](#R1)" in text
    assert "confidence 0.62 (uncalibrated) · 1 region · 1.5 s" in text


def test_report_marks_what_is_not_grounded_and_what_is_contradicted() -> None:
    found = Regions(np.array([[0, 0, 1, 1]]), np.array([0.5]), np.array([0]), ("polyp",), (4, 4))
    findings = (
        Finding("Polyp is seen.", (0,), True),
        Finding("No <b>polyp</b>.", (), False, "polyp was found [R1] with score 0.50."),
    )
    text = report_markdown(Report(findings, "Suspected polyp [R1].", found))
    assert r"- Polyp is seen\. [R1](#R1)" in text
    assert r"*(not grounded)* **(contradicted\: polyp was found [R1](#R1) with score 0\.50)**" in text
    assert "<b>" not in text and r"Suspected polyp [R1](#R1)\." in text


def test_abstention_is_marked() -> None:
    answer = Answer("I cannot answer this.", Regions.empty((4, 4)), None, True, (), "nothing found")
    assert "<small>not answered · 0 regions · 0.0 s</small>" in answer_markdown(answer)


def test_progress_names_the_step_that_follows() -> None:
    assert progress_markdown(None) == "*Reading the question ...*"
    assert progress_markdown(Step("image", {}, "encoded", 0.1)) == "*Finding regions ...*"
    assert progress_markdown(Step("citation", {}, "[R1]", 0.1)) == "*Working ...*"


def test_trace_lists_steps_with_inputs_outcome_and_seconds() -> None:
    html = trace_html([Step("grounding", {"phrases": ["<b>liver</b>"]}, "liver (0.90)", 1.25)])
    assert "grounding" in html and "liver (0.90)" in html and "1.25 s" in html
    assert "<b>liver" not in html
    assert "Each step" in trace_html([])


def test_status_and_notice() -> None:
    assert 'class="mg-status mg-failed"' in status_html(LoadStatus("failed", "no <file>"))
    assert "no &lt;file&gt;" in status_html(LoadStatus("failed", "no <file>"))
    assert "Research use only." in notice_html()
    assert "Not for diagnosis" in notice_html()
