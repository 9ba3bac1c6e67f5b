"""The agent: what is asked, what is cited, when it abstains, what the trace says."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from grounding.types import MedicalImage
from llm.types import Answer, Step
from medglip_agent.agent import MedGLIPAgent
from medglip_agent.answers import UNGROUNDED
from medglip_agent.confidence import combine_confidence


def test_an_answer_cites_the_side_it_names(agent: MedGLIPAgent, chest: MedicalImage) -> None:
    answer = agent.ask(chest, "Which lung is more opaque?")
    assert answer.text == "left [R2]."
    assert not answer.abstained
    assert answer.regions.phrases == ("right lung", "left lung")
    assert answer.confidence == pytest.approx(0.56, abs=1e-6)  # sqrt(0.64 * 0.49)


def test_an_answer_without_a_region_says_so(agent: MedGLIPAgent, chest: MedicalImage) -> None:
    answer = agent.ask(chest, "Is the heart normal?")
    assert answer.text == f"yes. {UNGROUNDED} I have not learned to find: heart."
    assert answer.text == f"yes. {answer.reason}"
    assert answer.confidence == pytest.approx(0.64)


def test_it_abstains_where_the_region_was_not_found(
    agent: MedGLIPAgent, chest: MedicalImage, vlm: Any
) -> None:
    answer = agent.ask(chest, "Where is the polyp?")
    assert answer.abstained
    assert answer.reason == "Polyp was looked for in this picture and not found."
    assert answer.confidence is None
    assert "polyp" in answer.regions.asked
    assert vlm.prompts == []  # nothing was generated


def test_a_yes_or_no_question_about_an_absent_thing_is_answered(
    agent: MedGLIPAgent, chest: MedicalImage
) -> None:
    answer = agent.ask(chest, "Is there a polyp?")
    assert answer.text == f"no. {UNGROUNDED}"


def test_a_denial_of_what_was_found_is_pointed_out(agent: MedGLIPAgent, chest: MedicalImage) -> None:
    answer = agent.ask(chest, "Is there a left lung?")
    assert answer.text.startswith("no [R1].")  # the mentioned lung comes first
    assert "found left lung [R1] with score 0.49, which does not fit" in answer.reason


@pytest.mark.parametrize("question", ["", "  ", "Hello!", "What dose should I take?"])
def test_out_of_scope(agent: MedGLIPAgent, chest: MedicalImage, grounder: Any, question: str) -> None:
    answer = agent.ask(chest, question)
    assert answer.abstained and answer.reason
    assert grounder.encoded == 0


def test_show_me_is_answered_from_regions(agent: MedGLIPAgent, chest: MedicalImage, vlm: Any) -> None:
    answer = agent.ask(chest, "Show me the lungs and the spleen")
    assert (
        "Right lung is seen in the left of the picture (80 x 160 px, 27 % of the picture) [R1]."
        in answer.text
    )
    assert "[R2]" in answer.text
    assert answer.reason == "Looked for and not found: spleen."
    assert answer.confidence == pytest.approx(0.65)  # mean of .81 and .49
    assert vlm.prompts == []


def test_show_me_something_unknown_names_what_is_known(agent: MedGLIPAgent, chest: MedicalImage) -> None:
    answer = agent.ask(chest, "Show me the flux capacitor")
    assert answer.abstained
    assert "right lung, left lung, bone fracture" in answer.reason


def test_show_me_something_absent_abstains(agent: MedGLIPAgent, chest: MedicalImage) -> None:
    assert agent.ask(chest, "Find the polyp").abstained


def test_an_image_is_encoded_and_its_vocabulary_grounded_once(
    agent: MedGLIPAgent, chest: MedicalImage, grounder: Any
) -> None:
    agent.ask(chest, "Are the lungs normal?")
    agent.ask(MedicalImage.from_array(chest.pixels, modality="CR"), "Is the heart normal?")
    assert grounder.encoded == 1
    assert grounder.calls == [("right lung", "left lung", "bone fracture")]


def test_the_cache_forgets_old_images(agent: MedGLIPAgent, grounder: Any) -> None:
    images = [MedicalImage.from_array(np.full((32, 32), grey, dtype=np.uint8)) for grey in range(9)]
    for image in [*images, images[0]]:
        agent.ground(image, ["liver"])
    assert grounder.encoded == 10


def test_the_trace_has_every_step(agent: MedGLIPAgent, chest: MedicalImage) -> None:
    steps = agent.ask(chest, "Are the lungs normal?").steps
    assert [step.name for step in steps] == ["plan", "image", "grounding", "generation", "citation"]
    assert steps[1].outcome == "200 x 240 px, modality CR, encoded"
    assert steps[2].outcome == "right lung (0.81), left lung (0.49)"
    assert steps[3].outcome == "yes"
    assert all(step.seconds >= 0 for step in steps)


def test_what_the_model_invents_goes_into_the_trace(grounder: Any, vlm: Any, chest: MedicalImage) -> None:
    vlm.replies = {"opaque": "left [R7] [R1]"}
    answer = MedGLIPAgent(grounder, vlm).ask(chest, "Which lung is opaque?")
    assert answer.text == "left [R2]."
    assert answer.steps[-1].outcome == "[R2]; the language model cited regions that do not exist: [R7]"


def test_an_empty_reply_is_an_abstention(grounder: Any, vlm: Any, chest: MedicalImage) -> None:
    vlm.replies = {"opaque": " "}
    answer = MedGLIPAgent(grounder, vlm).ask(chest, "Is it opaque?")
    assert answer.abstained and answer.reason == "The language model gave no answer."


def test_stream_yields_steps_pieces_and_the_same_answer(agent: MedGLIPAgent, chest: MedicalImage) -> None:
    events = list(agent.stream(chest, "Which lung is more opaque?"))
    assert [type(event) for event in events] == [Step, Step, Step, str, Step, Answer]
    asked = agent.ask(chest, "Which lung is more opaque?")
    streamed = events[-1]
    assert isinstance(streamed, Answer)
    assert (streamed.text, streamed.confidence) == (asked.text, asked.confidence)


def test_a_stream_shows_no_citation_of_the_model_s_own(
    agent: MedGLIPAgent, chest: MedicalImage, vlm: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vlm, "stream", lambda prompt, **more: iter(["left ", "[R", "9] lung", "[R1]"]))
    pieces = [e for e in agent.stream(chest, "Which lung is more opaque?") if isinstance(e, str)]
    assert "".join(pieces) == "left lung"


def test_a_stream_without_confidence_gives_none(grounder: Any, chest: MedicalImage, vlm: Any) -> None:
    vlm.stream = lambda prompt, max_new_tokens: iter(["le", "ft"])
    *_, answer = MedGLIPAgent(grounder, vlm).stream(chest, "Which lung is more opaque?")
    assert isinstance(answer, Answer)
    assert (answer.text, answer.confidence) == ("left [R2].", None)


def test_an_abandoned_stream_frees_the_models(agent: MedGLIPAgent, chest: MedicalImage) -> None:
    stream = agent.stream(chest, "Which lung is more opaque?")
    next(event for event in stream if isinstance(event, str))
    stream.close()  # type: ignore[attr-defined]
    assert agent.ask(chest, "Which lung is more opaque?").text == "left [R2]."


def test_ground_expands_known_spellings(agent: MedGLIPAgent, chest: MedicalImage, grounder: Any) -> None:
    regions = agent.ground(chest, ["lungs", "shoulder prosthesis", " "])
    assert regions.asked == ("right lung", "left lung", "shoulder prosthesis")
    assert regions.missing == ("shoulder prosthesis",)
    assert len(agent.ground(chest, [])) == 0


def test_the_threshold_reaches_the_grounder(grounder: Any, vlm: Any, chest: MedicalImage) -> None:
    strict = MedGLIPAgent(grounder, vlm, box_threshold=0.8)
    assert strict.ground(chest, ["lungs"]).phrases == ("right lung",)
    answer = strict.ask(chest, "Which lung is more opaque?")
    assert answer.text == f"left. {UNGROUNDED} Looked for and not found: left lung."
    assert len(strict.ground(chest, ["lungs"], box_threshold=0.0)) == 2


def test_grounding_needs_no_language_model(grounder: Any, chest: MedicalImage) -> None:
    agent = MedGLIPAgent(grounder, None)
    assert len(agent.ground(chest, ["lungs"])) == 2
    assert agent.models == {"grounder": "fake-grounder"}
    with pytest.raises(RuntimeError, match="load the agent with vlm='nano'"):
        agent.ask(chest, "Is it normal?")


def test_too_long_a_question_is_refused(agent: MedGLIPAgent, chest: MedicalImage) -> None:
    with pytest.raises(ValueError, match="up to 2000 characters, got 2001"):
        agent.ask(chest, "x" * 2001)


def test_confidence_is_the_geometric_mean() -> None:
    assert combine_confidence(0.64, [0.5, 0.48]) == pytest.approx(0.56)
    assert combine_confidence(0.64, []) == 0.64


def test_a_report_may_be_asked_for(agent: MedGLIPAgent, chest: MedicalImage) -> None:
    answer = agent.ask(chest, "Write a report of this picture.")
    assert answer.text.startswith("Findings:")
    assert "Research use only" in answer.text
    assert [step.name for step in answer.steps] == ["plan", "image", "grounding", "generation"]
