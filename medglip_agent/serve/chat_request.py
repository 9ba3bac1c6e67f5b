"""A chat request, read: JSON of a stranger in, one image and one question out. Decodes no image.

The last user message holds the question; the picture is the latest one in the conversation, so that a further
question needs no second copy. All of it is data: system messages and earlier answers instruct nobody here.
"""

from __future__ import annotations

import base64
import binascii
import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NoReturn

from grounding.types import Window

from ..planner import MAX_QUESTION_CHARACTERS
from .errors import ApiError

MODEL: Final = "medglip"
MAX_MESSAGES: Final = 500

_ROLES: Final = ("system", "developer", "user", "assistant")
_DATA_URL: Final = re.compile(r"data:(?:image/[\w.+-]+|application/(?:dicom|octet-stream|gzip))?;base64,")
_UNSUPPORTED: Final = ("tools", "functions", "audio", "logprobs", "prediction", "web_search_options")
_IMAGE_OPTIONS: Final = ("modality", "frame", "window")
_MODALITY: Final = re.compile(r"[A-Z]{2,4}")


@dataclass(frozen=True)
class ChatRequest:
    """What is asked.

    Attributes:
        question: text of the last user message.
        image: the file, still encoded as base64.
        stream: answer as server-sent events.
        modality: DICOM code that overrides the file's; None = the file's.
        frame: frame or slice from 0; None = the file's default.
        window: grey window in rescaled units; None = the file's.
    """

    question: str
    image: str
    stream: bool = False
    modality: str | None = None
    frame: int | None = None
    window: Window | None = None

    def image_bytes(self) -> bytes:
        """Return the file.

        Raises:
            ApiError: it is no base64.
        """
        try:
            return base64.b64decode(self.image, validate=True)
        except (binascii.Error, ValueError):
            raise ApiError(
                400, "the image is no valid base64", param="messages", code="invalid_image"
            ) from None


def read_chat(body: bytes) -> ChatRequest:
    """Read the body of a chat request.

    Raises:
        ApiError: with status 400 or 404, and the field that is wrong.
    """
    request = _json_object(body)
    model = request.get("model")
    if model != MODEL:
        raise ApiError(
            404, f"model must be {MODEL!r}; GET /v1/models lists it", param="model", code="model_not_found"
        )
    for name in _UNSUPPORTED:
        if request.get(name):
            _wrong(name, f"{name} is not supported; leave it out")
    if request.get("n") not in (None, 1):
        _wrong("n", "n must be 1: decoding is greedy, so that all choices would be the same")
    if _type_of(request.get("response_format")) not in (None, "text"):
        _wrong("response_format", "only text is written; the JSON is in the field grounding of the reply")
    stream = request.get("stream")
    if stream not in (None, True, False):
        _wrong("stream", "stream must be true or false")
    messages = _messages(request.get("messages"))
    return ChatRequest(
        _question(messages), _image(messages), bool(stream), **_image_options(request.get("image_options"))
    )


def _wrong(param: str, message: str, code: str | None = None) -> NoReturn:
    raise ApiError(400, message, param=param, code=code)


def _json_object(body: bytes) -> dict[str, Any]:
    try:
        text = body.decode("utf-8")
        request = json.loads(text, parse_constant=_no_constant)
        json.dumps(request, ensure_ascii=False).encode("utf-8")  # lone surrogates have no UTF-8
    except (ValueError, RecursionError):
        raise ApiError(400, "the body must be JSON in UTF-8", code="invalid_json") from None
    if not isinstance(request, dict):
        raise ApiError(400, "the body must be a JSON object", code="invalid_json")
    return request


def _no_constant(name: str) -> NoReturn:
    raise ValueError(name)


def _type_of(value: Any) -> Any:
    return value.get("type") if isinstance(value, dict) else value


def _messages(value: Any) -> list[dict[str, Any]]:
    if not isinstance(value, list) or not value:
        _wrong("messages", "messages must be a list with at least one message")
    if len(value) > MAX_MESSAGES:
        _wrong("messages", f"messages may have up to {MAX_MESSAGES} entries; drop the earliest")
    for message in value:
        if not isinstance(message, dict) or message.get("role") not in _ROLES:
            _wrong("messages", f"each message needs a role among {', '.join(_ROLES)}")
    if value[-1]["role"] != "user":
        _wrong("messages", "the last message must be the user's: it holds the question")
    return value


def _parts(message: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Yield the parts of a message; plain text is one part."""
    content = message.get("content")
    if content is None and message["role"] == "assistant":
        return
    if isinstance(content, str):
        yield {"type": "text", "text": content}
        return
    if not isinstance(content, list):
        _wrong("messages", "content must be text or a list of parts")
    for part in content:
        if not isinstance(part, dict) or part.get("type") not in ("text", "image_url", "refusal"):
            _wrong("messages", "each part of a content must be of the type text or image_url")
        yield part


def _question(messages: Sequence[Mapping[str, Any]]) -> str:
    texts = [part.get("text") for part in _parts(messages[-1]) if part["type"] == "text"]
    if not all(isinstance(text, str) for text in texts):
        _wrong("messages", "the text of a part must be a string")
    question = "\n".join(text for text in texts if text is not None).strip()
    if not question:
        _wrong("messages", "the last message has no text; ask a question about the image")
    if len(question) > MAX_QUESTION_CHARACTERS:
        _wrong("messages", f"a question may have up to {MAX_QUESTION_CHARACTERS} characters; shorten it")
    return question


def _image(messages: Sequence[Mapping[str, Any]]) -> str:
    """Return the latest image of the conversation, as base64."""
    for message in reversed(messages):
        if message["role"] != "user":
            continue
        images = [part for part in _parts(message) if part["type"] == "image_url"]
        if len(images) > 1:
            _wrong("messages", f"a message may hold one image, got {len(images)}", "too_many_images")
        if images:
            return _base64_of(images[0].get("image_url"))
    _wrong("messages", "there is no image in the conversation; send one as an image_url part", "no_image")


def _base64_of(value: Any) -> str:
    url = value.get("url") if isinstance(value, dict) else value
    if not isinstance(url, str):
        _wrong("messages", 'image_url must be {"url": "data:image/png;base64,..."}', "invalid_image")
    found = _DATA_URL.match(url)
    if found is None:
        _wrong(
            "messages",
            "images must be data URLs in base64 (data:image/png;base64,... or data:application/dicom;...);"
            " nothing is fetched from the network or from disk",
            "invalid_image_url",
        )
    return url[found.end() :]


def _image_options(value: Any) -> dict[str, Any]:
    """Return the arguments of `ChatRequest` that say how to show the image."""
    if value is None:
        return {}
    if not isinstance(value, dict) or not set(value) <= set(_IMAGE_OPTIONS):
        _wrong("image_options", f"image_options may hold {', '.join(_IMAGE_OPTIONS)}")
    modality, frame, window = (value.get(name) for name in _IMAGE_OPTIONS)
    if modality is not None and not (isinstance(modality, str) and _MODALITY.fullmatch(modality)):
        _wrong("image_options", "modality must be a DICOM code such as CR, CT, MR, US")
    if frame is not None and (type(frame) is not int or not 0 <= frame < 1 << 31):
        _wrong("image_options", "frame must be a whole number from 0")
    return {"modality": modality, "frame": frame, "window": None if window is None else _window(window)}


def _window(value: Any) -> Window:
    numbers = value if isinstance(value, list) else []
    try:
        center, width = (float(number) for number in numbers if type(number) in (int, float))
        if not (math.isfinite(center) and 0 < width < math.inf) or len(numbers) != 2:
            raise ValueError
        return Window(center, width)
    except (ValueError, OverflowError):
        _wrong("image_options", "window must be [center, width] with a width above 0, e.g. [40, 400]")
