"""Replies in OpenAI's form: one object, or chunks whose texts add up to the same.

The field `grounding` is ours: the grounded-answer JSON. Token counts are not known, so `usage` is absent.
"""

from __future__ import annotations

import json
import secrets
import time
from typing import Any

from .answering import Reply
from .chat_request import MODEL


class Completion:
    """One reply under way: its id and time."""

    def __init__(self) -> None:
        """Draw an id."""
        self._head = {"id": f"chatcmpl-{secrets.token_hex(12)}", "created": int(time.time()), "model": MODEL}

    def whole(self, reply: Reply) -> dict[str, Any]:
        """Return the reply as one object."""
        message = {"role": "assistant", "content": reply.text, "refusal": None}
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}
        return {
            **self._head,
            "object": "chat.completion",
            "choices": [choice],
            "grounding": reply.grounding,
        }

    def chunk(self, delta: dict[str, str], reply: Reply | None = None) -> bytes:
        """Return one server-sent event; the last carries the reply's grounding."""
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": reply and "stop"}
        chunk = {**self._head, "object": "chat.completion.chunk", "choices": [choice]}
        return server_sent({**chunk, "grounding": reply.grounding} if reply else chunk)


def server_sent(data: dict[str, Any]) -> bytes:
    """Return `data` as one server-sent event."""
    return b"data: " + json.dumps(data, allow_nan=False).encode() + b"\n\n"


DONE = b"data: [DONE]\n\n"


class TextFlow:
    """The agent's pieces as they come, so that they add up to the answer in its final wording.

    The answer ends differently, so what may still change is held back.
    """

    def __init__(self) -> None:
        """Start with nothing sent."""
        self._raw = self._sent = ""

    def piece(self, text: str) -> str:
        """Return what of the text so far may be sent now."""
        self._raw += text
        settled = self._raw.lstrip().rstrip(" \n\t.")
        new = settled[len(self._sent) :]
        self._sent += new
        return new

    def end(self, answer: str) -> str:
        """Return the rest of the answer; all of it, set apart, where it turned out otherwise."""
        if answer.startswith(self._sent):
            return answer[len(self._sent) :]
        return f"\n\n{answer}"
