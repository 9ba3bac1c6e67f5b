"""app.py: its flags, and that what it answers is logged, its own log redacted."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import gradio as gr
import pytest

from medglip_agent.audit import verify
from medglip_agent.examples import Example, examples
from medglip_agent.web.events import answer_question, ask_file, ground_file, open_example, report_picture
from medglip_agent.web.loading import AgentLoader

QUESTION = "Which lung is more opaque?"


@pytest.fixture
def app() -> ModuleType:
    path = Path(__file__).parents[3] / "app.py"
    spec = importlib.util.spec_from_file_location("medglip_app", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_it_serves_this_machine_and_logs_its_answers(
    app: ModuleType, loader: AgentLoader, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chest: Example = examples(tmp_path)[0]
    started: list[Any] = []

    def build(own: AgentLoader, shown: list[Example]) -> gr.Blocks:
        started.append(own)
        return gr.Blocks()

    monkeypatch.setattr(app, "log_safely", lambda: started.append("log"))
    monkeypatch.setattr(app, "load_agent", lambda args, say: loader.get())
    monkeypatch.setattr(app, "examples", lambda: [chest])
    monkeypatch.setattr(app, "build_page", build)
    monkeypatch.setattr(gr.Blocks, "launch", lambda page, **options: started.append(options))
    audit = tmp_path / "audit.jsonl"
    assert app.main(["--no-browser", "--audit", str(audit)]) == 0
    redacted, own, options = started
    assert redacted == "log" and (options["server_name"], options["share"]) == ("127.0.0.1", False)
    own.get(60)
    session = open_example(chest)
    for turns in (answer_question(own, session, QUESTION, []), report_picture(own, session, [])):
        list(turns)
    ask_file(own, str(chest.path), QUESTION, "CR")
    ground_file(own, str(chest.path), ["left lung"], 0.0, "CR")
    assert verify(audit).count == 4
    lines = [json.loads(line) for line in audit.read_text().splitlines()]
    assert [line["event"] for line in lines] == ["answer", "report", "answer", "grounding"]
    assert "opaque" not in audit.read_text()


def test_a_file_that_is_no_log_is_told_in_a_line(app: ModuleType, tmp_path: Path) -> None:
    path = tmp_path / "scan.dcm"
    path.write_bytes(b"no log at all")
    with pytest.raises(SystemExit, match=r"app\.py: --audit .*audit log"):
        app.main(["--no-browser", "--audit", str(path)])
    assert path.read_bytes() == b"no log at all"
