"""From a chat request to events: the image out of its jail, the agent's stream, the grounded answer.

Writes the audit log. Runs in the models' thread. Knows no HTTP.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from grounding.probe import Limits
from llm.types import Answer, Step

from ..audit import AuditLog
from ..exports import Model, Result, result_to_dict
from ..uploads import image_from
from .chat_request import ChatRequest

if TYPE_CHECKING:
    from ..agent import MedGLIPAgent


@dataclass(frozen=True)
class Reply:
    """The end of an answer.

    Attributes:
        text: what is said, with citations.
        grounding: the grounded-answer JSON.
    """

    text: str
    grounding: dict[str, Any]


@dataclass(frozen=True, eq=False)
class Answering:
    """What every request shares.

    Attributes:
        agent: answers; holds no conversation.
        models: who answers, with the hashes of their weights.
        limits: of images.
        audit: where answers are logged; None = nowhere.
    """

    agent: MedGLIPAgent
    models: tuple[Model, ...]
    limits: Limits
    audit: AuditLog | None = None

    def events(self, request: ChatRequest) -> Iterator[Step | str | Reply]:
        """Yield each finished step, each piece of text, and the reply last.

        Raises:
            UploadError: the image is not accepted.
            ApiError: it is no base64.
        """
        image = image_from(
            request.image_bytes(),
            self.limits,
            modality=request.modality,
            frame=request.frame,
            window=request.window,
        )
        for event in self.agent.stream(image, request.question):
            if not isinstance(event, Answer):
                yield event
                continue
            result = Result(image, event, self.models, request.question)
            if self.audit is not None:
                self.audit.answered(result)
            yield Reply(event.text, result_to_dict(result))
