"""What is asked of the agent at once, and what comes back bit by bit. Values only."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from grounding.types import MedicalImage
from llm.types import Answer, Step

Box = npt.NDArray[np.float32]
"""(4,) xyxy, pixels of the original image."""

Events = Generator[Step | str, None, Answer]
"""Finished steps and pieces of the language model's text as they come; the answer is returned."""


class RequestError(ValueError):
    """Whoever asked, asked wrongly: the message says what was expected, and may be told to them."""


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
