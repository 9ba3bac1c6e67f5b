"""The page's widgets and where they stand. What happens when they are used is `layout.py`'s."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import gradio as gr
from PIL import Image

from grounding.types import MedicalImage

from ..examples import Example
from ..exports import FORMATS
from .loading import LoadStatus
from .panels import LIMITS, header_html, notice_html, status_html, trace_html
from .session import UNKNOWN_MODALITY, modality_choices
from .viewer import picture_html, regions_html

_THUMBNAIL: Final = 224  # pixels
_SESSION_SECONDS: Final = 4 * 3600
_ASK_SOMETHING: Final = (
    "### Ask about the picture\nThe answer cites its evidence as R1, R2 … "
    "Point at a citation to see its box light up."
)


class Widgets:
    """Every widget by name; made inside a `gr.Blocks`."""

    def __init__(self, status: LoadStatus, examples: Sequence[Example]) -> None:
        """Put them on the page, with the state of the models and pictures to click."""
        self.session = gr.State(None, time_to_live=_SESSION_SECONDS)
        self._header(status)
        self._sources(examples)
        with gr.Row(elem_id="mg-main", equal_height=False):
            with gr.Column(scale=6, min_width=340):
                self._picture()
            with gr.Column(scale=5, min_width=340):
                self._chat()

    def shown(self) -> list[Any]:
        """Return what changes with the picture on show."""
        return [
            self.session,
            self.picture,
            self.caption,
            self.regions,
            self.trace,
            self.format,
            self.download,
        ]

    def _header(self, status: LoadStatus) -> None:
        with gr.Row(elem_id="mg-header"):
            gr.HTML(header_html(), elem_id="mg-title")
            gr.HTML(notice_html(), elem_id="mg-notice")
            self.status = gr.HTML(status_html(status), elem_id="mg-status")

    def _sources(self, examples: Sequence[Example]) -> None:
        with gr.Row(elem_id="mg-sources"):
            self.upload = gr.File(
                label="Open a file", show_label=False, elem_id="mg-upload", height=104, scale=2, min_width=240
            )
            self.gallery = gr.Gallery(
                [(_thumbnail(example), example.title) for example in examples],
                label="Examples",
                show_label=False,
                columns=max(1, len(examples)),
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
        with gr.Row(elem_id="mg-history"):
            self.past = gr.Dropdown(
                [],
                value=None,
                label="Conversations, kept in this browser only",
                elem_id="mg-past",
                scale=6,
                min_width=160,
            )
            self.new = gr.Button("New", size="sm", elem_id="mg-new", min_width=60)
            self.delete = gr.Button("Delete", size="sm", elem_id="mg-delete", min_width=70)
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


def _format_words(suffix: str) -> str:
    form = FORMATS[suffix]
    return f"{form.title}: copies patient and study from your file" if form.identifies else form.title


def _thumbnail(example: Example) -> Image.Image:
    picture = Image.fromarray(MedicalImage.open(example.path).pixels)
    picture.thumbnail((_THUMBNAIL, _THUMBNAIL))
    return picture
