"""A model behind an OpenAI-compatible server (vLLM, SGLang, LMDeploy and others) as one of ours.

Speaks ``POST {server}/chat/completions`` with the standard library: the image as a base64 data URL, greedy
decoding, the reply's log-probabilities for the confidence, server-sent events for streams. A LoRA adapter is
chosen by the name that the server gave it. The batch is sent as concurrent requests, which such servers batch
themselves. Loads no model, no torch.
"""

from __future__ import annotations

import base64
import io
import json
import math
import os
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPException
from typing import IO, Any
from urllib.error import HTTPError, URLError
from urllib.request import HTTPRedirectHandler, Request, build_opener

from PIL import Image

from .confidence import Certainty
from .config import ModelConfig
from .families import style_named
from .prompt import user_text
from .spatial import show_regions
from .types import Generation, SpatialPrompt

_DATA = "data:"
_SHOWN = 300  # characters of a server's complaint that are passed on


class ServerError(RuntimeError):
    """The server could not be reached, refused, or replied with what is not a chat completion."""


class _NoRedirects(HTTPRedirectHandler):
    """Follows no redirect: the picture and the key go to the named server only."""

    def redirect_request(self, *args: Any, **kwargs: Any) -> None:
        """Refuse."""
        return None


class ServedModel:
    """Answers `SpatialPrompt`s through a server; safe for several threads."""

    def __init__(self, config: ModelConfig) -> None:
        """Prepare requests; nothing is sent yet.

        Args:
            config: With `server`; `adapter`, where given, is the name that the server knows it by.
        """
        if config.server is None:
            raise ValueError("a served model needs the field server, such as http://127.0.0.1:8000/v1")
        self.name = config.adapter or config.model
        self.certainty = Certainty(asked=config.abstain_below)
        self._config = config
        self._address = config.server.rstrip("/") + "/chat/completions"
        self._style = style_named(config.style or "text")
        self._opener = build_opener(_NoRedirects)

    def generate(
        self, prompts: Sequence[SpatialPrompt], *, max_new_tokens: int = 16, stop: Sequence[str] = ()
    ) -> list[Generation]:
        """Greedy replies to a batch of prompts, one image each, in their order; `stop` texts end a reply.

        Raises:
            ServerError: The message says what the server said and what to do.
        """
        if not prompts:
            return []
        with ThreadPoolExecutor(min(self._config.requests, len(prompts))) as pool:
            return list(pool.map(lambda prompt: self._ask(prompt, max_new_tokens, stop), prompts))

    def stream(
        self, prompt: SpatialPrompt, *, max_new_tokens: int = 64, stop: Sequence[str] = ()
    ) -> Generator[str, None, Generation]:
        """The pieces of a greedy reply as they come; returns the whole, with its confidence.

        Raises:
            ServerError: The message says what the server said and what to do.
        """
        text: list[str] = []
        log_probs: list[float] = []
        with self._post(self._body(prompt, max_new_tokens, stop, stream=True)) as response:
            for event in _events(response):
                for choice in event.get("choices", ()):
                    log_probs += _log_probs(choice)
                    if piece := choice.get("delta", {}).get("content"):
                        text.append(piece)
                        yield piece
        return Generation("".join(text).strip(), _confidence(log_probs))

    def _ask(self, prompt: SpatialPrompt, max_new_tokens: int, stop: Sequence[str]) -> Generation:
        """One whole reply."""
        with self._post(self._body(prompt, max_new_tokens, stop, stream=False)) as response:
            reply = _json(response.read())
        try:
            (choice,) = reply["choices"]
            text = choice["message"]["content"] or ""
        except (KeyError, TypeError, ValueError) as error:
            raise ServerError(f"expected a chat completion, got {str(reply)[:_SHOWN]}") from error
        return Generation(text.strip(), _confidence(_log_probs(choice)))

    def _post(self, content: dict[str, Any]) -> IO[bytes]:
        """Send a request; the response is read by the caller."""
        headers = {"Content-Type": "application/json"}
        if key := os.environ.get(self._config.api_key_variable):
            headers["Authorization"] = f"Bearer {key}"
        body = json.dumps(content).encode()
        request = Request(self._address, data=body, headers=headers, method="POST")
        try:
            response: IO[bytes] = self._opener.open(request, timeout=self._config.timeout)
        except HTTPError as error:
            said = error.read(_SHOWN).decode(errors="replace")
            raise ServerError(
                f"{self._address} answered {error.code} to the model {self.name!r}: {said};"
                f" check model and adapter against {self._config.server}/models, and the key in"
                f" {self._config.api_key_variable}"
            ) from error
        except (URLError, HTTPException, OSError) as error:
            raise ServerError(
                f"no answer from {self._address} ({error}); start the server, or correct the field server"
            ) from error
        return response

    def _body(
        self, prompt: SpatialPrompt, max_new_tokens: int, stop: Sequence[str], *, stream: bool
    ) -> dict[str, Any]:
        """The request: the picture, then the regions and the question."""
        shown = show_regions(prompt.image, prompt.regions, prompt.text, self._style)
        text = user_text(prompt.text, prompt.regions, self._style, orientation=prompt.image.orientation)
        content = [
            {"type": "image_url", "image_url": {"url": data_url(Image.fromarray(shown.pixels))}},
            {"type": "text", "text": text},
        ]
        return {
            "model": self.name,
            "messages": [{"role": "user", "content": content}],
            "max_tokens": max_new_tokens,
            "temperature": 0.0,
            "logprobs": True,
            "stream": stream,
            **({"stop": list(stop)} if stop else {}),
        }


def data_url(picture: Image.Image) -> str:
    """A picture as ``data:image/png;base64,...``, lossless and without metadata."""
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def _events(response: IO[bytes]) -> Iterator[dict[str, Any]]:
    """The JSON of each server-sent event up to ``[DONE]``.

    Raises:
        ServerError: The stream broke off or holds an error.
    """
    try:
        for line in response:
            text = line.decode("utf-8").strip()
            if not text.startswith(_DATA):
                continue
            if (data := text[len(_DATA) :].strip()) == "[DONE]":
                return
            event = _json(data.encode())
            if "error" in event:
                raise ServerError(f"the server broke off: {str(event['error'])[:_SHOWN]}")
            yield event
    except (HTTPException, OSError) as error:
        raise ServerError(f"the stream broke off ({error}); ask again") from error
    raise ServerError("the stream ended without [DONE]; the reply is not whole, ask again")


def _json(data: bytes) -> dict[str, Any]:
    """A JSON object.

    Raises:
        ServerError: It is none.
    """
    try:
        value = json.loads(data)
    except ValueError as error:
        raise ServerError(
            f"expected JSON, got {data[:_SHOWN]!r}; is this an OpenAI-compatible server?"
        ) from error
    if not isinstance(value, dict):
        raise ServerError(f"expected a JSON object, got {data[:_SHOWN]!r}")
    return value


def _log_probs(choice: dict[str, Any]) -> list[float]:
    """Log-probabilities of a choice's tokens; empty where the server gave none."""
    return [token["logprob"] for token in (choice.get("logprobs") or {}).get("content") or ()]


def _confidence(log_probs: Sequence[float]) -> float:
    """Geometric mean of the tokens' probabilities.

    Raises:
        ServerError: There are none, and a confidence is not made up.
    """
    if not log_probs:
        raise ServerError(
            "the server gave no log-probabilities, so the reply has no confidence; use one that supports"
            " `logprobs` in chat completions (vLLM, SGLang and LMDeploy do)"
        )
    return min(1.0, math.exp(sum(log_probs) / len(log_probs)))
