"""What the page does when something happens: pure steps from inputs to what is shown. No widgets.

Errors that the user can do something about are raised as `UserError`, a sentence; the layout shows them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from grounding.images import MAX_PIXELS, ImageError
from grounding.probe import Limits
from llm.types import Answer, Step

from ..chat_model import ChatModelError
from ..citations import cited_regions
from ..examples import Example
from ..exports import FORMATS, ExportError, Result, SourceFrame, models_of, result_to_dict
from ..request import RequestError, parse_box
from ..uploads import THE_FILE, UploadError, UploadJail, read_inside
from .loading import AgentLike, AgentLoader, NotReadyError
from .panels import answer_markdown, plain, progress_markdown, reply_markdown, report_markdown
from .session import Session, change_view, open_session

UPLOADS: Final = Limits(max_bytes=512 << 20, max_pixels=MAX_PIXELS, max_unpacked_bytes=2 << 30)
"""How large an uploaded file may be."""

_WAIT: Final = 600.0  # seconds that a question waits for the models
_POLL: Final = 0.5

Message = dict[str, str]


class UserError(ValueError):
    """Something the user can put right; the message is a sentence that says how."""


@dataclass(frozen=True, eq=False)
class Turn:
    """The page's state while a question is being answered.

    Attributes:
        messages: the chat.
        steps: the trace so far.
        session: with the regions found, once they are there.
    """

    messages: list[Message]
    steps: tuple[Step, ...]
    session: Session


def open_upload(path: str | None, modality: str | None = None) -> Session:
    """Open an uploaded file; `modality`, a DICOM code, overrides what the file says.

    Raises:
        UserError: it is no picture that can be shown.
    """
    if not path:
        raise UserError("No file arrived: choose one again.")
    file = Path(path)
    if not file.is_file():  # gradio drops its copies after a while
        raise UserError("The file is no longer here: choose it again.")
    jail = UploadJail(limits=UPLOADS)
    try:
        kept = jail.add(read_inside(file.parent, file.name, UPLOADS.max_bytes))
    except UploadError as error:
        raise _unshown(error, file.name) from error
    return _opened(kept, file.name, modality, jail)


def open_example(example: Example) -> Session:
    """Open one of the examples.

    Raises:
        UserError: its file is gone or damaged.
    """
    return _opened(example.path, example.title, example.modality)


def _opened(path: Path, title: str, modality: str | None, jail: UploadJail | None = None) -> Session:
    try:
        return open_session(path, title, modality, jail)
    except ValueError as error:  # about the file, or a modality that is no DICOM code
        raise _unshown(error, title) from error


def _unshown(error: ValueError, name: str) -> UserError:
    words = str(error).replace(THE_FILE, name, 1).rstrip(".")
    return UserError(f"This file cannot be shown. {words}.")


def show_view(session: Session, frame: int, window: str, modality: str) -> Session:
    """Do as `session.change_view`.

    Raises:
        UserError: the frame cannot be decoded.
    """
    try:
        return change_view(session, frame, window, modality)
    except ImageError as error:
        raise UserError("This frame is damaged and cannot be shown. Choose another.") from error


def answer_question(
    loader: AgentLoader,
    session: Session | None,
    question: str,
    messages: list[Message],
    *,
    prior: str | None = None,
    box: str = "",
) -> Iterator[Turn]:
    """Answer a question, yielding the page's state each time something is new.

    Args:
        loader: gives the agent; a question asked too early waits for it.
        session: the open picture.
        question: the user's words.
        messages: the chat so far, which is kept and added to.
        prior: file of an earlier picture, to compare with; None for none.
        box: the marked part, "x1, y1, x2, y2" in pixels of the picture; empty for none.

    Raises:
        UserError: there is no picture or no question, the earlier picture or the box is none, the models
            are not there, the question is refused, or the chat model does not answer.
    """
    if session is None:
        raise UserError("Open an image or click an example first, then ask.")
    if not question.strip():
        raise UserError("Write a question first.")
    asked: list[Message] = [*messages, {"role": "user", "content": plain(question.strip())}]
    marked = _marked(box)
    earlier = None if prior is None else open_upload(prior, session.modality).image
    cleared = replace(session, regions=None, cited=(), answer=None, box=marked)

    def turn(reply: str, steps: tuple[Step, ...], state: Session) -> Turn:
        return Turn([*asked, {"role": "assistant", "content": reply}], steps, state)

    for message in _wait(loader):
        yield turn(f"*{plain(message)}*", (), cleared)
    try:
        agent = loader.get()
        conversation = session.conversation or agent.new_conversation()
        cleared = replace(cleared, conversation=conversation)
        steps: tuple[Step, ...] = ()
        text = ""
        yield turn(progress_markdown(None), steps, cleared)
        for event in agent.stream(
            session.image, question, prior=earlier, box=marked, conversation=conversation
        ):
            if isinstance(event, Answer):
                cited = () if event.abstained else cited_regions(event.text)
                state = replace(cleared, regions=event.regions, cited=cited, question=question, answer=event)
                loader.logged(Result(session.image, event, question=question))
                yield turn(answer_markdown(event), event.steps, state)
            elif isinstance(event, Step):
                steps = (*steps, event)
                yield turn(reply_markdown(text) if text else progress_markdown(event), steps, cleared)
            else:
                text += event
                yield turn(reply_markdown(text), steps, cleared)
    except (NotReadyError, ValueError, ChatModelError) as error:
        raise UserError(str(error)) from error


def report_picture(loader: AgentLoader, session: Session | None, messages: list[Message]) -> Iterator[Turn]:
    """Write a report of the picture, yielding the page's state while it is written and when it is there.

    Raises:
        UserError: there is no picture, or the models are not there.
    """
    if session is None:
        raise UserError("Open an image or click an example first.")
    asked: list[Message] = [*messages, {"role": "user", "content": "Report"}]
    cleared = replace(session, regions=None, cited=(), answer=None, question="")

    def turn(reply: str, steps: tuple[Step, ...], state: Session) -> Turn:
        return Turn([*asked, {"role": "assistant", "content": reply}], steps, state)

    for message in _wait(loader):
        yield turn(f"*{plain(message)}*", (), cleared)
    yield turn("*Writing the report ...*", (), cleared)
    report = _agent(loader).report(session.image)
    loader.logged(Result(session.image, report))
    cited = tuple(dict.fromkeys(index for finding in report.findings for index in finding.region_ids))
    state = replace(cleared, regions=report.regions, cited=cited, answer=report)
    yield turn(report_markdown(report), report.steps, state)


def _marked(box: str) -> tuple[float, float, float, float] | None:
    if not box.strip():
        return None
    try:
        return parse_box(box)
    except RequestError as error:
        raise UserError(f"Draw the box on the picture, or write its corners: {error}.") from error


def _wait(loader: AgentLoader) -> Iterator[str]:
    """Yield what is being loaded until the models are there, failed, or took too long."""
    waited = 0.0
    while loader.status.state == "loading" and waited < _WAIT:
        yield f"{loader.status.message} The answer follows."
        try:
            loader.get(_POLL)
        except NotReadyError:
            waited += _POLL


def ground_file(
    loader: AgentLoader, path: str | None, phrases: list[str], min_score: float = 0.0, modality: str = ""
) -> dict[str, Any]:
    """Return the regions of phrases in a file as plain JSON types (the endpoint /ground).

    Args:
        loader: gives the agent.
        path: an uploaded picture.
        phrases: what to look for.
        min_score: regions below it are dropped.
        modality: DICOM code of the picture; empty = what the file says.

    Raises:
        UserError: the file is no picture, there is no phrase, or the models are not there.
    """
    if not phrases:
        raise UserError('Name what to look for, for example ["left lung", "right lung"].')
    image = open_upload(path, modality or None).image
    agent = _agent(loader)
    regions = agent.ground(image, phrases, box_threshold=min_score)
    return result_to_dict(loader.logged(Result(image, regions, models_of(agent))))


def ask_file(loader: AgentLoader, path: str | None, question: str, modality: str = "") -> dict[str, Any]:
    """Return the answer to a question about a file as plain JSON types (the endpoint /ask).

    Args:
        loader: gives the agent.
        path: an uploaded picture.
        question: the question.
        modality: DICOM code of the picture; empty = what the file says.

    Raises:
        UserError: the file is no picture, the question is empty or refused, the models are not there, or the
            chat model does not answer.
    """
    if not question.strip():
        raise UserError("Write a question first.")
    image = open_upload(path, modality or None).image
    agent = _agent(loader)
    try:
        answer = agent.ask(image, question)
    except (ValueError, ChatModelError) as error:
        raise UserError(str(error)) from error
    return result_to_dict(loader.logged(Result(image, answer, models_of(agent), question)))


def export_answer(loader: AgentLoader, session: Session | None, suffix: str) -> tuple[str, bytes]:
    """Return the last answer as a file to download: a name that tells nothing of the picture, and bytes.

    Args:
        loader: gives the agent, whose models are named.
        session: the open picture with its answer.
        suffix: a key of `FORMATS`.

    Raises:
        UserError: there is no answer yet, or it cannot be had in this format; the message says why.
    """
    if session is None or session.answer is None:
        raise UserError("Ask something about the picture first; then take the answer away.")
    form = FORMATS[suffix]
    if form.absent:
        raise UserError(f"This format is not installed here: {form.absent}.")
    source = None if session.path is None else SourceFrame(session.path, session.frame)
    models = models_of(_agent(loader))
    try:
        data = form.encode(Result(session.image, session.answer, models, session.question, source))
    except ExportError as error:
        raise UserError(f"This answer cannot be written so. {error}.") from error
    return f"medglip-{session.image.source_id[:8]}{suffix}", data


def _agent(loader: AgentLoader) -> AgentLike:
    try:
        return loader.get(_WAIT)
    except NotReadyError as error:
        raise UserError(str(error)) from error
