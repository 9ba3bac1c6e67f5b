"""The LangChain tools: words for the model, typed results for the program, bad calls told to the model."""

from __future__ import annotations

from typing import Any

import pytest

from grounding.types import MedicalImage, PixelSpacing, Regions
from llm.types import Answer, Report
from medglip_agent.agent import MedGLIPAgent
from medglip_agent.tools import make_tools


@pytest.fixture
def call(agent: MedGLIPAgent, chest: MedicalImage) -> Any:
    tools = {tool.name: tool for tool in make_tools(agent, chest)}

    def run(name: str, **args: Any) -> Any:
        return tools[name].invoke({"name": name, "args": args, "id": "1", "type": "tool_call"})

    return run


def test_ground(call: Any) -> None:
    message = call("ground", phrases=["lungs", "polyp"])
    assert isinstance(message.artifact, Regions)
    assert "Right lung is seen" in message.content and "[R2]" in message.content
    assert message.content.endswith("Not found: polyp.")


def test_measure_in_pixels_says_so(call: Any) -> None:
    message = call("measure", phrase="right lung")
    assert message.content == (
        "right lung [R1]: 80 x 160 px\nThe pixel spacing of this image is unknown: sizes are in pixels."
    )


def test_measure_in_mm(agent: MedGLIPAgent, chest: MedicalImage) -> None:
    spaced = MedicalImage(chest.pixels, "CR", spacing=PixelSpacing(0.5, 0.25, "pixel"))
    *_, measure = make_tools(agent, spaced)
    assert measure.invoke({"phrase": "right lung"}) == "right lung [R1]: 20 x 80 mm"


def test_answer_and_report(call: Any) -> None:
    message = call("answer_question", question="Which lung is more opaque?")
    assert message.content == "left [R2]." and isinstance(message.artifact, Answer)
    report = call("write_report")
    assert report.content.startswith("Findings:") and isinstance(report.artifact, Report)


def test_a_bad_call_is_told_to_the_model(call: Any) -> None:
    assert "expected at least one phrase" in call("ground", phrases=[" "]).content
    assert "expected a question of 1 to 2000 characters" in call("answer_question", question="").content
    wrong = call("ground", phrase="liver")
    assert wrong.status == "error"


def test_our_own_fault_is_raised(agent: MedGLIPAgent, chest: MedicalImage, monkeypatch: Any) -> None:
    monkeypatch.setattr(agent, "ground", lambda image, phrases: 1 / 0)
    ground, *_ = make_tools(agent, chest)
    with pytest.raises(ZeroDivisionError):
        ground.invoke({"phrases": ["liver"]})
