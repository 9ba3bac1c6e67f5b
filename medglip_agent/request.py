"""What is asked of the agent at once, what was asked before, and what comes back bit by bit. Values only."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from grounding.types import MedicalImage, Window
from llm.types import Answer, Step

from .planner import NO_TURNS, Conversation

Box = npt.NDArray[np.float32]
"""(4,) xyxy, pixels of the original image."""

Events = Generator[Step | str, None, Answer]
"""Finished steps and pieces of the language model's text as they come; the answer is returned."""


class RequestError(ValueError):
    """Whoever asked, asked wrongly: the message says what was expected, and may be told to them."""


def parse_box(text: str) -> tuple[float, float, float, float]:
    """Return the corners that "x1, y1, x2, y2" names, in pixels of the image.

    Raises:
        RequestError: `text` is not four numbers.
    """
    try:
        x1, y1, x2, y2 = (float(part) for part in text.split(","))
    except ValueError:
        raise RequestError(f"a box must be X1,Y1,X2,Y2 such as 10,20,90,180, got {text!r}") from None
    return x1, y1, x2, y2


def parse_window(text: str) -> Window:
    """Return the grey window that "CENTER,WIDTH" names, in rescaled units, e.g. "40,400".

    Raises:
        RequestError: `text` is not two numbers with a width above 0.
    """
    try:
        center, width = (float(part) for part in text.split(","))
        return Window(center, width)
    except ValueError:
        raise RequestError(
            f"a window must be CENTER,WIDTH such as 40,400, the width above 0, got {text!r}"
        ) from None


@dataclass
class Dialogue:
    """What was asked about one picture so far: kept by the caller, one a session.

    Attributes:
        image_id: hash of the picture's pixels; empty before the first question.
        asked: the questions.
    """

    image_id: str = ""
    asked: Conversation = NO_TURNS

    def about(self, image: MedicalImage) -> Conversation:
        """Return what was asked about `image`; another picture than before starts anew."""
        if self.image_id != image.source_id:
            self.image_id, self.asked = image.source_id, NO_TURNS
        return self.asked

    def add(self, question: str) -> None:
        """Keep a question."""
        self.asked = self.asked.then(question)


@dataclass(frozen=True, eq=False)
class Request:
    """One question with all that belongs to it.

    Attributes:
        image: the picture it is about.
        question: text from the user: data, never markup.
        prior: an earlier picture of the same, for comparing; None = none is given.
        box: what the user has marked in `image`; None = nothing.
        streaming: whether pieces of text are wanted as they come.
    """

    image: MedicalImage
    question: str
    prior: MedicalImage | None = None
    box: Box | None = None
    streaming: bool = False
