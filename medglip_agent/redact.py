"""Logs without identifiers: what a server process writes about itself names no patient and no secret.

The rule is to log facts of our own (paths of the API, states, times), never contents. This is the net below
it: a filter for every handler, no warnings (they quote the files), errors without their text.
"""

from __future__ import annotations

import logging
import re
import traceback
import warnings
from typing import Final, TextIO

from .quiet import quiet_libraries

_PATTERNS: Final = (
    (re.compile(r"data:[\w/+.;=-]*,[\w+/=%-]*"), "data:[withheld]"),
    (re.compile(r"(?i)\b(authorization: bearer|authorization:|bearer|token[=:])\s*\S+"), r"\1 [withheld]"),
    # DICOM's FAMILY^GIVEN: a part has up to 64 characters.
    (re.compile(r"\b[^\s^\"']{1,64}\^[^\s\"']*(?:\s?[^\s^\"']{1,64}\^[^\s\"']*)*"), "[name]"),
    (re.compile(r"\b\d+(?:\.\d+){5,}\b"), "[uid]"),
    (re.compile(r"\b(?:19|20)\d\d-?[01]\d-?[0-3]\d\b"), "[date]"),
    (re.compile(r"\b\d{6,}\b"), "[number]"),
)
# Libraries that quote the files they read, or the addresses they call.
_SILENT: Final = ("pydicom", "nibabel", "PIL", "highdicom", "httpx")


def redact(text: str) -> str:
    """Return `text` with data URLs, tokens, DICOM names, UIDs, dates and long numbers withheld."""
    for pattern, instead in _PATTERNS:
        text = pattern.sub(instead, text)
    return text


def place_of(error: BaseException) -> str:
    """Return the kind of an error and where it arose; its message may quote what a user sent."""
    frames = traceback.extract_tb(error.__traceback__)
    places = [f"{frame.filename.rpartition('/')[2]}:{frame.lineno}" for frame in frames[-3:]]
    return f"{type(error).__name__} at {' > '.join(places) or 'an unknown place'}"


class RedactingFilter(logging.Filter):
    """Withholds identifiers from a record; an exception is told by its kind and place."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Rewrite the record in place; it always passes, except what quoting libraries say."""
        if record.name.partition(".")[0] in _SILENT:
            return False
        text = record.getMessage()
        if record.exc_info and record.exc_info[1] is not None:
            text = f"{text} ({place_of(record.exc_info[1])})"
        record.msg, record.args, record.exc_info, record.exc_text = redact(text), (), None, None
        return True


def log_safely(stream: TextIO | None = None) -> None:
    """Send this process's logs through the filter, and silence warnings; for servers, at their start.

    Args:
        stream: where to; None for stderr, as stdout belongs to the protocol of MCP.
    """
    handler = logging.StreamHandler(stream)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    handler.addFilter(RedactingFilter())
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
    quiet_libraries()
    warnings.simplefilter("ignore")  # mcp, for one, records them and logs them itself
