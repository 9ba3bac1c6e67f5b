"""How sure an answer is, and when it is withheld."""

from __future__ import annotations

import math

import numpy as np
import pytest

from grounding.types import MedicalImage, Regions
from llm.confidence import Calibration, Certainty
from llm.types import Answer, SpatialPrompt
from medglip_agent.answers import cited_answer
from medglip_agent.confidence import answer_confidence
from medglip_agent.trace import Trace

REGIONS = Regions(
    np.array([[10, 20, 90, 180]], dtype=np.float32),
    np.array([0.81]),
    np.array([0]),
    ("right lung",),
    (240, 200),
)
HALVED = Calibration(1.0, -math.log(2), abstain_below=0.5)  # halves the odds


def answer(confidence: float | None, certainty: Certainty) -> Answer:
    image = MedicalImage(np.zeros((240, 200, 3), dtype=np.uint8), modality="CR")
    prompt = SpatialPrompt("Is the right lung clear?", image, REGIONS)
    return cited_answer(prompt, "yes", confidence, (), Trace(), certainty)


def test_a_calibration_reads_the_generation_alone() -> None:
    assert answer_confidence(0.8, [0.2], Certainty(HALVED)) == pytest.approx(2 / 3)  # odds 4 -> 2
    assert answer_confidence(0.64, [0.81], Certainty()) == pytest.approx(0.72)


def test_raw_and_calibrated_answers_say_what_they_are() -> None:
    raw, calibrated = answer(0.64, Certainty()), answer(0.8, Certainty(HALVED))
    assert (raw.text, raw.calibrated) == ("yes [R1].", False)
    assert (
        calibrated.confidence == pytest.approx(2 / 3) and calibrated.calibrated and not calibrated.abstained
    )
    unknown = answer(None, Certainty(HALVED))
    assert unknown.confidence is None and not unknown.calibrated and not unknown.abstained


def test_an_answer_that_is_not_sure_enough_is_withheld() -> None:
    withheld = answer(0.6, Certainty(HALVED))  # odds 1.5 -> 0.75
    assert withheld.abstained and withheld.confidence == pytest.approx(3 / 7)
    assert withheld.text == f"I cannot answer this. {withheld.reason}"
    assert withheld.reason.endswith("sure enough: confidence 0.43 (calibrated), 0.50 is asked.")
    assert "confidence 0.72 (uncalibrated), 0.90 is asked" in answer(0.64, Certainty(asked=0.9)).text
    assert not answer(0.6, Certainty(HALVED, asked=0.0)).abstained
