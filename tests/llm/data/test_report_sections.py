"""Sections of reports: made-up reports in the shapes that hospitals write."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llm.data.report_sections import ReportSections, heading_kind, read_sections, split_sections

USUAL = """                                 FINAL REPORT
 EXAMINATION:  CHEST (PA AND LAT)

 INDICATION:  ___F with cough.  // pneumonia?

 TECHNIQUE:  Chest PA and lateral

 COMPARISON:  ___

 FINDINGS:

 The lungs are clear.
 The heart is not
 enlarged.

 IMPRESSION:

 No acute process.

 NOTIFICATION:  Told by telephone at 10:30.
"""


def test_usual_report() -> None:
    assert read_sections(USUAL) == ReportSections(
        "The lungs are clear. The heart is not enlarged.", "No acute process."
    )


@pytest.mark.parametrize(
    ("text", "findings", "impression"),
    [
        (" FINDINGS: Clear lungs.\n IMPRESSION: Normal.", "Clear lungs.", "Normal."),
        (" FINDINGS:  Clear.\n\n CONCLUSION:  Normal.", "Clear.", "Normal."),
        ("Findings: Clear.\nImpression: Normal.", "Clear.", "Normal."),
        ("FINDINGS\nClear.\n\nIMPRESSION\nNormal.", "Clear.", "Normal."),
        ("FINDINGS\r\nClear.\r\n\r\nIMPRESSION\r\nNormal.\r\n", "Clear.", "Normal."),
        (" HISTORY: Cough. FINDINGS: Clear. IMPRESSION: Normal.", "Clear.", "Normal."),
        (" FINDINGS AND IMPRESSION: Clear, normal.", "", "Clear, normal."),
        (" FINDINGS/IMPRESSION: Clear, normal.", "", "Clear, normal."),
        (" IMPRESSION AND FINDINGS: Clear, normal.", "", "Clear, normal."),
        (" FINIDNGS: Clear.\n IMPRESSON: Normal.", "Clear.", "Normal."),
        (" FINDING: Clear.\n MPRESSION: Normal.", "Clear.", "Normal."),
        (" PA AND LATERAL CHEST: Clear.\n IMPRESSION: Normal.", "Clear.", "Normal."),
        (" CHEST, TWO VIEWS: Title.\n FINDINGS: Clear.", "Clear.", ""),
        (" CHEST, PA:\n\n INDICATION: Cough.\n IMPRESSION: Normal.", "", "Normal."),
        (" FINDINGS: Wet read.\n FINDINGS: Clear.\n FINDINGS:\n\n IMPRESSION: Normal.", "Clear.", "Normal."),
        (" IMPRESSION: Normal.\n ADDENDUM: Seen again.", "", "Normal."),
        (" FINDINGS: Two tubes:\n one in place.\n", "Two tubes: one in place.", ""),
        (" FINDINGS: Compared to ___ at 10:30: clear.\n", "Compared to ___ at 10:30: clear.", ""),
    ],
)
def test_shapes(text: str, findings: str, impression: str) -> None:
    assert read_sections(text) == ReportSections(findings, impression)


@pytest.mark.parametrize(
    ("text", "last"),
    [
        (" HISTORY:  Cough.\n \n Clear lungs.\n \n Normal heart.\n", "Clear lungs. Normal heart."),
        ("A title.\n\nClear lungs.", "Clear lungs."),
        (" COMPARISON: None.\n", ""),
        ("", ""),
    ],
)
def test_last_paragraph_only_without_sections(text: str, last: str) -> None:
    assert read_sections(text) == ReportSections("", "", last)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("INDICATION", "other"),
        ("NDICATION", "other"),
        ("COMPARISON FILM", "other"),
        ("REASON FOR CHEST FILM", "other"),
        ("RECOMMENDATION(S)", "other"),
        ("FINAL IMPRESSION", "impression"),
        ("CHEST FINDINGS", "findings"),
        ("SINGLE FRONTAL VIEW", "views"),
        ("WET READ", "other"),
    ],
)
def test_headings(name: str, kind: str) -> None:
    assert heading_kind(name) == kind


@settings(max_examples=25, deadline=None)
@given(st.text(alphabet="FINDGS IMPRE:.\n\r\tax_", max_size=80))
def test_any_text_gives_sections_made_of_its_own_words(text: str) -> None:
    found = read_sections(text)
    words = text.split()
    for part in (found.findings, found.impression, found.last_paragraph):
        assert all(any(word in given_word for given_word in words) for word in part.split())
    assert not (found.last_paragraph and (found.findings or found.impression))
    assert split_sections(text)[0][0] == "other"
