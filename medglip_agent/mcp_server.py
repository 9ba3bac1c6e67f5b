"""The agent as an MCP server: the tools ground, ask and report over image files below one root folder.

Owns the tools' names, arguments and words; `uploads.read_inside` owns the jail. What a picture or a model
says is handed over as data. Needs the extra `mcp`.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterator
from contextlib import aclosing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

from mcp.server.fastmcp import FastMCP
from mcp.server.fastmcp.exceptions import ToolError
from mcp.types import CallToolResult, TextContent, ToolAnnotations
from pydantic import Field
from starlette.types import ASGIApp

from grounding.probe import Limits
from grounding.types import MedicalImage, Regions, Window
from llm.types import Answer, Report

from . import NOTICE
from .audit import AuditLog
from .citations import cite
from .describe import describe_region
from .exports import Result, models_of, result_to_dict
from .fence import RULE, fence
from .planner import MAX_QUESTION_CHARACTERS
from .redact import place_of
from .report import report_text
from .serve.guard import Guard, names_for
from .serve.lane import JobTimeoutError, Lane, LaneBusyError, LaneFullError, LaneLimits
from .uploads import UploadError, image_from, read_inside

if TYPE_CHECKING:
    from .agent import MedGLIPAgent

MAX_PHRASES: Final = 50
INSTRUCTIONS: Final = (
    "Tools over medical image files (PNG, JPEG, TIFF, DICOM, NIfTI) in one shared folder; name files "
    f"relative to it. Boxes are xyxy in pixels of the original image. {RULE} {NOTICE}"
)

logger = logging.getLogger("medglip.mcp")

PathArgument = Annotated[str, Field(description="image file, relative to the shared folder", max_length=4096)]
Modality = Annotated[
    str | None, Field(description="DICOM code such as CR, CT, MR, US; default: the file's", max_length=4)
]
FrameNumber = Annotated[int | None, Field(description="frame or slice from 0; default: the file's", ge=0)]
GreyWindow = Annotated[
    tuple[float, float] | None,
    Field(description="grey window [center, width] in rescaled units (HU for CT), e.g. [40, 400]"),
]
Phrases = Annotated[
    list[Annotated[str, Field(max_length=200)]],
    Field(
        description="structures to find, e.g. ['left lung', 'heart']", min_length=1, max_length=MAX_PHRASES
    ),
]
Threshold = Annotated[float | None, Field(description="regions below this score are dropped", ge=0, le=1)]
Question = Annotated[
    str, Field(description="one question about the image", max_length=MAX_QUESTION_CHARACTERS)
]


@dataclass(frozen=True)
class View:
    """Which picture of a file: see `grounding.images.ImageSource.render`."""

    modality: str | None
    frame: int | None
    window: tuple[float, float] | None


class Tools:
    """The three tools around one agent and one root folder."""

    def __init__(
        self,
        agent: MedGLIPAgent,
        root: Path,
        *,
        limits: Limits | None = None,
        lane: LaneLimits | None = None,
        audit: AuditLog | None = None,
    ) -> None:
        """Share `root`.

        Args:
            agent: does the work.
            root: only files below it are read, links out of it are refused, nothing is written.
            limits: of each file.
            lane: of the queue.
            audit: the audit log; None = none.

        Raises:
            ValueError: `root` is no folder.
        """
        if not root.is_dir():
            raise ValueError(f"expected a folder with image files, got {root}: give another --root")
        self._agent, self._root, self._limits = agent, root.resolve(), limits or Limits()
        self._models, self._lane, self._audit = models_of(agent), Lane(lane), audit

    async def ground(
        self,
        path: PathArgument,
        phrases: Phrases,
        box_threshold: Threshold = None,
        modality: Modality = None,
        frame: FrameNumber = None,
        window: GreyWindow = None,
    ) -> CallToolResult:
        """Find structures in a medical image: boxes with scores, and what was not found."""

        def work(image: MedicalImage) -> Regions:
            return self._agent.ground(image, phrases, box_threshold=box_threshold)

        return await self._run("ground", path, View(modality, frame, window), work)

    async def ask(
        self,
        path: PathArgument,
        question: Question,
        modality: Modality = None,
        frame: FrameNumber = None,
        window: GreyWindow = None,
    ) -> CallToolResult:
        """Answer a question about a medical image; the answer cites the regions it rests on as [R1]."""

        def work(image: MedicalImage) -> Answer:
            return self._agent.ask(image, question)

        return await self._run("ask", path, View(modality, frame, window), work, question)

    async def report(
        self,
        path: PathArgument,
        modality: Modality = None,
        frame: FrameNumber = None,
        window: GreyWindow = None,
    ) -> CallToolResult:
        """Describe a medical image: findings, each with its regions or marked ungrounded; an impression."""
        return await self._run("report", path, View(modality, frame, window), self._agent.report)

    async def _run(
        self,
        name: str,
        path: str,
        view: View,
        work: Callable[[MedicalImage], Answer | Report | Regions],
        question: str = "",
    ) -> CallToolResult:
        """Queue the work and tell what goes wrong in words of ours."""
        job = partial(self._results, path, view, work, question)
        try:
            async with self._lane.admission(), aclosing(self._lane.run(job)) as results:
                return _told(await anext(results))
        except UploadError as error:
            raise ToolError(str(error)) from None
        except (LaneFullError, LaneBusyError):
            raise ToolError("too many calls are waiting; try again in a while") from None
        except JobTimeoutError:
            raise ToolError("it took too long and was stopped") from None
        except Exception as error:
            logger.error("%s: %s", name, place_of(error))
            raise ToolError("the server failed at this call; its log tells more") from None

    def _results(
        self,
        path: str,
        view: View,
        work: Callable[[MedicalImage], Answer | Report | Regions],
        question: str,
    ) -> Iterator[Result]:
        """Do the work in the models' thread."""
        data = read_inside(self._root, path, self._limits.max_bytes)
        image = image_from(
            data, self._limits, modality=_code(view.modality), frame=view.frame, window=_window(view.window)
        )
        result = Result(image, work(image), self._models, question)
        if self._audit is not None:
            self._audit.answered(result)
        yield result


def _code(modality: str | None) -> str | None:
    if modality is not None and not re.fullmatch(r"[A-Za-z]{2,4}", modality):
        raise UploadError("modality must be a DICOM code such as CR, CT, MR, US")
    return None if modality is None else modality.upper()


def _window(values: tuple[float, float] | None) -> Window | None:
    try:
        return None if values is None else Window(*values)
    except ValueError:
        raise UploadError("window must be [center, width] with a width above 0, e.g. [40, 400]") from None


def _told(result: Result) -> CallToolResult:
    """Words for a model, fenced as data, and the grounded-answer JSON for a program."""
    text = f"{fence(result.kind, _words(result))}\n{NOTICE}"
    return CallToolResult(
        content=[TextContent(type="text", text=text)], structuredContent=result_to_dict(result)
    )


def _words(result: Result) -> str:
    if isinstance(result.content, Report):
        return report_text(result.content)
    lines = [result.content.text] if isinstance(result.content, Answer) else []
    lines += [
        f"{describe_region(region, result.image)} {cite([region.index])} score {region.score:.2f}, box "
        f"({', '.join(f'{float(value):.0f}' for value in region.box)}) px"
        for region in result.regions
    ]
    if isinstance(result.content, Regions) and result.content.missing:
        lines.append(f"Looked for and not found: {', '.join(result.content.missing)}.")
    return "\n".join(lines)


def build_server(tools: Tools, host: str = "127.0.0.1") -> FastMCP:
    """Return the MCP server; `host` is where HTTP will be served, for its check of names."""
    server: FastMCP = FastMCP("medglip", instructions=INSTRUCTIONS, host=host, stateless_http=True)
    reads = ToolAnnotations(readOnlyHint=True, openWorldHint=False)
    for tool in (tools.ground, tools.ask, tools.report):
        server.add_tool(tool, annotations=reads)
    return server


def build_http_app(tools: Tools, host: str, token: str | None) -> ASGIApp:
    """Return the server as an ASGI application with the endpoint /mcp.

    Raises:
        ValueError: other machines reach `host` and there is no token.
    """
    names = names_for(host, token)
    return Guard(build_server(tools, host).streamable_http_app(), token=token, names=names)
