"""The trace survives a file."""

from __future__ import annotations

from pathlib import Path

from medglip_agent.trace import Trace, append_trace, read_trace


def test_round_trip(tmp_path: Path) -> None:
    trace = Trace()
    with trace.step("grounding", {"phrases": ["liver"]}) as step:
        step.inputs["more"] = 1
        step.outcome = "Lebergröße"
    path = tmp_path / "trace.jsonl"
    append_trace(path, trace.steps)
    append_trace(path, trace.steps)
    first, second = read_trace(path)
    assert (first.name, first.inputs, first.outcome) == (
        "grounding",
        {"phrases": ["liver"], "more": 1},
        "Lebergröße",
    )
    assert second.seconds >= 0
    assert len(path.read_text(encoding="utf-8").splitlines()) == 2
