"""Conversations: a follow-up rests on what was asked before, in its own conversation only."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from grounding.types import MedicalImage
from llm.types import Answer
from medglip_agent.agent import MedGLIPAgent
from medglip_agent.planner import NO_TURNS, TURNS_KEPT, RulePlanner


@pytest.mark.parametrize(
    ("first", "then", "phrases"),
    [
        ("Show me the right lung", "and on the left?", ("left lung",)),
        ("Show me the right lung", "the other one", ("left lung",)),
        ("Show me the right lung", "how big is it?", ("right lung",)),
        ("How large is the right lung?", "and the left?", ("left lung",)),
    ],
)
def test_two_turns(
    agent: MedGLIPAgent, chest: MedicalImage, first: str, then: str, phrases: tuple[str, ...]
) -> None:
    talk = agent.new_conversation()
    agent.ask(chest, first, conversation=talk)
    answer = agent.ask(chest, then, conversation=talk)
    assert answer.regions.phrases == phrases and not answer.abstained
    *_, streamed = agent.stream(chest, then, conversation=talk)
    assert isinstance(streamed, Answer) and not streamed.abstained
    assert agent.ask(chest, then).regions.phrases != phrases, "without the conversation it says too little"


def test_the_language_model_gets_a_question_that_stands_alone(
    agent: MedGLIPAgent, chest: MedicalImage, vlm: Any
) -> None:
    talk = agent.new_conversation()
    agent.ask(chest, "Is the right lung normal?", conversation=talk)
    answer = agent.ask(chest, "And on the left?", conversation=talk)
    assert vlm.prompts[-1].text == "Is the left lung normal?"
    assert (answer.text, answer.regions.phrases[0]) == ("yes [R1].", "left lung")
    assert answer.steps[0].inputs == {"question": "And on the left?"}
    assert answer.steps[0].outcome.endswith("as a follow-up it asks: Is the left lung normal?")


@pytest.mark.parametrize(
    ("first", "then", "question"),
    [
        ("Is the liver enlarged?", "and the spleen?", "Is the spleen enlarged?"),
        ("Is there a mass in the left breast?", "and on the right?", "Is there a mass in the right breast?"),
        ("Is the right kidney normal?", "and the spleen?", "Is the spleen normal?"),
        (
            "Is there a liver cyst?",
            "and on the left?",
            "Is there a liver cyst? and on the left? (liver cyst)",
        ),
        ("Show me the spleen", "Is it normal?", "Is it normal? (spleen)"),
        ("Is the spleen normal?", "Where is the liver?", ""),
    ],
)
def test_follow_ups_in_full(first: str, then: str, question: str) -> None:
    assert RulePlanner().plan(then, "CT", NO_TURNS.then(first)).question == question


def test_another_picture_starts_anew(agent: MedGLIPAgent, chest: MedicalImage) -> None:
    talk = agent.new_conversation()
    agent.ask(chest, "Show me the right lung", conversation=talk)
    other = MedicalImage.from_array(np.zeros_like(chest.pixels), modality="CR")
    alone = agent.ask(other, "and on the left?", conversation=talk)
    assert alone.steps[0].outcome == "ask", "nothing of the first picture is carried over"
    assert talk.asked.texts == ("and on the left?",)


def test_concurrent_conversations_do_not_mix(agent: MedGLIPAgent, chest: MedicalImage) -> None:
    """Two sessions, each of many turns, on one agent and one picture."""

    def session(side: str) -> set[tuple[str, ...]]:
        talk = agent.new_conversation()
        seen = set()
        for _ in range(10):
            agent.ask(chest, f"Show me the {side} lung", conversation=talk)
            seen.add(agent.ask(chest, "how big is it?", conversation=talk).regions.phrases)
        assert len(talk.asked.texts) == TURNS_KEPT, "it does not grow without end"
        return seen

    with ThreadPoolExecutor(2) as pool:
        right, left = pool.map(session, ("right", "left"))
    assert (right, left) == ({("right lung",)}, {("left lung",)})


def test_what_is_not_known_is_named(agent: MedGLIPAgent, chest: MedicalImage) -> None:
    shown = agent.ask(chest, "Show me the left lung and the pneumothorax")
    assert shown.text.endswith("I have not learned to find: pneumothorax.")
    assert shown.steps[0].outcome == "ground; names left lung; does not know pneumothorax"
    assert "have not learned to find: pneumothorax" in agent.ask(chest, "Where is the pneumothorax?").reason
    many = agent.ask(chest, "Is there an abnormality?").reason
    assert many.endswith(
        "have not learned to find: lung opacity, consolidation, lung infiltration and 58 more."
    )
    asked = agent.ask(chest, "Is the heart normal?")
    assert asked.reason == "No region supports this answer. I have not learned to find: heart."
