"""Logs: identifiers are withheld, errors are told by kind and place."""

from __future__ import annotations

import logging

import pytest

from medglip_agent.redact import RedactingFilter, place_of, redact


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("image data:image/png;base64,iVBORw0KGgo= given", "image data:[withheld] given"),
        ("Authorization: Bearer abc.def", "Authorization: Bearer [withheld]"),
        ("got Bearer s3cret!", "got Bearer [withheld]"),
        ("for SMITH^JOHN^A^^DR today", "for [name] today"),
        ("born 1947-03-11 or 19470311", "born [date] or [date]"),
        ("uid 1.2.840.10008.5.1.4", "uid [uid]"),
        ("patient 00123456 of 200 x 240 px", "patient [number] of 200 x 240 px"),
        ("POST /v1/chat/completions 200 0.12 s", "POST /v1/chat/completions 200 0.12 s"),
    ],
)
def test_redact(text: str, told: str) -> None:
    assert redact(text) == told


def test_a_long_text_is_read_once() -> None:
    """Not once from each of its words: that would take a minute."""
    assert redact("data:" * 50_000) == "data:" * 50_000


def record(name: str, text: str, *args: object, error: BaseException | None = None) -> logging.LogRecord:
    info = (type(error), error, error.__traceback__) if error else None
    return logging.LogRecord(name, logging.WARNING, "x.py", 1, text, args, info)


def test_records_are_rewritten_after_formatting() -> None:
    item = record("medglip", "opened %s", "SMITH^JOHN")
    assert RedactingFilter().filter(item)
    assert item.getMessage() == "opened [name]"


@pytest.mark.parametrize("library", ["pydicom.reader", "httpx"])
def test_who_quotes_is_silent(library: str) -> None:
    assert not RedactingFilter().filter(record(library, "bad value Smith"))


def test_errors_are_told_by_kind_and_place() -> None:
    try:
        raise ValueError("Smith")
    except ValueError as error:
        item = record("medglip", "failed", error=error)
        assert place_of(error).startswith("ValueError at test_redact.py:")
    assert RedactingFilter().filter(item)
    assert "Smith" not in logging.Formatter().format(item) and "ValueError" in item.getMessage()
