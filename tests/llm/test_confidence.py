"""The map from raw confidence to the probability of being right: fitted, kept, refused."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm.confidence import CALIBRATION_FILE, Calibration, Certainty, fit_calibration, load_calibration


def test_by_hand() -> None:
    assert Calibration(1.0, 0.0)(0.3) == pytest.approx(0.3)
    assert Calibration(2.0, 0.0)(0.8) == pytest.approx(1 / (1 + math.exp(-math.log(4) / 2)))  # 2 / 3
    assert Calibration(1.0, math.log(3))(0.5) == pytest.approx(0.75)


@given(st.floats(0, 1), st.floats(0, 1), st.floats(0.1, 10), st.floats(-5, 5))
def test_the_order_stays_and_the_result_is_a_probability(a: float, b: float, t: float, offset: float) -> None:
    calibration = Calibration(t, offset)
    low, high = sorted((calibration(min(a, b)), calibration(max(a, b))))
    assert calibration(min(a, b)) == low and 0 <= low <= high <= 1


def test_an_overconfident_model_is_read_as_it_is() -> None:
    """Raw logits are thrice what they should be: a temperature of 3 puts that right."""
    rng = np.random.default_rng(0)
    logits = rng.normal(0.5, 1.5, 4000)
    correct = (rng.random(4000) < 1 / (1 + np.exp(-logits))).astype(float)
    raw = 1 / (1 + np.exp(-3 * logits))
    fitted = fit_calibration(raw.tolist(), correct.tolist(), fitted_on="drawn")
    assert fitted.temperature == pytest.approx(3, rel=0.15) and abs(fitted.offset) < 0.15
    assert (fitted.answers, fitted.fitted_on, fitted.abstain_below) == (4000, "drawn", 0.0)


def test_the_threshold_is_the_lowest_that_reaches_the_target() -> None:
    raw = [k / 40 for k in range(40)]
    correct = [0.0] * 20 + [0.0, 1.0] * 5 + [1.0] * 10
    fitted = fit_calibration(raw, correct, target=0.8)
    given_by = [k for k in range(40) if fitted(raw[k]) >= fitted.abstain_below]
    assert given_by[0] == 23 and 14 / 17 >= 0.8 > 15 / 19
    assert fit_calibration(raw, correct, target=1.01).abstain_below == 1.0


@pytest.mark.parametrize(
    ("correct", "said"),
    [([1.0] * 30, "0 wrong"), ([1.0] * 15 + [0.0] * 15, "surer answers"), ([1, 0], "at least")],
)
def test_what_cannot_be_fitted_is_refused(correct: list[float], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        fit_calibration([k / 30 for k in range(len(correct))], correct)


def test_it_lies_beside_the_checkpoint(tmp_path: Path) -> None:
    assert load_calibration(tmp_path) is None
    calibration = Calibration(1.5, -0.25, 0.4, "val", 300)
    calibration.save(tmp_path / CALIBRATION_FILE)
    assert load_calibration(tmp_path) == calibration
    (tmp_path / CALIBRATION_FILE).write_text("temperature: 0\noffset: 0\n")
    with pytest.raises(ValueError, match=r"answer_calibration\.yaml .*fit it again"):
        load_calibration(tmp_path)


def test_it_holds_for_the_weights_it_was_fitted_on_only(tmp_path: Path) -> None:
    weights, file = tmp_path / "adapter_model.safetensors", tmp_path / CALIBRATION_FILE
    weights.write_bytes(b"fitted")
    Calibration(1.5, 0.0).save(file)
    assert load_calibration(tmp_path) == Calibration(1.5, 0.0)
    weights.write_bytes(b"trained on")
    with pytest.raises(ValueError, match=r"fitted on weights of sha256 [0-9a-f]{64}, .* fit it again"):
        load_calibration(tmp_path)
    weights.write_bytes(b"fitted")
    (tmp_path / "projector.safetensors").write_bytes(b"new")
    with pytest.raises(ValueError, match="those beside it have"):
        load_calibration(tmp_path)
    file.write_text("temperature: 1.5\noffset: 0\n")
    with pytest.raises(ValueError, match="sha256 unknown"):
        load_calibration(tmp_path)


def test_a_configured_threshold_outranks_the_fitted_one() -> None:
    fitted = Calibration(1, 0, 0.4)
    assert Certainty().threshold == 0.0
    assert Certainty(fitted).threshold == 0.4
    assert Certainty(fitted, 0.0).threshold == 0.0
    assert Certainty(None, 0.7).threshold == 0.7
