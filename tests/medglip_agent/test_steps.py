"""Each intent is served by its step, in one place; what is missing for it is said."""

from __future__ import annotations

from dataclasses import replace
from enum import StrEnum
from typing import Any

import numpy as np
import pytest

from grounding.types import MedicalImage, Regions
from medglip_agent.agent import MedGLIPAgent
from medglip_agent.answers import count_text
from medglip_agent.planner import Conversation, Intent, Plan
from medglip_agent.request import RequestError
from medglip_agent.steps import STEPS


class Wanted(StrEnum):
    MEASURE = "measure"
    SEGMENT = "segment"
    COMPARE = "compare"
    DESCRIBE_REGION = "describe region"
    MODALITY = "modality"


class FixedPlanner:
    """Always plans the same."""

    def __init__(self, intent: Wanted, *phrases: str) -> None:
        self._plan = Plan(intent, phrases)  # type: ignore[arg-type]

    def plan(self, text: str, modality: str | None, conversation: Conversation) -> Plan:
        return self._plan


@pytest.fixture
def planned(grounder: Any, vlm: Any) -> Any:
    def make(intent: Wanted, *phrases: str, **more: Any) -> MedGLIPAgent:
        return MedGLIPAgent(grounder, vlm, planner=FixedPlanner(intent, *phrases), **more)

    return make


def test_every_intent_has_a_step() -> None:
    assert {intent.name for intent in (*Intent, *Wanted)} <= set(STEPS)


def test_a_count_is_that_of_its_regions(grounder: Any, vlm: Any, chest: MedicalImage) -> None:
    agent = MedGLIPAgent(grounder, vlm)
    counted = agent.ask(chest, "How many lungs are there?")
    assert counted.text == "2 found: right lung [R1], left lung [R2]."
    assert counted.confidence == pytest.approx(0.65)
    assert [step.name for step in counted.steps] == ["plan", "image", "grounding"]
    nothing = agent.ask(chest, "Count the bone fractures.")
    assert nothing.abstained and "looked for in this picture and not found" in nothing.text


def test_many_are_counted_and_the_surest_cited() -> None:
    boxes = np.tile(np.array([[0, 0, 4, 4]], np.float32), (5, 1))
    regions = Regions(boxes, np.linspace(0.9, 0.5, 5), np.zeros(5, np.int64), ("platelet", "polyp"), (9, 9))
    assert count_text(regions) == "5 found: platelet [R1] [R2] [R3] and 2 more."


def test_measure(planned: Any, chest: MedicalImage) -> None:
    agent = planned(Wanted.MEASURE, "right lung", "left lung")
    sizes = agent.ask(chest, "How big are the lungs?")
    assert sizes.text.startswith("right lung [R1]: 80 x 160 px\nleft lung [R2]:")
    assert sizes.confidence == pytest.approx(0.65)
    assert [step.name for step in sizes.steps] == ["plan", "image", "measure"]
    assert "100 px between centres" in agent.ask(chest, "How far are the lungs apart, the distance?").text
    assert planned(Wanted.MEASURE, "polyp").ask(chest, "How big is the polyp?").abstained
    assert "can look for" in planned(Wanted.MEASURE).ask(chest, "How big is it?").reason


def test_segment_with_and_without_a_segmenter(planned: Any, segmenter: Any, chest: MedicalImage) -> None:
    drawn = planned(Wanted.SEGMENT, "right lung", segmenter=segmenter).ask(chest, "Outline the right lung")
    assert drawn.regions.masks is not None and "right lung [R1]: 6400 px" in drawn.text
    boxes = planned(Wanted.SEGMENT, "right lung").ask(chest, "Outline the right lung")
    assert boxes.regions.masks is None and boxes.text.endswith("boxes are shown in place of outlines.")


def test_compare(planned: Any, chest: MedicalImage) -> None:
    agent = planned(Wanted.COMPARE)
    prior = replace(chest, pixels=np.zeros_like(chest.pixels), source_id="")
    answer = agent.ask(chest, "What has changed?", prior=prior)
    assert "Right lung [R1]: unchanged (box area +0 %" in answer.text
    assert "Found in neither image: bone fracture." in answer.text
    assert "give one beside the current image" in agent.ask(chest, "What has changed?").reason
    assert planned(Wanted.COMPARE, "polyp").ask(chest, "Has the polyp grown?", prior=prior).abstained


def test_describe_region(planned: Any, chest: MedicalImage) -> None:
    agent = planned(Wanted.DESCRIBE_REGION)
    answer = agent.ask(chest, "Is this normal?", box=[10, 20, 50, 180])
    assert "It holds 50 % of right lung [R1]" in answer.text and "yes" in answer.text
    assert answer.steps[-1].inputs == {"box_xyxy_px": [10, 20, 50, 180], "question": "Is this normal?"}
    assert "draw a box" in agent.ask(chest, "Is this normal?").reason
    with pytest.raises(RequestError, match="expected a box"):
        agent.ask(chest, "Is this normal?", box=[300, 20, 350, 180])


def test_modality(planned: Any, chest: MedicalImage, vlm: Any) -> None:
    agent = planned(Wanted.MODALITY)
    assert agent.ask(chest, "What kind of image is it?").text.endswith("computed radiography (CR).")
    assert vlm.prompts == []
    assert agent.ask(replace(chest, modality=None), "What kind of image is it?").abstained
    assert agent.ask(chest, "Is this projection normal?").text.startswith("yes")
