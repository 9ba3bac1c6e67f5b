"""What the page does, without a page: opening, asking, the endpoints, and errors as sentences."""

import json
import threading
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from grounding.probe import Limits
from medglip_agent.chat_model import ChatModelError
from medglip_agent.examples import Example, examples
from medglip_agent.web.events import (
    Turn,
    UserError,
    answer_question,
    ask_file,
    export_answer,
    ground_file,
    open_example,
    open_upload,
    report_picture,
    show_view,
)
from medglip_agent.web.loading import AgentLoader, NotReadyError
from medglip_agent.web.session import change_view


@pytest.fixture(scope="module")
def chest(tmp_path_factory: pytest.TempPathFactory) -> Example:
    return examples(tmp_path_factory.mktemp("examples"))[0]


def test_examples_are_files_with_questions(chest: Example) -> None:
    listed = examples(chest.path.parent)
    assert len({example.title for example in listed}) == len(listed) >= 7
    assert all(example.path.is_file() and example.question for example in listed)
    assert not list(chest.path.parent.glob("*.part"))


def test_question_is_answered_step_by_step(loader: AgentLoader, chest: Example) -> None:
    session = open_example(chest)
    turns = list(answer_question(loader, session, "Which lung is *more* opaque?", []))
    last = turns[-1]
    assert last.messages[0] == {"role": "user", "content": r"Which lung is \*more\* opaque?"}
    assert "[R2](#R2)" in last.messages[1]["content"]
    assert last.session.regions is not None and last.session.regions.phrases[:2] == (
        "right lung",
        "left lung",
    )
    assert last.session.cited == (1,)
    assert [step.name for step in last.steps] == ["plan", "image", "grounding", "generation", "citation"]
    assert turns[0].session.regions is None
    assert any("the left" in turn.messages[-1]["content"] for turn in turns[:-1]), "text is streamed"
    assert session.regions is None, "the session given is not changed"


def test_two_sessions_each_remember_their_own_questions(loader: AgentLoader, chest: Example) -> None:
    """Turn by turn in alternation, on one agent."""
    sessions = [open_example(chest), open_example(chest)]
    for number, question in ((0, "Show me the right lung"), (1, "Show me the left lung")):
        sessions[number] = list(answer_question(loader, sessions[number], question, []))[-1].session
    for number, phrases in ((0, ("left lung",)), (1, ("right lung",)), (0, ("right lung",))):
        sessions[number] = list(answer_question(loader, sessions[number], "the other one", []))[-1].session
        found = sessions[number].regions
        assert found is not None and found.phrases == phrases
    assert sessions[0].conversation is not sessions[1].conversation
    viewed = change_view(sessions[0], 0, "", "DX")
    assert viewed.conversation is sessions[0].conversation, "the same pixels as another kind of image"


def test_an_earlier_picture_and_a_marked_part_reach_the_agent(loader: AgentLoader, chest: Example) -> None:
    session = open_example(chest)

    def said(question: str, **more: str) -> Turn:
        return list(answer_question(loader, session, question, [], **more))[-1]

    assert "give one beside" in said("What has changed?").messages[-1]["content"]
    compared = said("What has changed?", prior=str(chest.path)).messages[-1]["content"]
    assert "unchanged" in compared and r"same pixels" in compared
    marked = said("Is this normal?", box="20, 30, 90, 150")
    assert "The marked region lies in the" in marked.messages[-1]["content"]
    assert marked.session.box == (20, 30, 90, 150)
    with pytest.raises(UserError, match="Draw the box"):
        said("Is this normal?", box="here")
    with pytest.raises(UserError, match="expected a box"):
        said("Is this normal?", box="9000, 0, 9001, 1")
    with pytest.raises(UserError, match="cannot be shown"):
        said("What has changed?", prior=__file__)


def test_report_is_shown_sentence_by_sentence_and_taken_away(loader: AgentLoader, chest: Example) -> None:
    first, *_, last = report_picture(loader, open_example(chest), [])
    assert "Writing the report" in first.messages[-1]["content"]
    shown = last.messages[-1]["content"]
    assert "- Right lung is seen in the" in shown and "[R1](#R1)" in shown and "*(not grounded)*" in shown
    assert last.session.cited == (0, 1)
    _, data = export_answer(loader, last.session, ".json")
    taken = json.loads(data)
    assert taken["kind"] == "report" and taken["findings"][0]["regions"] == [1]
    with pytest.raises(UserError, match="Open an image"):
        list(report_picture(loader, None, []))


def test_a_server_that_does_not_answer_is_told_in_a_sentence(
    loader: AgentLoader, chest: Example, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone(*args: object, **more: object) -> None:
        raise ChatModelError("the chat model far failed (TimeoutError): see that its server runs")

    monkeypatch.setattr(loader.get(), "stream", gone)
    monkeypatch.setattr(loader.get(), "ask", gone)
    with pytest.raises(UserError, match="see that its server runs"):
        list(answer_question(loader, open_example(chest), "Is it normal?", []))
    with pytest.raises(UserError, match="see that its server runs"):
        ask_file(loader, str(chest.path), "Is it normal?", "CR")


def test_answer_is_taken_away(loader: AgentLoader, chest: Example) -> None:
    session = open_example(chest)
    with pytest.raises(UserError, match="Ask something about the picture first"):
        export_answer(loader, session, ".json")
    question = "Which lung is more opaque?"
    answered = list(answer_question(loader, session, question, []))[-1].session
    name, data = export_answer(loader, answered, ".json")
    taken = json.loads(data)
    assert name == f"medglip-{session.image.source_id[:8]}.json"
    assert taken["question"] == question and taken["answer"]["citations"] == [2]
    assert taken["models"]["grounder"]["name"] == "places"
    again = next(answer_question(loader, answered, "Where is the liver?", [])).session
    assert again.answer is None, "an old answer is not taken for the new question's"


def test_export_that_cannot_be_made_is_a_sentence(loader: AgentLoader, chest: Example) -> None:
    answered = list(answer_question(loader, open_example(chest), "Which lung is darker?", []))[-1].session
    with pytest.raises(UserError, match=r"cannot be written so\..*\.sc\.dcm|not installed here"):
        export_answer(loader, answered, ".dcm")


@pytest.mark.parametrize(("question", "said"), [("", "Write a question"), ("  ", "Write a question")])
def test_empty_question_is_refused(loader: AgentLoader, chest: Example, question: str, said: str) -> None:
    with pytest.raises(UserError, match=said):
        list(answer_question(loader, open_example(chest), question, []))


def test_question_without_image_is_refused(loader: AgentLoader) -> None:
    with pytest.raises(UserError, match="Open an image"):
        list(answer_question(loader, None, "What is it?", []))


def test_question_too_long_is_a_sentence(loader: AgentLoader, chest: Example) -> None:
    with pytest.raises(UserError):
        list(answer_question(loader, open_example(chest), "why " * 5000, []))


def test_broken_upload_is_a_sentence(tmp_path: Path) -> None:
    path = tmp_path / "scan.png"
    path.write_bytes(b"\x89PNG\r\n\x1a\n broken")
    with pytest.raises(UserError, match=r"This file cannot be shown\. scan\.png: cannot be"):
        open_upload(str(path))
    with pytest.raises(UserError, match="No file arrived"):
        open_upload(None)
    with pytest.raises(UserError, match="no longer here"):
        open_upload(str(tmp_path / "gone.png"))


def test_an_upload_is_checked_and_kept_until_its_session_goes(
    chest: Example, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    session = open_upload(str(chest.path))
    assert session.title == chest.path.name and session.path is not None
    assert session.path.parent.parent == tmp_path and session.path.name != chest.path.name
    session = show_view(session, 0, "", "DX")
    assert session.path.read_bytes() == chest.path.read_bytes()  # the DICOM export points into it
    monkeypatch.setattr("medglip_agent.web.events.UPLOADS", Limits(max_bytes=1000))
    with pytest.raises(UserError, match="at most 1000 are accepted"):
        open_upload(str(chest.path))
    del session
    assert not list(tmp_path.iterdir())


def test_a_damaged_frame_is_a_sentence(tmp_path: Path) -> None:
    pages = [Image.fromarray(np.full((64, 64), grey, dtype=np.uint8)) for grey in (10, 20)]
    pages[0].save(tmp_path / "a.tif", save_all=True, append_images=pages[1:], compression="tiff_deflate")
    data = bytearray((tmp_path / "a.tif").read_bytes())
    second = data.rindex(b"\x78")  # where the packed pixels of the second page begin
    data[second : second + 8] = b"\xff" * 8
    (tmp_path / "a.tif").write_bytes(data)
    session = open_upload(str(tmp_path / "a.tif"))
    with pytest.raises(UserError, match="This frame is damaged"):
        show_view(session, 1, "", "")


def test_modality_that_is_no_code_is_a_sentence(chest: Example) -> None:
    with pytest.raises(UserError, match="DICOM code"):
        open_upload(str(chest.path), "x-ray of a chest")


def test_question_waits_for_the_models(loader: AgentLoader, chest: Example) -> None:
    gate = threading.Event()
    slow = AgentLoader(lambda say: (say("loading the grounder nano ..."), gate.wait(60), loader.get())[-1])
    slow.start()
    turns = answer_question(slow, open_example(chest), "Where are the lungs?", [])
    first = next(turns).messages[-1]["content"]
    assert "oading the grounder nano" in first or "Starting" in first
    gate.set()
    assert "[R1](#R1)" in list(turns)[-1].messages[-1]["content"]
    assert slow.status.state == "ready"


def test_failed_loading_is_told(chest: Example) -> None:
    def fail(say: object) -> None:
        raise OSError("no weights at nano; run `medglip fetch`")

    loader = AgentLoader(fail)  # type: ignore[arg-type]
    loader.start()
    with pytest.raises(UserError, match="medglip fetch"):
        list(answer_question(loader, open_example(chest), "Where are the lungs?", []))
    assert loader.status.state == "failed"
    with pytest.raises(NotReadyError):
        loader.get()


def test_ground_endpoint_returns_plain_regions(loader: AgentLoader, chest: Example) -> None:
    result = ground_file(loader, str(chest.path), ["left lung", "spaceship"], 0.0, "CR")
    assert [region["label"] for region in result["regions"]] == ["left lung"]
    assert len(result["regions"][0]["box_xyxy"]) == 4
    assert result["missing"] == ["spaceship"]
    with pytest.raises(UserError, match="what to look for"):
        ground_file(loader, str(chest.path), [], 0.0)


def test_ask_endpoint_returns_the_grounded_answer(loader: AgentLoader, chest: Example) -> None:
    result = ask_file(loader, str(chest.path), "Which lung is more opaque?", "CR")
    assert result["answer"]["citations"]
    assert result["notice"].startswith("Research use only")
