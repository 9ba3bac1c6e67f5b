"""Every protocol judges the hand-written cases as the hand did; `exact` shares no published fault."""

import math

import pytest

from benchmarks.metrics.protocols import PROTOCOLS
from benchmarks.metrics.scoring_page import main, read_cases

CASES = read_cases()


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_protocol_agrees_with_the_truth_table(protocol):
    score = PROTOCOLS[protocol]
    judged = {
        (c.truth, c.prediction, c.answer_type): score(c.prediction, c.truth, c.answer_type) for c in CASES
    }
    wrong = {
        (c.truth, c.prediction): (judged[c.truth, c.prediction, c.answer_type], c.scores[protocol])
        for c in CASES
        if judged[c.truth, c.prediction, c.answer_type] != pytest.approx(c.scores[protocol], nan_ok=True)
    }
    assert not wrong, "(computed, by hand)"


def test_the_table_is_large_and_shows_faults_of_each_published_protocol():
    assert len(CASES) >= 60
    faults = [c for c in CASES if c.shows.startswith("fault")]
    for protocol in ("llava-med", "medevalkit", "token-f1"):
        assert any(
            not math.isnan(c.scores[protocol]) and c.scores[protocol] != c.scores["exact"] for c in faults
        )


def test_exact_shares_no_fault():
    """Wherever the table names a fault, exact judges otherwise; what it calls right has the same words."""
    for case in CASES:
        published = [score for name, score in case.scores.items() if name != "exact"]
        if case.shows.startswith("fault"):
            judged = [score for score in published if not math.isnan(score)]
            assert any(score != case.scores["exact"] for score in judged), case
        assert case.scores["exact"] in (0, float(case.scores["token-f1"] == 1))


def test_the_page_is_what_the_code_says():
    assert main(["--check"]) == 0
