"""The page: widgets, where they stand, and which function each of them calls. No image or model logic."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from html import escape
from pathlib import Path
from typing import Any, Final, ParamSpec, TypeVar

import gradio as gr
from PIL import Image

from grounding.types import MedicalImage

from ..examples import Example
from ..exports import FORMATS
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
from .panels import LIMITS, download_html, header_html, notice_html, status_html, trace_html
from .session import UNKNOWN_MODALITY, Session, caption, modality_choices
from .viewer import picture_html, regions_html

_HERE: Final = Path(__file__).parent
_THUMBNAIL: Final = 224  # pixels
_CACHE_SECONDS: Final = 3600  # gradio's copies of uploads go after this time; ours go with the session
_SESSION_SECONDS: Final = 4 * 3600
_PRIVATE: Final = "private"  # events of the page itself are no endpoints
_ASK_SOMETHING: Final = (
    "### Ask about the picture\nThe answer cites its evidence as R1, R2 … "
    "Point at a citation to see its box light up."
)

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
        "js": (_HERE / "page.js").read_text(encoding="utf-8"),
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


class _Page:
    """Widgets by name, so that event functions can say what they change."""

    def __init__(self, loader: AgentLoader, examples: Sequence[Example]) -> None:
        self.loader = loader
        self.examples = list(examples)
        with gr.Blocks(title="Med-GLIP Agent", delete_cache=(_CACHE_SECONDS, _CACHE_SECONDS)) as self.blocks:
            self.session = gr.State(None, time_to_live=_SESSION_SECONDS)
            self._header()
            self._sources()
            with gr.Row(elem_id="mg-main", equal_height=False):
                with gr.Column(scale=6, min_width=340):
                    self._picture()
                with gr.Column(scale=5, min_width=340):
                    self._chat()
            self._wire()
            self._endpoints()

    # ---- widgets -------------------------------------------------------------------------------------

    def _header(self) -> None:
        with gr.Row(elem_id="mg-header"):
            gr.HTML(header_html(), elem_id="mg-title")
            gr.HTML(notice_html(), elem_id="mg-notice")
            self.status = gr.HTML(status_html(self.loader.status), elem_id="mg-status")

    def _sources(self) -> None:
        with gr.Row(elem_id="mg-sources"):
            self.upload = gr.File(
                label="Open a file", show_label=False, elem_id="mg-upload", height=104, scale=2, min_width=240
            )
            self.gallery = gr.Gallery(
                [(_thumbnail(example), example.title) for example in self.examples],
                label="Examples",
                show_label=False,
                columns=max(1, len(self.examples)),
                rows=1,
                height=104,
                object_fit="cover",
                allow_preview=False,
                buttons=[],
                elem_id="mg-examples",
                scale=7,
                min_width=300,
            )

    def _picture(self) -> None:
        self.picture = gr.HTML(picture_html(None), elem_id="mg-picture")
        self.caption = gr.HTML("", elem_id="mg-caption")
        self.frame = gr.Slider(
            0, 1, value=0, step=1, label="Frame or slice", visible=False, elem_id="mg-frame"
        )
        self.regions = gr.HTML(regions_html(None), elem_id="mg-regions")
        with gr.Row(elem_id="mg-controls"):
            self.min_score = gr.Slider(
                0, 1, value=0, step=0.01, label="Hide boxes below score", elem_id="mg-score", min_width=180
            )
            self.modality = gr.Dropdown(
                modality_choices(),
                value=UNKNOWN_MODALITY,
                label="Kind of image",
                elem_id="mg-kind",
                min_width=160,
            )
            self.box = gr.Textbox(
                label="Marked part (draw it, or x1, y1, x2, y2 in px)",
                placeholder="nothing is marked",
                max_lines=1,
                elem_id="mg-box",
                min_width=180,
            )
            self.window = gr.Dropdown(
                [], label="Grey window", visible=False, elem_id="mg-window", min_width=140
            )

    def _chat(self) -> None:
        self.chat = gr.Chatbot(
            [],
            show_label=False,
            height=430,
            placeholder=_ASK_SOMETHING,
            buttons=[],
            layout="bubble",
            latex_delimiters=[],
            feedback_options=None,
            elem_id="mg-chat",
        )
        self.suggestions = gr.Dataset(
            components=[gr.Textbox(visible=False)],
            samples=[[""]],
            label="Try",
            elem_id="mg-suggestions",
            visible=False,
        )
        self.question = gr.Textbox(
            placeholder="Ask about the picture, or say “show the …”",
            show_label=False,
            submit_btn="Ask",
            max_lines=3,
            autofocus=True,
            elem_id="mg-question",
        )
        with gr.Accordion("Compare with an earlier picture", open=False, elem_id="mg-compare"):
            self.prior = gr.File(label="Earlier picture of the same", elem_id="mg-prior", height=104)
        self.report = gr.Button("Report this picture", size="sm", elem_id="mg-report")
        gr.HTML(f'<p class="mg-limits">{LIMITS}</p>')
        with gr.Accordion("Take the answer away", open=False, elem_id="mg-export"):
            self.format = gr.Dropdown(
                [(_format_words(suffix), suffix) for suffix in FORMATS],
                value=None,
                label="Format",
                elem_id="mg-format",
            )
            self.download = gr.HTML("", elem_id="mg-download")
        with gr.Accordion("Trace: what was done", open=False, elem_id="mg-trace"):
            self.trace = gr.HTML(trace_html(()))

    # ---- events --------------------------------------------------------------------------------------

    def _wire(self) -> None:
        opened = [
            self.upload,
            *self._shown(),
            self.frame,
            self.modality,
            self.window,
            self.suggestions,
            self.chat,
            self.prior,
            self.box,
        ]
        answered = [*self._shown(), self.chat]
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
        self.frame.input(self._on_view, view, self._shown(), trigger_mode="always_last", **quiet)
        for choice in (self.window, self.modality):  # select, since a dropdown's input event comes twice
            choice.select(self._on_view, view, self._shown(), **quiet)
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
            js=(_HERE / "filter.js").read_text(encoding="utf-8"),
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

    def _shown(self) -> list[Any]:
        return [
            self.session,
            self.picture,
            self.caption,
            self.regions,
            self.trace,
            self.format,
            self.download,
        ]

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


def _format_words(suffix: str) -> str:
    form = FORMATS[suffix]
    return f"{form.title}: copies patient and study from your file" if form.identifies else form.title


def _told(act: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> _T:
    """Call `act`; what the user can put right is shown to them as a sentence."""
    try:
        return act(*args, **kwargs)
    except UserError as error:
        raise gr.Error(str(error), title="Sorry", print_exception=False) from error


def _thumbnail(example: Example) -> Image.Image:
    picture = Image.fromarray(MedicalImage.open(example.path).pixels)
    picture.thumbnail((_THUMBNAIL, _THUMBNAIL))
    return picture
