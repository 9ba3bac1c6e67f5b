"""What a confidence is called depends on the models at hand, and is the same wherever it is shown."""

from __future__ import annotations

import math
from typing import Any

import pytest

from grounding.types import MedicalImage
from llm.confidence import Calibration, Certainty
from medglip_agent.agent import MedGLIPAgent
from medglip_agent.confidence import confidence_note, confidence_text
from medglip_agent.exports import FORMATS, Result, models_of, result_to_dict
from medglip_agent.web.panels import answer_markdown

QUESTION = "Which lung is more opaque?"
HALVED = Calibration(1.0, -math.log(2))  # halves the odds: 0.64 -> 0.47


def everywhere(agent: MedGLIPAgent, image: MedicalImage, question: str) -> list[str]:
    """How the page and the exports show an answer."""
    answer = agent.ask(image, question)
    result = Result(image, answer, models_of(agent), question)
    pages = [FORMATS[suffix].encode(result).decode().replace("\\", "") for suffix in (".md", ".html")]
    return [answer_markdown(answer), *pages]


@pytest.mark.parametrize(
    ("calibration", "said"), [(None, "0.56 (uncalibrated)"), (HALVED, "0.47 (calibrated)")]
)
def test_an_answer_is_called_what_the_language_model_makes_it(
    agent: MedGLIPAgent, vlm: Any, chest: MedicalImage, calibration: Calibration | None, said: str
) -> None:
    vlm.certainty = Certainty(calibration)
    assert all(said in shown for shown in everywhere(agent, chest, QUESTION))
    data = result_to_dict(Result(chest, agent.ask(chest, QUESTION), models_of(agent), QUESTION))
    known = calibration is not None
    assert data["answer"]["calibrated"] is data["models"]["vlm"]["calibrated"] is known
    assert data["answer"]["confidence_note"] == confidence_note(calibrated=known)
    assert not data["models"]["grounder"]["calibrated"]


def test_what_is_read_off_regions_is_as_calibrated_as_their_scores(
    agent: MedGLIPAgent, grounder: Any, chest: MedicalImage
) -> None:
    for question in ("Show me the lungs", "How large are the lungs?"):
        grounder.calibration = None
        assert all("0.65 (uncalibrated)" in shown for shown in everywhere(agent, chest, question))
        grounder.calibration = object()
        assert all("0.65 (calibrated)" in shown for shown in everywhere(agent, chest, question))
    assert not agent.ask(chest, QUESTION).calibrated  # the language model's, not the grounder's


def test_what_the_model_is_not_sure_of_is_withheld_everywhere(
    agent: MedGLIPAgent, vlm: Any, chest: MedicalImage
) -> None:
    vlm.certainty = Certainty(HALVED, asked=0.5)
    assert agent.ask(chest, QUESTION).abstained
    *_, streamed = agent.stream(chest, QUESTION)
    assert getattr(streamed, "abstained", False)
    marked = agent.describe(chest, [10, 20, 50, 180], question="Is this normal?")
    assert marked.text.endswith("The language model has no sure answer about it.")
    assert marked.calibrated and marked.confidence == pytest.approx(0.47, abs=0.005)
    said = [finding.sentence for finding in agent.report(chest).findings]
    assert "Pneumothorax: the language model is not sure enough to say." in said


def test_the_words() -> None:
    assert confidence_text(0.5, calibrated=True) == "0.50 (calibrated)"
    assert "no probability" in confidence_note(calibrated=False)
