"""The agent's abilities as LangChain tools over one image, for language models that call tools.

Each returns words for the model (content, fenced as data) and the typed result for the program (artifact). A
bad call of the model comes back to it as a message; faults of ours are raised. The tools read images and
compute: none writes, sends or runs anything.

They fit any agent that takes LangChain tools, such as `langchain.agents.create_agent(model, tools)`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from langchain_core.tools import BaseTool, StructuredTool, ToolException
from pydantic import ValidationError

from grounding.types import MedicalImage, Regions
from llm.types import Answer, Report

from . import tool_schemas as schemas
from .agent import MedGLIPAgent
from .citations import cite
from .compare import Comparison
from .describe import describe_region
from .fence import fence
from .marked import MarkedRegion
from .measure import Measurements, not_found_line
from .modality import ImageModality
from .region_book import RegionBook, renumber
from .report import report_text
from .request import RequestError
from .segmentation import Segmentation


def make_tools(
    agent: MedGLIPAgent,
    image: MedicalImage,
    *,
    prior: MedicalImage | None = None,
    book: RegionBook | None = None,
) -> list[BaseTool]:
    """Return the tools, bound to `image`: `compare` only with a prior image, `segment` only with a segmenter.

    Args:
        agent: does the work.
        image: the current picture.
        prior: an earlier picture of the same.
        book: numbers the regions that the tools find; None for one of its own.
    """
    bound = ImageTools(agent, image, prior, RegionBook(image.size) if book is None else book)
    tools = [
        _tool("ground", bound.ground, schemas.GroundArguments),
        _tool("answer_question", bound.answer_question, schemas.QuestionArguments),
        _tool("write_report", bound.write_report, schemas.NoArguments),
        _tool("describe_region", bound.describe_region, schemas.RegionArguments),
        _tool("measure", bound.measure, schemas.MeasureArguments),
        _tool("classify_modality", bound.classify_modality, schemas.NoArguments),
    ]
    if prior is not None:
        tools.append(_tool("compare", bound.compare, schemas.CompareArguments))
    if agent.segmenter is not None:
        tools.append(_tool("segment", bound.segment, schemas.SegmentArguments))
    return tools


class ImageTools:
    """What the tools do: each method's docstring is what the language model reads about it."""

    def __init__(
        self, agent: MedGLIPAgent, image: MedicalImage, prior: MedicalImage | None, book: RegionBook
    ) -> None:
        """See `make_tools`."""
        self.agent, self.image, self.prior, self.book = agent, image, prior, book

    def ground(self, phrases: Sequence[str], min_score: float | None = None) -> tuple[str, Regions]:
        """Find structures or findings in the current image: each a region [Rn] with place, box and score."""
        regions = self.agent.ground(self.image, phrases, box_threshold=min_score)
        lines = [
            f"{describe_region(r, self.image)} Box xyxy {_box_text(r.box)} px, score {r.score:.2f} "
            f"{cite([r.index])}"
            for r in regions
        ]
        return self._words("ground", "\n".join([*lines, not_found_line(regions)]), regions), regions

    def answer_question(self, question: str) -> tuple[str, Answer]:
        """Ask a small vision model, which sees the current image, one question; it cites regions as [Rn]."""
        answer = self.agent.ask(self.image, question)
        return self._words("answer_question", answer.text, answer.regions), answer

    def write_report(self) -> tuple[str, Report]:
        """Write a short report of the current image: findings with their regions, and an impression."""
        report = self.agent.report(self.image)
        return self._words("write_report", report_text(report), report.regions), report

    def describe_region(
        self, box: Sequence[float] | None = None, region: int | None = None, question: str | None = None
    ) -> tuple[str, MarkedRegion]:
        """Describe a part of the current image: place, size, structures that it overlaps, a short answer."""
        if region is not None and region > len(self.book):
            there = f"1 to {len(self.book)}" if len(self.book) else "none yet: call ground first"
            raise ToolException(f"expected the number of a known region ({there}), got {region}")
        chosen = box if region is None else self.book[region - 1].box
        assert chosen is not None  # the schema asks for one of both
        with _told_to_the_model():
            result = self.agent.describe(self.image, chosen, question=question or "")
        return self._words("describe_region", result.text, result.regions), result

    def measure(self, phrases: Sequence[str], distance: bool = False) -> tuple[str, Measurements]:
        """Measure structures in the current image: width and height of their boxes, distance of two."""
        with _told_to_the_model():
            result = self.agent.measure(self.image, phrases, distance=distance)
        return self._words("measure", result.text, result.regions), result

    def compare(self, phrases: Sequence[str] = ()) -> tuple[str, Comparison]:
        """Compare the current image with the prior one: size, place, what is found in one of them only."""
        assert self.prior is not None  # otherwise the tool is not offered
        result = self.agent.compare(self.image, self.prior, phrases)
        return self._words("compare", result.text, result.regions), result

    def segment(self, phrases: Sequence[str]) -> tuple[str, Segmentation]:
        """Outline structures in the current image with masks, and give their areas."""
        result = self.agent.segment(self.image, phrases)
        return self._words("segment", result.text, result.regions), result

    def classify_modality(self) -> tuple[str, ImageModality]:
        """Tell what kind of image the current one is (X-ray, CT ...), and from where that is known."""
        result = self.agent.modality(self.image)
        return fence("classify_modality", result.text), result

    def _words(self, source: str, text: str, regions: Regions) -> str:
        """The text with the conversation's numbers for the regions, as data."""
        return fence(source, renumber(text, self.book.add(regions)).strip())


def _tool(name: str, function: Callable[..., tuple[str, Any]], schema: type[schemas.Arguments]) -> BaseTool:
    def told(error: Exception) -> str:
        return fence("error", _complaint(error))

    return StructuredTool.from_function(
        func=function,
        name=name,
        description=function.__doc__,
        args_schema=schema,
        response_format="content_and_artifact",
        handle_tool_error=told,
        handle_validation_error=told,
    )


@contextmanager
def _told_to_the_model() -> Iterator[None]:
    """Turn what was asked wrongly into a message for the model that asked."""
    try:
        yield
    except RequestError as error:
        raise ToolException(str(error)) from error


def _complaint(error: Exception) -> str:
    """What was wrong with a call: one line a field."""
    if not isinstance(error, ValidationError):
        return str(error)
    lines = (
        f"{'.'.join(map(str, item['loc'])) or 'arguments'}: {item['msg']}"
        for item in error.errors(include_url=False, include_context=False)
    )
    return "The call does not fit. " + "; ".join(lines)


def _box_text(box: Any) -> str:
    """x1, y1, x2, y2 in whole pixels of the original image."""
    return ", ".join(str(round(float(side))) for side in box)
