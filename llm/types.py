"""Plain values that cross the border of the language side: prompts in, generations, answers and reports out.

They know neither torch nor any model. The agent fills `Step`s (the trace) and renders what is here.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from grounding.types import MedicalImage, Regions


@dataclass(frozen=True, eq=False)
class Step:
    """One step of a trace.

    Attributes:
        name: What was done, such as ``"ground"``.
        inputs: What went in, plain JSON types only.
        outcome: What came out, in one line.
        seconds: Wall-clock time, at least 0.
    """

    name: str
    inputs: dict[str, Any]
    outcome: str
    seconds: float

    def __post_init__(self) -> None:
        """Check the name and the time."""
        if not self.name:
            raise ValueError("a step needs a name, got an empty one")
        if not self.seconds >= 0.0:
            raise ValueError(f"seconds must be at least 0, got {self.seconds}")


@dataclass(frozen=True, eq=False)
class SpatialPrompt:
    """A question about an image together with the regions found in it.

    Attributes:
        text: The question or instruction, plain text from the user: data, never markup.
        image: The image in full resolution.
        regions: Regions in pixels of `image`; None omits the region block ("boxes none"), while an empty
            `Regions` is said explicitly to the model.
    """

    text: str
    image: MedicalImage
    regions: Regions | None = None

    def __post_init__(self) -> None:
        """Check that the text says something and that the regions belong to an image of this size."""
        if not self.text.strip():
            raise ValueError("the text of a prompt must not be empty; ask a question about the image")
        if self.regions is not None and tuple(self.regions.image_size) != tuple(self.image.size):
            raise ValueError(
                f"regions are of an image of (height, width) {tuple(self.regions.image_size)},"
                f" but the image has {tuple(self.image.size)}; ground this image, or rescale the boxes first"
            )


@dataclass(frozen=True)
class Generation:
    """Text from a language model.

    Attributes:
        text: The decoded reply without control tokens.
        confidence: Geometric mean of the probabilities of the reply's tokens, in [0, 1]; `llm.confidence`
            makes a probability of being right of it.
        margin: Smallest difference of the two largest logits over the reply's tokens: how far the reply was
            from being another one. None where unknown, as from a server.
    """

    text: str
    confidence: float
    margin: float | None = None

    def __post_init__(self) -> None:
        """Check the range of the confidence."""
        _check_confidence(self.confidence)


@dataclass(frozen=True, eq=False)
class Answer:
    """The product's reply to a question.

    Attributes:
        text: What is said to the user.
        regions: The evidence, in pixels of the original image.
        confidence: In [0, 1], None where none was measured.
        abstained: True where the question was not answered; then `reason` says why.
        steps: The trace, in order.
        reason: Why the answer abstains or is limited, may be empty otherwise.
        calibrated: Whether `confidence` is a fitted probability of being right; raw, it only ranks.
    """

    text: str
    regions: Regions
    confidence: float | None
    abstained: bool
    steps: tuple[Step, ...] = ()
    reason: str = ""
    calibrated: bool = False

    def __post_init__(self) -> None:
        """Check the confidence, and that an abstention is explained."""
        if self.confidence is not None:
            _check_confidence(self.confidence)
        if self.abstained and not self.reason:
            raise ValueError("an answer that abstains needs a reason")
        object.__setattr__(self, "steps", tuple(self.steps))


@dataclass(frozen=True)
class Finding:
    """One sentence of a report.

    Attributes:
        sentence: The sentence.
        region_ids: Indices into the report's regions (0-based) that support it.
        grounded: Whether any region supports it.
        conflict: What was found, or not, against it when its claims were looked for again; "" where nothing
            speaks against it.
    """

    sentence: str
    region_ids: tuple[int, ...]
    grounded: bool
    conflict: str = ""

    def __post_init__(self) -> None:
        """Check that a grounded sentence names its regions and an ungrounded one names none."""
        object.__setattr__(self, "region_ids", tuple(int(i) for i in self.region_ids))
        if self.grounded != bool(self.region_ids):
            raise ValueError(
                f"grounded={self.grounded} does not fit region_ids={self.region_ids}; a grounded sentence"
                " names its regions, an ungrounded one names none"
            )


@dataclass(frozen=True, eq=False)
class Report:
    """A report whose sentences point at their evidence.

    Attributes:
        findings: Sentences in order, each in one line, so that none forges another.
        impression: The summary, in one line.
        regions: All regions, in pixels of the original image.
        steps: The trace, in order.
    """

    findings: tuple[Finding, ...]
    impression: str
    regions: Regions
    steps: tuple[Step, ...] = field(default=())

    def __post_init__(self) -> None:
        """Check that every cited region exists."""
        lines = (replace(finding, sentence=" ".join(finding.sentence.split())) for finding in self.findings)
        object.__setattr__(self, "findings", tuple(lines))
        object.__setattr__(self, "impression", " ".join(self.impression.split()))
        object.__setattr__(self, "steps", tuple(self.steps))
        cited = {i for finding in self.findings for i in finding.region_ids}
        wrong = sorted(i for i in cited if not 0 <= i < len(self.regions))
        if wrong:
            raise ValueError(f"findings cite the regions {wrong}, but the report has {len(self.regions)}")


def _check_confidence(confidence: float) -> None:
    """Raise where a confidence lies outside [0, 1] or is not a number."""
    if not 0.0 <= confidence <= 1.0:
        raise ValueError(f"confidence must lie in [0, 1], got {confidence}")
