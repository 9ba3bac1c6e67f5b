"""The LangChain tools: words for the model, typed results for the program, bad calls told to the model."""

from __future__ import annotations

from typing import Any

import pytest

from grounding.types import MedicalImage, Regions
from llm.types import Answer, Report
from medglip_agent.agent import MedGLIPAgent
from medglip_agent.compare import Comparison
from medglip_agent.marked import MarkedRegion
from medglip_agent.measure import Measurements
from medglip_agent.modality import ImageModality
from medglip_agent.region_book import RegionBook
from medglip_agent.segmentation import Segmentation
from medglip_agent.tools import make_tools


def bind(agent: MedGLIPAgent, image: MedicalImage, **more: Any) -> Any:
    tools = {tool.name: tool for tool in make_tools(agent, image, **more)}

    def run(name: str, **args: Any) -> Any:
        return tools[name].invoke({"name": name, "args": args, "id": "1", "type": "tool_call"})

    return run


@pytest.fixture
def call(agent: MedGLIPAgent, chest: MedicalImage) -> Any:
    return bind(agent, chest)


def test_ground(call: Any) -> None:
    message = call("ground", phrases=["lungs", "polyp"])
    assert isinstance(message.artifact, Regions)
    first, *_, missing, last = message.content.splitlines()
    assert (first, missing, last) == ('<data from="ground">', "| Not found: polyp.", "</data>")
    assert "Right lung is seen" in message.content
    assert "Box xyxy 110, 20, 190, 180 px, score 0.49 [R2]" in message.content


def test_measure(call: Any) -> None:
    message = call("measure", phrases=["right lung"])
    assert "| right lung [R1]: 80 x 160 px\n| The pixel spacing of this image is unknown" in message.content
    assert isinstance(message.artifact, Measurements)
    apart = call("measure", phrases=["lungs"], distance=True)
    assert "| From [R1] to [R2]: 100 px between centres, 20 px between edges" in apart.content


def test_answer_and_report(call: Any) -> None:
    message = call("answer_question", question="Which lung is more opaque?")
    assert "\n| left [R2].\n" in message.content and isinstance(message.artifact, Answer)
    report = call("write_report")
    assert "\n| Findings:" in report.content and isinstance(report.artifact, Report)


def test_regions_keep_their_number_over_calls(agent: MedGLIPAgent, chest: MedicalImage) -> None:
    book = RegionBook(chest.size)
    call = bind(agent, chest, book=book)
    assert "[R1]" in call("ground", phrases=["left lung"]).content
    content = call("ground", phrases=["right lung", "left lung"]).content
    assert "score 0.81 [R2]" in content and "score 0.49 [R1]" in content
    assert book.regions.phrases == ("left lung", "right lung")


def test_describe_a_box_or_a_known_region(call: Any) -> None:
    message = call("describe_region", box=[10, 20, 50, 180], question="Is it normal?")
    assert isinstance(message.artifact, MarkedRegion)
    assert "It holds 50 % of right lung [R1], which covers 100 % of it." in message.content
    assert 'The language model says of it: "yes"' in message.content
    assert "holds 100 % of right lung [R1]" in call("describe_region", region=1).content


def test_modality(call: Any) -> None:
    message = call("classify_modality")
    assert "stated to be computed radiography (CR)" in message.content
    assert isinstance(message.artifact, ImageModality)


def test_compare_and_segment_are_offered_where_they_can_work(
    agent: MedGLIPAgent, grounder: Any, vlm: Any, segmenter: Any, chest: MedicalImage
) -> None:
    names = {tool.name for tool in make_tools(agent, chest)}
    assert names == {
        "ground", "answer_question", "write_report", "describe_region", "measure", "classify_modality"
    }  # fmt: skip
    call = bind(MedGLIPAgent(grounder, vlm, segmenter=segmenter), chest, prior=chest)
    assert isinstance(call("compare").artifact, Comparison)
    assert isinstance(call("segment", phrases=["lungs"]).artifact, Segmentation)


def test_every_field_says_its_unit_and_frame(
    grounder: Any, vlm: Any, segmenter: Any, chest: MedicalImage
) -> None:
    for tool in make_tools(MedGLIPAgent(grounder, vlm, segmenter=segmenter), chest, prior=chest):
        assert "image" in tool.description
        for name, field in tool.args.items():
            if name not in ("question", "min_score"):
                assert "image" in field["description"] or "without unit" in field["description"], name


@pytest.mark.parametrize(
    ("name", "args", "complaint"),
    [
        ("ground", {"phrases": [" "]}, "expected the name of a structure such as 'left lung', got ' '"),
        ("ground", {"phrases": []}, "phrases: List should have at least 1 item"),
        ("ground", {"phrase": "liver"}, "phrase: Extra inputs are not permitted"),
        ("answer_question", {"question": "?"}, "question: String should match pattern"),
        ("answer_question", {"question": "x" * 2001}, "question: String should have at most 2000"),
        ("describe_region", {}, "expected either box or region"),
        ("describe_region", {"box": [0, 0, 5]}, "box: List should have at least 4 items"),
        ("describe_region", {"box": [500, 0, 600, 9]}, "within 0..200 and y1 \u2039 y2 within 0..240"),
        ("describe_region", {"region": 3}, "number of a known region (none yet: call ground first), got 3"),
        ("measure", {"phrases": ["lungs", "liver"], "distance": True}, "expected two structures"),
    ],
)
def test_a_bad_call_is_told_to_the_model(call: Any, name: str, args: dict[str, Any], complaint: str) -> None:
    message = call(name, **args)
    assert message.status == "error"
    assert complaint in message.content
    assert message.content.startswith('<data from="error">')


def test_our_own_fault_is_raised(agent: MedGLIPAgent, chest: MedicalImage, monkeypatch: Any) -> None:
    monkeypatch.setattr(agent, "ground", lambda image, phrases, box_threshold: 1 / 0)
    ground, *_ = make_tools(agent, chest)
    with pytest.raises(ZeroDivisionError):
        ground.invoke({"phrases": ["liver"]})
