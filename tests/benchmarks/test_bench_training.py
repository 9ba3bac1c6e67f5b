"""The training benchmark's arithmetic, and that both sides train alike; no time is asserted."""

from __future__ import annotations

import pytest
import torch

from benchmarks import bench_training
from grounding.criterion import GroundingCriterion


def test_summary() -> None:
    seconds = {"naive": [(8.0, 6.0), (2.0, 6.0), (4.0, 3.0)], "ours": [(1.0, 1.0), (2.0, 2.0), (3.0, 3.0)]}
    result = bench_training.summarise(seconds, batch_size=8)
    assert result["naive"]["step_seconds"] == 4.0 and result["naive"]["images_per_second"] == 2.0
    assert result["ours"]["images_per_processor_second"] == 4.0
    assert result["ratio"] == 2.0 and result["processor_ratio"] == 3.0


def test_sides_alternate_and_the_first_batch_warms_up() -> None:
    calls: list[tuple[str, int]] = []
    steps = {side: lambda batch, side=side: calls.append((side, batch)) for side in bench_training.SIDES}
    seconds = bench_training.time_steps(steps, [0, 1, 2])  # type: ignore[list-item]
    assert calls == [(side, batch) for batch in range(3) for side in bench_training.SIDES]
    assert [len(values) for values in seconds.values()] == [2, 2]


def test_data_is_required(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.delenv("MEDGLIP_DATA", raising=False)
    with pytest.raises(SystemExit):
        bench_training.main([])
    assert "expected --data-dir" in capsys.readouterr().err


def test_both_sides_have_the_same_focal_loss() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 3, 5, 4, generator=generator)
    target = (torch.rand(2, 3, 5, 4, generator=generator) < 0.2).float()
    mask = torch.rand(3, 1, 4, generator=generator) < 0.8
    plain, ours = (
        criterion()._focal_loss(logits, target, mask)
        for criterion in (bench_training.PlainCriterion, GroundingCriterion)
    )
    torch.testing.assert_close(ours, plain)
