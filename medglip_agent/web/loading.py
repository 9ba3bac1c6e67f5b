"""Loads the agent in the background: the page can be used, and says so, before the models are there."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy.typing as npt

from grounding.types import MedicalImage, Regions
from llm.types import Answer, Report

from ..agent import StreamEvent
from ..audit import AuditLog
from ..exports import Result
from ..exports.provenance import HasModels

_LOG = logging.getLogger(__name__)


class AgentLike(HasModels, Protocol):
    """What the page needs from `medglip_agent.MedGLIPAgent`."""

    def new_conversation(self) -> Any:
        """Return what a session keeps and hands over with each question; each agent has its own kind."""
        ...

    def ask(self, image: MedicalImage, question: str) -> Answer:
        """Answer a question."""
        ...

    def stream(
        self,
        image: MedicalImage,
        question: str,
        *,
        prior: MedicalImage | None = None,
        box: npt.ArrayLike | None = None,
        conversation: Any = None,
    ) -> Iterator[StreamEvent]:
        """Yield finished steps, pieces of text, and the answer last."""
        ...

    def report(self, image: MedicalImage) -> Report:
        """Describe a picture."""
        ...

    def ground(
        self, image: MedicalImage, phrases: Sequence[str], *, box_threshold: float | None = None
    ) -> Regions:
        """Return the regions of phrases."""
        ...


LoadAgent = Callable[[Callable[[str], None]], AgentLike]
"""Loads an agent, telling its argument in a few words what it is doing."""


@dataclass(frozen=True)
class LoadStatus:
    """How far loading is, in words for the page."""

    state: Literal["loading", "ready", "failed"]
    message: str


class NotReadyError(RuntimeError):
    """The models are still loading, or could not be loaded; the message is a sentence for the user."""


class AgentLoader:
    """Holds the one agent that all sessions share (it keeps no conversation), and the log of its answers."""

    def __init__(self, load: LoadAgent, audit: AuditLog | None = None) -> None:
        """Take the function that loads the agent, and where answers are logged; nothing starts yet."""
        self._load, self._audit = load, audit
        self._agent: AgentLike | None = None
        self._done = threading.Event()
        self._status = LoadStatus("loading", "Starting ...")

    @property
    def status(self) -> LoadStatus:
        """The present state."""
        return self._status

    def start(self) -> None:
        """Load in a background thread."""
        threading.Thread(target=self._run, name="load-models", daemon=True).start()

    def get(self, timeout: float = 0.0) -> AgentLike:
        """Return the agent, waiting at most `timeout` seconds for it.

        Raises:
            NotReadyError: it is not there.
        """
        self._done.wait(timeout)
        if self._agent is None:
            raise NotReadyError(self._status.message)
        return self._agent

    def logged(self, result: Result) -> Result:
        """Write an answer into the audit log, where there is one, before it is shown; return it.

        Raises:
            OSError: it cannot be written.
        """
        if self._audit is not None:
            self._audit.answered(result)
        return result

    def _run(self) -> None:
        try:
            agent = self._load(self._say)
        except Exception as error:
            _LOG.exception("the models could not be loaded")
            self._status = LoadStatus("failed", f"The models could not be loaded: {error}")
        else:
            self._agent = agent
            names = " · ".join(f"{role} {name}" for role, name in agent.models.items())
            self._status = LoadStatus("ready", f"Ready · {names}")
        finally:
            self._done.set()

    def _say(self, message: str) -> None:
        self._status = LoadStatus("loading", message[:1].upper() + message[1:])
