"""The command line: text, JSON, picture, trace; one-line errors with exit code 2."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from grounding import base_weights
from grounding.types import MedicalImage
from medglip_agent import NOTICE, cli, doctor
from medglip_agent.agent import MedGLIPAgent

ASK = ("ask", "chest.png", "Which lung is more opaque?")


@pytest.fixture(autouse=True)
def loaded(
    monkeypatch: pytest.MonkeyPatch, agent: MedGLIPAgent, segmenter: Any, chest: MedicalImage
) -> list[Any]:
    """Stands in for the image file and the checkpoints; lists how both were asked for."""
    calls: list[Any] = []

    def read(path: Path, *, frame: int, window: Any, modality: str | None) -> MedicalImage:
        calls.append((path.name, frame, window, modality))
        if path.name == "prior.png":
            return MedicalImage.from_array(np.zeros((240, 200), dtype=np.uint8), modality="CR")
        if path.name == "bad.png":
            raise ValueError("bad.png is not an image:\nsave it as PNG")
        return chest

    def load(grounder: str, vlm: str | None, device: str, **options: Any) -> MedGLIPAgent:
        calls.append((grounder, vlm, device, options["box_threshold"]))
        options["on_progress"]("loading ...")
        if options["segmenter"] is not None:
            return MedGLIPAgent(agent.grounder, agent.vlm, segmenter=segmenter)
        return agent

    monkeypatch.setattr(MedicalImage, "open", staticmethod(read))
    monkeypatch.setattr(MedGLIPAgent, "from_pretrained", staticmethod(load))
    return calls


def test_ask(capsys: pytest.CaptureFixture[str], loaded: list[Any]) -> None:
    assert cli.main([*ASK, "--frame", "2", "--window", "40,400", "--modality", "ct"]) == 0
    out, err = capsys.readouterr()
    assert out.splitlines() == [
        "left [R2].",
        "confidence 0.56 (uncalibrated)",
        "[R2] left lung  score 0.49  box (110, 20, 190, 180) px",
        NOTICE,
    ]
    assert err == "medglip: loading ...\n"
    (name, frame, window, modality), (*_, threshold) = loaded
    assert (name, frame, window.center, window.width, modality, threshold) == (
        "chest.png",
        2,
        40,
        400,
        "CT",
        None,
    )


def test_ask_json_with_picture_and_trace(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    picture, trace = tmp_path / "a.png", tmp_path / "t.jsonl"
    assert cli.main([*ASK, "--json", "--out", str(picture), "--trace", str(trace)]) == 0
    data = json.loads(capsys.readouterr().out)
    assert data["answer"]["citations"] == [2] and data["notice"] == NOTICE
    assert picture.is_file()
    assert len(trace.read_text().splitlines()) == 5


def test_questions_one_after_another_are_a_conversation(capsys: pytest.CaptureFixture[str]) -> None:
    turns = ("Show me the right lung", "and on the left?")
    assert cli.main(["ask", "chest.png", *turns]) == 0
    out = capsys.readouterr().out
    assert out.index("[R1] right lung") < out.index("[R1] left lung") and out.count(NOTICE) == 1
    assert cli.main(["ask", "chest.png", *turns, "--json"]) == 0
    first, second = json.loads(capsys.readouterr().out)
    assert (first["question"], second["question"]) == turns
    assert [region["label"] for region in second["regions"]] == ["left lung"]


def test_ask_with_an_earlier_image_a_box_and_a_segmenter(capsys: pytest.CaptureFixture[str]) -> None:
    changed = ["ask", "chest.png", "What has changed?"]
    assert cli.main([*changed, "--prior", "prior.png"]) == 0
    assert "Right lung [R1]: unchanged (box area +0 %" in capsys.readouterr().out
    assert cli.main(changed) == 0
    assert "Comparing needs an earlier image" in capsys.readouterr().out
    assert cli.main(["ask", "chest.png", "Is this normal?", "--box", "10,20,50,180"]) == 0
    assert "It holds 50 % of right lung [R1]" in capsys.readouterr().out
    assert cli.main(["ask", "chest.png", "Segment the right lung", "--segmenter", "sam"]) == 0
    assert "right lung [R1]: 6400 px" in capsys.readouterr().out


SCRIPTED = """
from langchain_core.language_models.fake_chat_models import GenericFakeChatModel


class Chat(GenericFakeChatModel):
    def __init__(self, said):
        super().__init__(messages=iter(said))

    def bind_tools(self, tools, **more):
        return self
"""


def test_ask_led_by_a_chat_model(
    capsys: pytest.CaptureFixture[str], loaded: list[Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "scripted_chat.py").write_text(SCRIPTED)
    monkeypatch.syspath_prepend(tmp_path)
    config = tmp_path / "chat.yaml"
    config.write_text('model: "scripted_chat:Chat"\narguments: {said: ["I looked [R7].", "No."]}\n')
    ask = ["ask", "chest.png", "Is it normal?", "--chat-model", str(config)]
    assert cli.main([*ask[:3], "Sure?", *ask[3:], "--json"]) == 0
    first, second = json.loads(capsys.readouterr().out)
    assert first["answer"]["text"] == "I looked. No region supports this answer."
    assert second["answer"]["text"].startswith("No.")
    loaded.clear()
    config.write_text("model: nowhere:Chat\n")
    assert cli.main(ask) == 2
    assert "the module 'nowhere' is not installed; pip install nowhere" in capsys.readouterr().err
    assert not loaded, "told before anything loads"


def test_exports_by_the_end_of_the_name(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    files = [tmp_path / name for name in ("a.html", "a.md", "a.json", "a.coco.json", "a.png")]
    flags = [word for file in files for word in ("--export", str(file))]
    for command in (ASK, ("report", "chest.png"), ("ground", "chest.png", "lungs")):
        assert cli.main([*command, *flags]) == 0
        assert all(file.stat().st_size for file in files)
        assert json.loads(files[2].read_text())["models"]["grounder"]["name"] == "fake-grounder"
        for file in files:
            file.unlink()
    assert f"medglip: wrote {files[0]}\n" in capsys.readouterr().err


def test_a_wrong_export_is_told_before_anything_loads(
    capsys: pytest.CaptureFixture[str], loaded: list[Any], tmp_path: Path
) -> None:
    assert cli.main([*ASK, "--export", str(tmp_path / "a.doc")]) == 2
    assert "an export must end in one of .png, .html" in capsys.readouterr().err
    assert not loaded


def test_ground(capsys: pytest.CaptureFixture[str], loaded: list[Any]) -> None:
    assert cli.main(["ground", "chest.png", "lungs", "polyp", "--box-threshold", "0.1"]) == 0
    out = capsys.readouterr().out
    assert "[R1] right lung  score 0.81" in out and "not found: polyp" in out and NOTICE in out
    assert loaded[1] == ("nano", None, "auto", 0.1)  # no language model is loaded
    assert cli.main(["ground", "chest.png", "lungs", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["kind"] == "grounding"


def test_report(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["report", "chest.png"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("Findings:") and NOTICE in out
    assert cli.main(["report", "chest.png", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["kind"] == "report"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["ask", "bad.png", "What?"], "medglip: bad.png is not an image: save it as PNG\n"),
        *(
            (
                [*ASK, "--window", window],
                f"medglip: a window must be CENTER,WIDTH such as 40,400, the width above 0, got {window!r}\n",
            )
            for window in ("wide", "40", "40,0", "nan,1")
        ),
        ([*ASK, "--box", "1,2,3"], "medglip: a box must be X1,Y1,X2,Y2 such as 10,20,90,180, got '1,2,3'\n"),
        ([*ASK, "--out", "a.jpg"], "medglip: --out must end in .png, got 'a.jpg'\n"),
        ([*ASK, "--box-threshold", "2"], "medglip: --box-threshold must lie in [0, 1], got 2.0\n"),
        (
            ["ground", "chest.png", " "],
            "medglip: expected at least one phrase such as 'left lung', got none\n",
        ),
    ],
)
def test_mistakes_are_told_in_one_line(
    capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    assert cli.main(arguments) == 2
    assert capsys.readouterr() == ("", message)


def test_fetch(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(base_weights, "fetch", lambda name: Path("cache") / name)
    assert cli.main(["fetch"]) == 0
    assert capsys.readouterr().out.splitlines()[0] == f"minilm-l6: {Path('cache') / 'minilm-l6'}"
    assert cli.main(["fetch", "efficientnet-lite0"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 1


def test_fetch_of_an_unknown_name(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["fetch", "gpt"]) == 2
    assert "base weights must be one of minilm-l6" in capsys.readouterr().err


def test_doctor_gives_its_exit_code(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "main", lambda argv: 1)
    assert cli.main(["doctor"]) == 1


def test_debug_shows_the_traceback() -> None:
    with pytest.raises(ValueError, match="not an image"):
        cli.main(["--debug", "ask", "bad.png", "What?"])


def test_an_unknown_command_exits_with_2() -> None:
    with pytest.raises(SystemExit) as caught:
        cli.main(["fly"])
    assert caught.value.code == 2
