"""The page: which function each of its widgets calls (`widgets.py` says where they stand). No model logic."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from html import escape
from pathlib import Path
from typing import Any, Final, ParamSpec, TypeVar

import gradio as gr

from ..examples import Example
from .events import (
    UPLOADS,
    Message,
    Turn,
    UserError,
    answer_question,
    ask_file,
    export_answer,
    ground_file,
    open_example,
    open_upload,
    report_picture,
    show_view,
)
from .loading import AgentLoader
from .panels import PAST, download_html, status_html, trace_html
from .session import UNKNOWN_MODALITY, Session, caption, new_conversation
from .viewer import picture_html, regions_html
from .widgets import Widgets

_HERE: Final = Path(__file__).parent
_CACHE_SECONDS: Final = 3600  # gradio's copies of uploads go after this time; ours go with the session
_FAULT: Final = "This failed, and not by your doing. The app's log tells where."
_PRIVATE: Final = "private"  # events of the page itself are no endpoints

_LOG = logging.getLogger(__name__)

_P = ParamSpec("_P")
_T = TypeVar("_T")


def launch_options() -> dict[str, Any]:
    """Return what `Blocks.launch` needs for this page's look and safety."""
    return {
        "theme": gr.themes.Base(
            primary_hue=gr.themes.colors.teal,
            neutral_hue=gr.themes.colors.slate,
            radius_size=gr.themes.sizes.radius_md,
            font=["system-ui", "Segoe UI", "Roboto", "sans-serif"],
            font_mono=["ui-monospace", "Consolas", "monospace"],
        ),
        "css_paths": _HERE / "style.css",
        "js": _script("page.js"),
        "max_file_size": UPLOADS.max_bytes,
        "share": False,
        "quiet": True,
        "footer_links": ["api"],
    }


def build_page(loader: AgentLoader, examples: Sequence[Example]) -> gr.Blocks:
    """Return the page.

    Args:
        loader: holds the agent; it may still be loading.
        examples: pictures that open at a click, the first one at the start.
    """
    return _Page(loader, examples).blocks


class _Page(Widgets):
    """The widgets, and what each of them does."""

    def __init__(self, loader: AgentLoader, examples: Sequence[Example]) -> None:
        self.loader = loader
        self.examples = list(examples)
        with gr.Blocks(title="Med-GLIP Agent", delete_cache=(_CACHE_SECONDS, _CACHE_SECONDS)) as self.blocks:
            super().__init__(loader.status, self.examples)
            self._wire()
            self._endpoints()

    def _wire(self) -> None:
        opened = [
            self.upload,
            *self.shown(),
            self.frame,
            self.modality,
            self.window,
            self.suggestions,
            self.chat,
            self.prior,
            self.box,
        ]
        answered = [*self.shown(), self.chat]
        asked = {
            "fn": self._on_ask,
            "inputs": [self.session, self.question, self.chat, self.min_score, self.prior, self.box],
            "outputs": [self.question, *answered],
            "show_progress": "hidden",
            "concurrency_limit": 4,
            "api_visibility": _PRIVATE,
        }
        asking = self.question.submit(**asked)
        suggesting = self.suggestions.click(
            lambda sample: sample[0],
            self.suggestions,
            self.question,
            show_progress="hidden",
            api_visibility=_PRIVATE,
        ).then(**asked)
        reporting = self.report.click(
            self._on_report,
            [self.session, self.chat, self.min_score],
            answered,
            show_progress="hidden",
            concurrency_limit=4,
            api_visibility=_PRIVATE,
        )
        running = [asking, suggesting, reporting]
        quiet = {"show_progress": "hidden", "cancels": running, "api_visibility": _PRIVATE}
        self.upload.upload(self._on_upload, self.upload, opened, **quiet)
        self.gallery.select(self._on_example, None, opened, **quiet)
        view = [self.session, self.frame, self.window, self.modality]
        self.frame.input(self._on_view, view, self.shown(), trigger_mode="always_last", **quiet)
        for choice in (self.window, self.modality):  # select, since a dropdown's input event comes twice
            choice.select(self._on_view, view, self.shown(), **quiet)
        self._wire_history(quiet)
        self.format.select(
            self._on_export,
            [self.session, self.format],
            self.download,
            show_progress="minimal",
            api_visibility=_PRIVATE,
        )
        self.min_score.change(
            None,
            self.min_score,
            None,
            js=_script("filter.js"),
            api_visibility=_PRIVATE,
        )
        if self.examples:
            self.blocks.load(
                partial(self._opened_example, 0),
                None,
                opened,
                show_progress="hidden",
                api_visibility=_PRIVATE,
            )
        timer = gr.Timer(1.0)
        timer.tick(self._on_tick, None, [self.status, timer], show_progress="hidden", api_visibility=_PRIVATE)

    def _wire_history(self, quiet: dict[str, Any]) -> None:
        """The browser keeps the conversations (`history.js`); the server only changes what is on show."""

        def in_browser(event: Callable[..., Any], act: str, inputs: Any, outputs: Any) -> Any:
            return event(None, inputs, outputs, js=act, api_visibility=_PRIVATE)

        in_browser(self.blocks.load, _script("history.js"), None, self.past)
        in_browser(self.chat.change, "(chat) => window.medglipHistory?.keep(chat)", self.chat, self.past)
        closed = [*self.shown(), self.frame, self.window, self.suggestions, self.prior, self.box]
        opening = self.past.select(self._on_past, None, closed, **quiet)
        in_browser(opening.then, "(id) => window.medglipHistory.open(id)", self.past, self.chat)
        emptied = [*self.shown(), self.chat, self.box]
        self.new.click(self._on_new, self.session, emptied, **quiet)
        deleting = in_browser(self.delete.click, "(id) => window.medglipHistory.remove(id)", self.past, None)
        deleting.then(self._on_new, self.session, emptied, **quiet)

    def _on_past(self) -> dict[Any, Any]:
        """Close the picture: the conversation that comes was about another."""
        return {
            **self._nothing(),
            self.caption: PAST,
            self.frame: gr.Slider(visible=False),
            self.window: gr.Dropdown(visible=False),
            self.suggestions: gr.Dataset(visible=False),
            self.prior: None,
            self.box: "",
        }

    def _on_new(self, session: Session | None) -> dict[Any, Any]:
        view = self._nothing() if session is None else self._view(new_conversation(session), 0.0)
        return {**view, self.chat: [], self.box: ""}

    def _on_upload(self, path: str | None) -> dict[Any, Any]:
        return self._opened(_told(open_upload, path), ("What is shown in this image?", "What organ is seen?"))

    def _on_example(self, event: gr.SelectData) -> dict[Any, Any]:
        return self._opened_example(int(event.index))

    def _opened_example(self, index: int) -> dict[Any, Any]:
        example = self.examples[index]
        return self._opened(_told(open_example, example), example.questions)

    def _opened(self, session: Session, questions: Sequence[str]) -> dict[Any, Any]:
        count = session.frame_count
        return {
            **self._view(session, 0.0),
            self.upload: None,
            self.frame: gr.Slider(1, max(2, count), value=session.frame + 1, step=1, visible=count > 1),
            self.modality: session.modality or UNKNOWN_MODALITY,
            self.window: gr.Dropdown(
                session.windows,
                value=session.window if session.windows else None,
                visible=bool(session.windows),
            ),
            self.suggestions: gr.Dataset(samples=[[question] for question in questions], visible=True),
            self.chat: [],
            self.prior: None,
            self.box: "",
        }

    def _on_view(self, session: Session | None, frame: int, window: str, modality: str) -> dict[Any, Any]:
        if session is None:
            return {self.session: None}
        return self._view(_told(show_view, session, int(frame) - 1, window, modality), 0.0)

    def _on_ask(
        self,
        session: Session | None,
        question: str,
        messages: list[Message],
        min_score: float,
        prior: str | None,
        box: str,
    ) -> Iterator[dict[Any, Any]]:
        turns = answer_question(self.loader, session, question, messages, prior=prior, box=box)
        for update in self._turns(turns, min_score):
            yield {**update, self.question: ""}

    def _on_report(
        self, session: Session | None, messages: list[Message], min_score: float
    ) -> Iterator[dict[Any, Any]]:
        yield from self._turns(report_picture(self.loader, session, messages), min_score)

    def _turns(self, turns: Iterator[Turn], min_score: float) -> Iterator[dict[Any, Any]]:
        """What changes on the page; the picture only when its regions do."""
        drawn: Any = None
        while (turn := _told(next, turns, None)) is not None:
            update: dict[Any, Any] = {self.chat: turn.messages, self.trace: trace_html(turn.steps)}
            if turn.session.regions is not drawn or drawn is None:
                update |= self._view(turn.session, min_score)
                update[self.trace] = trace_html(turn.steps)
                drawn = turn.session.regions or turn.session
            yield update

    def _view(self, session: Session, min_score: float) -> dict[Any, Any]:
        regions, cited = session.regions, session.cited
        return {
            self.session: session,
            self.picture: picture_html(
                session.image, regions, cited=cited, min_score=min_score, marked=session.box
            ),
            self.caption: escape(caption(session)),
            self.regions: regions_html(regions, cited=cited, min_score=min_score),
            self.trace: trace_html(()),
            self.format: None,
            self.download: "",
        }

    def _nothing(self) -> dict[Any, Any]:
        return {
            self.session: None,
            self.picture: picture_html(None),
            self.caption: "",
            self.regions: regions_html(None),
            self.trace: trace_html(()),
            self.format: None,
            self.download: "",
        }

    def _on_export(self, session: Session | None, suffix: str) -> str:
        return download_html(*_told(export_answer, self.loader, session, suffix))

    def _on_tick(self) -> tuple[str, gr.Timer]:
        status = self.loader.status
        return status_html(status), gr.Timer(active=status.state == "loading")

    # ---- endpoints -----------------------------------------------------------------------------------

    def _endpoints(self) -> None:
        """Offer /ground and /ask to `gradio_client`, with regions as JSON."""
        with gr.Group(visible=False):
            file, phrases = gr.File(label="image"), gr.JSON(label="phrases")
            score, kind = gr.Number(0.0, label="min_score"), gr.Textbox("", label="modality")
            question, result, button = gr.Textbox(label="question"), gr.JSON(label="result"), gr.Button()
        ground, ask = partial(ground_file, self.loader), partial(ask_file, self.loader)
        button.click(
            partial(_told, ground),
            [file, phrases, score, kind],
            result,
            api_name="ground",
            api_description=ground_file.__doc__,
        )
        button.click(
            partial(_told, ask),
            [file, question, kind],
            result,
            api_name="ask",
            api_description=ask_file.__doc__,
        )


def _script(name: str) -> str:
    return (_HERE / name).read_text(encoding="utf-8")


def _told(act: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> _T:
    """Call `act`; what the user can put right is told in a sentence, a fault of ours goes to the log."""
    try:
        return act(*args, **kwargs)
    except UserError as error:
        raise gr.Error(str(error), title="Sorry", print_exception=False) from error
    except Exception as error:
        _LOG.exception("a fault on the page")
        raise gr.Error(_FAULT, title="Sorry", print_exception=False) from error
