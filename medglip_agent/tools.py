"""The agent's abilities as LangChain tools over one image, for planners that call tools.

Each returns words for the model (content) and the typed result for the program (artifact). A bad call of the
model comes back to it as a message; faults of ours are raised.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from grounding.types import MedicalImage, Regions
from llm.types import Answer, Report

from .citations import cite
from .describe import describe_region, measure_region
from .planner import MAX_QUESTION_CHARACTERS
from .report import report_text

if TYPE_CHECKING:
    from langchain_core.tools import BaseTool

    from .agent import MedGLIPAgent


def make_tools(agent: MedGLIPAgent, image: MedicalImage) -> list[BaseTool]:
    """Return the tools ground, answer_question, write_report and measure, bound to `image`."""
    from langchain_core.tools import ToolException, tool

    def regions_of(phrases: list[str]) -> Regions:
        if not any(phrase.strip() for phrase in phrases):
            raise ToolException(
                "expected at least one phrase such as 'left lung', got none: name a structure"
            )
        return agent.ground(image, phrases)

    @tool(response_format="content_and_artifact")
    def ground(phrases: list[str]) -> tuple[str, Regions]:
        """Find structures in the image. Give short phrases such as 'left lung' or 'polyp'."""
        regions = regions_of(phrases)
        lines = [f"{describe_region(region, image)} {cite([region.index])}" for region in regions]
        return _with_missing(lines, regions), regions

    @tool(response_format="content_and_artifact")
    def measure(phrase: str) -> tuple[str, Regions]:
        """Measure a structure in the image: width and height of its box, in mm where the spacing is known."""
        regions = regions_of([phrase])
        lines = [f"{r.phrase} {cite([r.index])}: {measure_region(r, image)}" for r in regions]
        if lines and image.spacing is None:
            lines.append("The pixel spacing of this image is unknown: sizes are in pixels.")
        return _with_missing(lines, regions), regions

    @tool(response_format="content_and_artifact")
    def answer_question(question: str) -> tuple[str, Answer]:
        """Answer one question about the image; the answer cites regions as [R1]."""
        if not question.strip() or len(question) > MAX_QUESTION_CHARACTERS:
            raise ToolException(
                f"expected a question of 1 to {MAX_QUESTION_CHARACTERS} characters, got {len(question)}: "
                "rephrase it"
            )
        answer = agent.ask(image, question)
        return answer.text, answer

    @tool(response_format="content_and_artifact")
    def write_report() -> tuple[str, Report]:
        """Write a short report of the image: findings with regions, impression."""
        report = agent.report(image)
        return report_text(report), report

    tools: list[BaseTool] = [ground, answer_question, write_report, measure]
    for each in tools:
        each.handle_tool_error = True
        each.handle_validation_error = True
    return tools


def _with_missing(lines: list[str], regions: Regions) -> str:
    missing = [f"Not found: {', '.join(regions.missing)}."] if regions.missing else []
    return "\n".join([*lines, *missing])
