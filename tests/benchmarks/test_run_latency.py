"""The latency benchmark's arithmetic; no time is asserted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks import run_latency
from grounding.types import MedicalImage, Regions
from llm.data.vqa_rad import VQAExample
from llm.types import Answer, Step


def _example(qid: str, name: str) -> VQAExample:
    return VQAExample(qid, Path(name), f"question {qid}?", "yes", "CLOSED", "PRES", "CHEST")


def test_the_first_question_of_each_image() -> None:
    examples = [_example("1", "a"), _example("2", "b"), _example("3", "a"), _example("4", "c")]
    assert [e.qid for e in run_latency.choose_questions(examples, 3)] == ["1", "2", "4"]
    with pytest.raises(ValueError, match="expected 4 images, the split has 3"):
        run_latency.choose_questions(examples, 4)


def test_summary() -> None:
    timings = [dict.fromkeys(run_latency.PARTS, value) for value in (3.0, 1.0, 2.5)]
    assert run_latency.summarise(timings)["total"] == {"median": 2.5, "min": 1.0, "max": 3.0}


def test_time_is_split_by_step(monkeypatch: pytest.MonkeyPatch) -> None:
    image = MedicalImage.from_array(np.zeros((8, 8), dtype=np.uint8))
    monkeypatch.setattr(MedicalImage, "open", staticmethod(lambda path: image))

    class Agent:
        def ask(self, image: MedicalImage, question: str) -> Answer:
            steps = (Step("image", {}, "", 1.0), Step("generation", {}, "", 2.0), Step("plan", {}, "", 9.0))
            return Answer("yes", Regions.empty(image.size), 0.5, False, steps)

    agent: Any = Agent()
    seconds = run_latency.time_question(agent, Path("a.png"), "normal?")
    assert (seconds["image"], seconds["grounding"], seconds["generation"]) == (1.0, 0.0, 2.0)
    assert set(seconds) == set(run_latency.PARTS)


def test_memory_is_in_mib() -> None:
    assert 10 < run_latency.peak_memory_mib() < 1_000_000
