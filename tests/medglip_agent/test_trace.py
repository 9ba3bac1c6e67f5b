"""The trace survives a file, and names models without their paths."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path
from typing import Any

from grounding.types import MedicalImage
from medglip_agent.agent import MedGLIPAgent
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


def test_models_are_named_with_the_hashes_of_their_weights_and_without_their_paths(
    grounder: Any, vlm: Any, segmenter: Any, chest: MedicalImage, tmp_path: Path
) -> None:
    folder = tmp_path / "secret" / "mine"
    folder.mkdir(parents=True)
    (folder / "model.safetensors").write_bytes(b"weights")
    grounder.name = vlm.name = segmenter.name = str(folder)
    agent = MedGLIPAgent(grounder, vlm, segmenter=segmenter)
    questions = (
        "Show the lungs",
        "Is the lung normal?",
        "How wide is the left lung?",
        "Segment the left lung",
    )
    steps = [step for question in questions for step in agent.ask(chest, question).steps]
    steps += agent.report(chest).steps
    assert "secret" not in repr(steps)
    hashed = {"model.safetensors": sha256(b"weights").hexdigest()}
    named = [step.inputs for step in steps if {"grounder", "segmenter"} & step.inputs.keys()]
    assert len(named) == 5 and all(inputs["weights_sha256"] == hashed for inputs in named)
