"""Text that is not ours made harmless inside a prompt: no control, image or spatial token survives.

Knows tokens as strings only; which ones a tokenizer has, its caller says.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence

_LOOKALIKES = {code + 0xFEE0: code for code in map(ord, "<>|[]")}  # full-width forms
_TOKEN_OPENING = re.compile(r"<(?=[|/_A-Za-z])|\[(?=/?[A-Z_]{2,}[^a-z]*\])")
_INVISIBLE = {"Cc", "Cf", "Co", "Cs", "Zl", "Zp"}


def escape_text(text: str, specials: Iterable[str] = ()) -> str:
    """Make text from a user, an image or a file harmless inside a prompt; ordinary text stays as it is.

    Line breaks become spaces (so that no line of the region block can be forged), invisible and control
    characters go, and anything that a tokenizer could read as a control, image or spatial token is broken by
    a space.

    Args:
        text: Any text.
        specials: The special tokens of the tokenizer at hand; none of them is left in the result.
    """
    visible = (c if unicodedata.category(c) not in _INVISIBLE or c.isspace() else "" for c in text)
    result = " ".join("".join(visible).translate(_LOOKALIKES).split())
    tokens = [token for token in specials if len(token) > 1 and not token[1].isspace()]
    result = _break_tokens(result, tokens)
    folded = unicodedata.normalize("NFKC", result)  # as SentencePiece tokenizers read it
    if folded != result and (_TOKEN_OPENING.search(folded) or any(token in folded for token in tokens)):
        result = _break_tokens(" ".join(folded.split()), tokens)
    return result


def _break_tokens(text: str, tokens: Sequence[str]) -> str:
    """Put a space after the first character of every token that still occurs, until none does."""
    text = _TOKEN_OPENING.sub(lambda match: f"{match[0]} ", text)
    while found := next((token for token in tokens if token in text), None):
        text = text.replace(found, f"{found[0]} {found[1:]}")
    return text
