"""Every export carries the notice and the models, and no path."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from grounding.types import MedicalImage
from medglip_agent import NOTICE
from medglip_agent.agent import MedGLIPAgent
from medglip_agent.exports import answer_to_dict, grounding_to_dict, report_to_dict, save_annotated


def test_answer(agent: MedGLIPAgent, chest: MedicalImage) -> None:
    question = "Which lung is more opaque?"
    data = answer_to_dict(agent.ask(chest, question), chest, question, agent.models)
    assert json.loads(json.dumps(data)) == data
    assert data["notice"] == NOTICE and data["schema"] == "medglip.grounded-answer/0"
    assert data["models"] == {"grounder": "fake-grounder", "vlm": "fake-vlm"}
    assert data["image"]["source_id"] == chest.source_id
    assert data["answer"]["citations"] == [2]
    left_lung = {"id": "R2", "label": "left lung", "score": 0.49, "box_xyxy": [110.0, 20.0, 190.0, 180.0]}
    assert data["regions"][1] == left_lung
    assert [step["name"] for step in data["steps"]][-1] == "citation"


def test_report_and_grounding(agent: MedGLIPAgent, chest: MedicalImage) -> None:
    report = report_to_dict(agent.report(chest), chest, agent.models)
    assert json.loads(json.dumps(report)) == report
    assert report["notice"] == NOTICE and report["findings"][0]["regions"] == [1]
    found = grounding_to_dict(agent.ground(chest, ["lungs", "polyp"]), chest, agent.models)
    assert found["notice"] == NOTICE and found["missing"] == ["polyp"]


def test_picture(agent: MedGLIPAgent, chest: MedicalImage, tmp_path: Path) -> None:
    path = tmp_path / "out" / "chest.png"
    save_annotated(path, chest, agent.ground(chest, ["lungs"]), agent.models)
    with Image.open(path) as picture:
        assert picture.text["Disclaimer"] == NOTICE  # type: ignore[attr-defined]
        assert "fake-grounder" in picture.text["Software"]  # type: ignore[attr-defined]
        assert picture.width == 400 and picture.height > 480  # enlarged twice, and a footer
    with pytest.raises(ValueError, match=r"ending in \.png, got 'x\.jpg'"):
        save_annotated(tmp_path / "x.jpg", chest, agent.ground(chest, ["lungs"]), agent.models)
