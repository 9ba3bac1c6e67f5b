"""The whole chain with the models that ship: load, ask, ground, report. Skips where they are absent."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import grounding
import llm
from grounding.types import MedicalImage
from medglip_agent.agent import MedGLIPAgent
from medglip_agent.citations import cited_regions

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def agent(base_weights: Path) -> MedGLIPAgent:
    for package in (grounding, llm):
        folder = Path(package.__file__).parent / "checkpoints" / "nano"
        if not folder.is_dir():
            pytest.skip(f"{folder.parent.parent.name}/checkpoints/nano is not there yet")
    return MedGLIPAgent.from_pretrained(device="cpu")


@pytest.fixture(scope="module")
def image() -> MedicalImage:
    noise = np.random.default_rng(0).integers(0, 255, (96, 128), dtype=np.uint8)
    return MedicalImage.from_array(noise, modality="CR")


def test_ask_and_stream_agree(agent: MedGLIPAgent, image: MedicalImage) -> None:
    question = "Are the lungs normal?"
    answer = agent.ask(image, question)
    assert answer.text and answer.regions.image_size == (96, 128)
    assert all(0 <= index < len(answer.regions) for index in cited_regions(answer.text))
    *_, streamed = agent.stream(image, question)
    assert getattr(streamed, "text", None) == answer.text


def test_ground_and_report(agent: MedGLIPAgent, image: MedicalImage) -> None:
    regions = agent.ground(image, ["lungs"], box_threshold=0.0)
    assert regions.asked == ("right lung", "left lung")
    assert (regions.boxes[:, 2:] <= (128, 96)).all()
    report = agent.report(image)
    assert len(report.findings) >= 4 and "Research use only" in report.impression
