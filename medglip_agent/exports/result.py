"""What is exported: the picture, what was found or said about it, by which models, when. Knows no format.

No patient identifier is among it: an image is named by the hash of its pixels. `SourceFrame` says where the
picture was read; only the DICOM SR opens it, and no path is ever written.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from grounding.types import MedicalImage, Regions
from llm.types import Answer, Finding, Report, Step

from ..citations import cited_regions
from .provenance import Model

Kind = Literal["answer", "report", "grounding"]


class ExportError(ValueError):
    """What cannot be exported or read back; the message says what was expected and what to do."""


@dataclass(frozen=True)
class SourceFrame:
    """The file that a picture was read from, named again by the caller at export time.

    Attributes:
        path: the file.
        frame: which frame of it, from 0; None = its default, as `MedicalImage.open` takes it.
    """

    path: Path
    frame: int | None = None


@dataclass(frozen=True, eq=False)
class Result:
    """One thing to export.

    Args:
        image: the picture.
        content: what was answered, reported or found; boxes xyxy in pixels of `image`.
        models: who did it; see `models_of`.
        question: what was asked, for an answer.
        source: where the picture was read; only the DICOM SR needs it.
        created: when, with a time zone.

    Raises:
        ValueError: the regions are those of an image of another size, or the time has no zone.
    """

    image: MedicalImage
    content: Answer | Report | Regions
    models: tuple[Model, ...] = ()
    question: str = ""
    source: SourceFrame | None = None
    created: datetime = field(default_factory=lambda: datetime.now(UTC).replace(microsecond=0))

    def __post_init__(self) -> None:
        """Check that picture and regions belong together, and that the time is a moment everywhere."""
        if self.regions.image_size != self.image.size:
            raise ValueError(
                f"regions are of an image of (height, width) {self.regions.image_size}, got one of "
                f"{self.image.size}: export them with the image they were found in"
            )
        if self.created.tzinfo is None:
            raise ValueError(f"created must have a time zone, got {self.created}; use datetime.now(UTC)")

    @property
    def kind(self) -> Kind:
        """What `content` is."""
        if isinstance(self.content, Answer):
            return "answer"
        return "report" if isinstance(self.content, Report) else "grounding"

    @property
    def regions(self) -> Regions:
        """All regions, in pixels of the image."""
        return self.content if isinstance(self.content, Regions) else self.content.regions

    @property
    def steps(self) -> tuple[Step, ...]:
        """The trace, in order; a model that was loaded from a folder is named without its path."""
        steps = () if isinstance(self.content, Regions) else self.content.steps
        return tuple(replace(step, inputs=_without_paths(step.inputs)) for step in steps)

    @property
    def statements(self) -> tuple[Finding, ...]:
        """What is said, each sentence with its regions (0-based); nothing where only regions were asked."""
        if isinstance(self.content, Report):
            return self.content.findings
        if isinstance(self.content, Answer):
            cited = () if self.content.abstained else cited_regions(self.content.text)
            known = tuple(index for index in cited if index < len(self.regions))
            return (Finding(self.content.text, known, bool(known)),)
        return ()

    @property
    def cited(self) -> tuple[int, ...]:
        """The regions (0-based) that a statement rests on, each once."""
        return tuple(dict.fromkeys(index for item in self.statements for index in item.region_ids))

    @property
    def title(self) -> str:
        """A heading: the question, or what this is."""
        return (
            self.question.strip()
            or {"answer": "Answer", "report": "Report", "grounding": "Regions"}[self.kind]
        )


def _without_paths(inputs: dict[str, Any]) -> dict[str, Any]:
    return {
        key: Path(value).name if key in ("grounder", "vlm", "segmenter") else value
        for key, value in inputs.items()
    }
