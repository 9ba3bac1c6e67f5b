"""What a language model may hand to the tools: each field says its unit and its coordinate frame.

A call that does not fit is told to the model with what was expected. Knows no agent and no image.
"""

from __future__ import annotations

from typing import Annotated, Final

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from .planner import MAX_QUESTION_CHARACTERS

_MOST_PHRASES: Final = 20


def _has_letters(phrase: str) -> str:
    if not any(character.isalpha() for character in phrase):
        raise ValueError(f"expected the name of a structure such as 'left lung', got {phrase!r}")
    return phrase


Phrase = Annotated[str, Field(max_length=100), AfterValidator(_has_letters)]
Phrases = Annotated[list[Phrase], Field(max_length=_MOST_PHRASES)]
Question = Annotated[str, Field(min_length=1, max_length=MAX_QUESTION_CHARACTERS, pattern=r"\w")]


class Arguments(BaseModel):
    """Base of all: an unknown field is an error."""

    model_config = ConfigDict(extra="forbid")


class NoArguments(Arguments):
    """For tools that look at the whole current image."""


class GroundArguments(Arguments):
    """Of `ground`."""

    phrases: Phrases = Field(
        min_length=1,
        description="Names of structures or findings, plain words without unit: 'left lung', 'polyp'.",
    )
    min_score: float | None = Field(
        None,
        ge=0.0,
        le=1.0,
        description="Lowest detector score kept: a number without unit in [0, 1]; leave out for the default.",
    )


class QuestionArguments(Arguments):
    """Of `answer_question`."""

    question: Question = Field(
        description="One short question about the current image, plain words, no unit."
    )


class RegionArguments(Arguments):
    """Of `describe_region`: a box or the number of a region."""

    box: Annotated[list[float], Field(min_length=4, max_length=4)] | None = Field(
        None,
        description="[x1, y1, x2, y2]: left, top, right and bottom edge in pixels of the original current "
        "image, origin at its top left, x to the right, y down. Give either box or region.",
    )
    region: int | None = Field(
        None,
        ge=1,
        description="Number n (no unit) of a region of the current image that was shown as [Rn].",
    )
    question: Question | None = Field(
        None, description="What to ask about this part of the current image, plain words; may be left out."
    )

    @model_validator(mode="after")
    def _one_of_both(self) -> RegionArguments:
        if (self.box is None) == (self.region is None):
            raise ValueError("expected either box or region, got both or none: give exactly one")
        return self


class MeasureArguments(Arguments):
    """Of `measure`."""

    phrases: Phrases = Field(
        min_length=1,
        description="Names of structures in the current image, plain words. Their boxes are measured: in mm "
        "where the pixel spacing is known, else in pixels of the original image; the result says which.",
    )
    distance: bool = Field(
        False,
        description="True to measure also between exactly two named structures of the current image, centre "
        "to centre and edge to edge, in the same unit.",
    )


class CompareArguments(Arguments):
    """Of `compare`."""

    phrases: Phrases = Field(
        default_factory=list,
        description="Names of structures to compare between the prior and the current image, plain words; "
        "empty for all that is known. Sizes are compared in mm where both spacings are known, else in "
        "percent of the picture; places in percent of the picture's width (right) and height (down).",
    )


class SegmentArguments(Arguments):
    """Of `segment`."""

    phrases: Phrases = Field(
        min_length=1,
        description="Names of structures in the current image to outline, plain words. Masks are of the "
        "original image; areas in mm2 where the pixel spacing is known, else in pixels.",
    )
