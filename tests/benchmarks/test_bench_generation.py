"""The generation benchmark's prompts and arithmetic; no time is asserted."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.bench_generation import Timed, compare, line, phantom_prompts
from grounding.types import MedicalImage
from llm.types import Generation, SpatialPrompt


def test_phantoms_give_questions_by_image() -> None:
    groups = [*phantom_prompts(2, 3)]
    assert [len(group) for group in groups] == [3, 3]
    assert len({p.image.source_id for group in groups for p in group}) == 2
    assert all(p.regions is groups[0][0].regions for p in groups[0])


def test_ratios_and_differences() -> None:
    image = MedicalImage(np.zeros((4, 4, 3), dtype=np.uint8))
    prompts = [SpatialPrompt(q, image) for q in ("a?", "b?")]
    slow = Timed([Generation("yes", 0.9, 2.0), Generation("no", 0.9, 0.001)], clock=6.0, processor=4.0)
    fast = Timed([Generation("yes", 0.9, 2.0), Generation("yes", 0.9, 0.002)], clock=2.0, processor=1.0)
    figures = compare(prompts, slow, fast)
    assert (figures["ratio"], figures["processor_ratio"], figures["identical"]) == (3.0, 4.0, 0.5)
    assert figures["differences"] == [
        {"question": "b?", "plain": "no", "ours": "yes", "margins": [0.001, 0.002]}
    ]
    assert line("x", figures).endswith("4.00 x by the processor's time, 50.0 % identical")
    assert figures["questions"] == pytest.approx(2) and figures["images"] == 1
