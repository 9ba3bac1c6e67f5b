"""The benchmark of planners counts by hand-made plans."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.run_planner import main, markdown, misses, precision_recall, read_requests, run, summarise
from medglip_agent.planner import NO_TURNS, Conversation, Intent, Plan

REQUESTS = """
version: 1
requests:
  - {id: a, text: "where is the liver", modality: CT, intent: ground, phrases: [liver]}
  - {id: b, text: "and its size?", modality: CT, history: ["where is the liver"], intent: measure,
     also: [ask], phrases: [liver]}
  - {id: c, text: "hello", modality: null, intent: out_of_scope, phrases: []}
"""


class Parrot:
    """Asks about liver and spleen, whatever is said."""

    def plan(self, text: str, modality: str | None, conversation: Conversation = NO_TURNS) -> Plan:
        return Plan(Intent.ASK, ("liver",), ("spleen",) if conversation.texts else ())


@pytest.fixture
def requests_file(tmp_path: Path) -> Path:
    path = tmp_path / "requests.yaml"
    path.write_text(REQUESTS)
    return path


def test_figures(requests_file: Path) -> None:
    results = run(Parrot(), read_requests(requests_file))
    assert [r.right_intent for r in results] == [False, True, False]  # b may be asked, too
    assert [r.right_phrases for r in results] == [True, False, False]
    figures = precision_recall(results)
    assert figures["precision"][0] == 2 / 4 and figures["recall"][0] == 2 / 2
    summary = summarise(results)
    assert summary["overall"]["intent"]["mean"] == pytest.approx(1 / 3)
    assert {"wanted": "measure", "read": "measure", "n": 1} in summary["confusion"]
    assert "| out_of_scope |  |  |  | 1 |" in markdown(results)
    assert [line[0] for line in misses(results).splitlines()] == ["a", "b", "c"]


def test_command(requests_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--requests", str(requests_file), "--out", str(tmp_path / "out")]) == 0
    assert "hello" not in capsys.readouterr().out  # no request is shown unless asked for
    assert json.loads((tmp_path / "out" / "planner.json").read_text())["n"] == 3
