"""A chat model that plans by calling tools: the same questions, answers and events as `MedGLIPAgent`.

Owns the turns of a question: the model speaks, its calls are run, until it answers or its steps are used up.
Knows no provider: any LangChain chat model with `bind_tools` serves (`chat_config` makes one from a file).
What the model got wrong is told to it; faults of ours are raised.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy.typing as npt
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage, ToolMessage
from langchain_core.messages.utils import message_chunk_to_message
from langchain_core.runnables import Runnable
from langchain_core.tools import BaseTool

from grounding.types import MedicalImage, Regions
from llm.types import Answer, Report, Step

from .agent import MedGLIPAgent, StreamEvent
from .answers import UNGROUNDED, abstain
from .chat_config import load_chat_model, read_chat_config
from .chat_prompt import system_text, user_text
from .citations import cite, cited_regions
from .describe import check_box
from .fence import fence
from .planner import MAX_QUESTION_CHARACTERS
from .protocols import GrounderLike, SegmenterLike, VisionLanguageModelLike
from .region_book import CitedStream, RegionBook, forged, renumber
from .request import Events, Request
from .tools import make_tools
from .trace import Trace

_TURNS_KEPT: Final = 12
_UNKNOWN: Final = "unknown tool"
_SHOWN: Final = 300  # characters of a tool's words in the trace


@dataclass
class ChatConversation:
    """The turns about one picture, one conversation a session; another picture starts it anew.

    Attributes:
        image_id: hash of the picture's pixels; empty before the first question.
        book: the numbers of its regions.
        turns: of each question, its messages: the user's, the model's, the tools'.
    """

    image_id: str = ""
    book: RegionBook = field(default_factory=lambda: RegionBook((1, 1)))
    turns: list[list[BaseMessage]] = field(default_factory=list)

    def about(self, image: MedicalImage) -> ChatConversation:
        """Return itself, emptied where it was about another picture."""
        if self.image_id != image.source_id:
            self.image_id, self.book, self.turns = image.source_id, RegionBook(image.size), []
        return self

    def add(self, messages: Sequence[BaseMessage]) -> None:
        """Keep a turn; the oldest are forgotten."""
        self.turns = [*self.turns, list(messages)][-_TURNS_KEPT:]


class ChatModelError(OSError):
    """The chat model did not answer; the message says what to do."""


class ChatModelAgent:
    """Answers questions by a chat model that calls the tools of a `MedGLIPAgent`.

    It holds no conversation itself, so one agent may serve many sessions.
    """

    def __init__(self, agent: MedGLIPAgent, model: BaseChatModel, *, max_steps: int = 8) -> None:
        """Take an agent, whose tools are used, and a chat model with tool calling.

        Args:
            agent: has the models that see the image.
            model: calls the tools; it gets no pixels.
            max_steps: how often the model may speak for one question.

        Raises:
            TypeError: the model cannot call tools.
        """
        if type(model).bind_tools is BaseChatModel.bind_tools:
            raise TypeError(
                f"expected a chat model with tool calling, got {type(model).__name__}: use another"
            )
        self.agent, self._model, self._max_steps = agent, model, max_steps

    @classmethod
    def from_config(cls, agent: MedGLIPAgent, path: str | Path) -> ChatModelAgent:
        """Take the chat model that a YAML file names (`chat_config`).

        Raises:
            ImportError: the package of the model is not installed.
            ValueError: the file is wrong; the message names the field.
        """
        config = read_chat_config(Path(path))
        return cls(agent, load_chat_model(config), max_steps=config.max_steps)

    @property
    def grounder(self) -> GrounderLike:
        """Finds regions."""
        return self.agent.grounder

    @property
    def vlm(self) -> VisionLanguageModelLike | None:
        """Looks at the image for the tools; None where none is loaded."""
        return self.agent.vlm

    @property
    def segmenter(self) -> SegmenterLike | None:
        """Draws masks for the tools; None where none is configured."""
        return self.agent.segmenter

    @property
    def models(self) -> dict[str, str]:
        """Role -> name of the models."""
        return {**self.agent.models, "chat": self._name}

    @property
    def _name(self) -> str:
        """As the model is called by its server, else its class."""
        named = getattr(self._model, "model_name", None) or getattr(self._model, "model", None)
        return Path(named).name if isinstance(named, str) else type(self._model).__name__

    def new_conversation(self) -> ChatConversation:
        """Return a conversation to hand to `ask` or `stream` with each question; one a session."""
        return ChatConversation()

    def ground(
        self, image: MedicalImage, phrases: Sequence[str], *, box_threshold: float | None = None
    ) -> Regions:
        """Do as `MedGLIPAgent.ground`: no chat model takes part."""
        return self.agent.ground(image, phrases, box_threshold=box_threshold)

    def report(self, image: MedicalImage) -> Report:
        """Do as `MedGLIPAgent.report`: no chat model takes part."""
        return self.agent.report(image)

    def ask(
        self,
        image: MedicalImage,
        question: str,
        *,
        prior: MedicalImage | None = None,
        box: npt.ArrayLike | None = None,
        conversation: ChatConversation | None = None,
    ) -> Answer:
        """Answer `question` about `image`, citing regions that the tools found as [R1], [R2] ...

        Args:
            image: the picture.
            question: text from the user.
            prior: an earlier picture of the same, to compare with.
            box: what the user has marked, (4,) xyxy in pixels of `image`.
            conversation: earlier turns, which this one is added to; None for a question of its own.

        Raises:
            ValueError: the question is empty or too long.
            RequestError: the box lies outside the picture.
            ChatModelError: the chat model did not answer.
        """
        *_, last = self.stream(image, question, prior=prior, box=box, conversation=conversation)
        assert isinstance(last, Answer)
        return last

    def stream(
        self,
        image: MedicalImage,
        question: str,
        *,
        prior: MedicalImage | None = None,
        box: npt.ArrayLike | None = None,
        conversation: ChatConversation | None = None,
    ) -> Iterator[StreamEvent]:
        """Do as `ask` does, yielding each finished `Step`, each piece of text, and the `Answer` last."""
        if not 0 < len(question.strip()) <= MAX_QUESTION_CHARACTERS:
            raise ValueError(
                f"expected a question of 1 to {MAX_QUESTION_CHARACTERS} characters, "
                f"got {len(question.strip())}: rephrase it"
            )
        marked = None if box is None else check_box(box, image)
        talk = (conversation or ChatConversation()).about(image)
        answer = yield from self._events(Request(image, question, prior, marked), talk)
        yield answer

    def _events(self, request: Request, talk: ChatConversation) -> Events:
        trace, book = Trace(), talk.book
        offered = make_tools(self.agent, request.image, prior=request.prior, book=book)
        tools = {tool.name: tool for tool in offered}
        bound = self._model.bind_tools(offered)
        before: list[BaseMessage] = [SystemMessage(system_text(request.image, request.prior))]
        before += [message for turn in talk.turns for message in turn]
        turn: list[BaseMessage] = [HumanMessage(user_text(request))]
        for number in range(1, self._max_steps + 1):
            reply = yield from self._speak(bound, [*before, *turn], number, len(book), trace)
            turn.append(reply)
            if not (reply.tool_calls or reply.invalid_tool_calls):
                turn.pop()  # the answer stands for it, without citations that are forged
                answer = _conclude(str(reply.text), book, trace)
                break
            for message in _run_calls(reply, tools, trace):
                turn.append(message)
                yield trace.steps[-1]
        else:
            reason = f"The chat model used its {self._max_steps} steps without an answer."
            answer = abstain(reason, book.regions, trace.steps)
        talk.add([*turn, AIMessage(answer.text)])
        return answer

    def _speak(
        self,
        bound: Runnable[Any, Any],
        messages: Sequence[BaseMessage],
        number: int,
        citable: int,
        trace: Trace,
    ) -> Generator[Step | str, None, AIMessage]:
        """Let the model speak once; its pieces are shown without citations of regions that do not exist."""
        shown = CitedStream(citable)
        whole: Any = None  # a message, or the sum of its chunks
        with trace.step("chat", {"chat": self._name, "step": number}) as step:
            for chunk in self._chunks(bound, messages):
                whole = chunk if whole is None else whole + chunk
                if piece := shown.feed(str(chunk.text)):
                    yield piece
            if rest := shown.close():
                yield rest
            if whole is None:
                raise ChatModelError(f"expected a reply of {self._name}, got none: is its server well?")
            reply = message_chunk_to_message(whole)
            assert isinstance(reply, AIMessage)
            called = [str(call["name"]) for call in (*reply.tool_calls, *reply.invalid_tool_calls)]
            step.outcome = f"calls {', '.join(called)}" if called else str(reply.text)[:_SHOWN]
        yield trace.steps[-1]
        return reply

    def _chunks(self, bound: Runnable[Any, Any], messages: Sequence[BaseMessage]) -> Iterator[Any]:
        """What the model says, piece by piece; whatever its client raises is one error of ours."""
        try:
            yield from bound.stream(list(messages))
        except Exception as error:
            raise ChatModelError(
                f"the chat model {self._name} failed ({type(error).__name__}): see that its server runs and "
                "knows the model, or leave the chat model out"
            ) from error


def _run_calls(reply: AIMessage, tools: Mapping[str, BaseTool], trace: Trace) -> Iterator[ToolMessage]:
    """Run what the model called, each as a step; every call is answered, the wrong ones by a complaint."""
    for call in reply.tool_calls:
        name = call["name"] if call["name"] in tools else _UNKNOWN
        with trace.step(name, call["args"]) as step:
            message = _call(tools, call["name"], call["args"], call["id"] or "")
            step.outcome = _words(message)[:_SHOWN]
        yield message
    for wrong in reply.invalid_tool_calls:
        with trace.step(_UNKNOWN, {"name": wrong["name"], "arguments": wrong["args"]}) as step:
            message = _complaint(
                wrong["id"] or "", "expected the arguments as one JSON object: write valid JSON"
            )
            step.outcome = _words(message)[:_SHOWN]
        yield message


def _call(tools: Mapping[str, BaseTool], name: str, args: dict[str, Any], call_id: str) -> ToolMessage:
    if name not in tools:
        return _complaint(call_id, f"expected one of the tools {', '.join(tools)}, got {name!r}")
    message = tools[name].invoke({"name": name, "args": args, "id": call_id, "type": "tool_call"})
    assert isinstance(message, ToolMessage)
    return message


def _complaint(call_id: str, words: str) -> ToolMessage:
    return ToolMessage(fence("error", words), tool_call_id=call_id, status="error")


def _words(message: ToolMessage) -> str:
    """What a fenced message says, in one line."""
    return " ".join(line.removeprefix("| ") for line in str(message.content).splitlines()[1:-1])


def _conclude(text: str, book: RegionBook, trace: Trace) -> Answer:
    """The model's last words as the answer: its citations are checked against the regions found."""
    regions = book.regions
    words = renumber(text, range(len(book))).strip()
    if not words:
        return abstain("The chat model gave no answer.", regions, trace.steps)
    with trace.step("citation", {"answer": words}) as step:
        cited = cited_regions(words)
        step.outcome = cite(cited) or UNGROUNDED
        if invented := forged(text, len(book)):
            step.outcome += f"; the chat model cited regions that do not exist: {cite(invented)}"
    reason = "" if cited else UNGROUNDED
    return Answer(f"{words} {reason}".strip(), regions, None, False, trace.steps, reason)
