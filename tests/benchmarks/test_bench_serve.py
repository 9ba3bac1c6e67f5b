"""The load on the server: two clients against a real one, and what counts as a miss."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.bench_serve import FOREIGN, Asked, main, summary


def test_two_clients_keep_all_three_promises(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "serve.json"
    code = main(["--models", "coded", "--clients", "2", "--requests", "2", "--out", str(out)])
    figures = json.loads(out.read_text())
    assert json.loads(capsys.readouterr().out) == figures
    assert (figures["requests"], figures["faults"]) == (4, [])
    error, talk, memory = figures["verdicts"].values()
    assert (error, talk) == ("pass", "pass")
    assert memory == ("pass" if figures["growth_after_first_round"] <= 0.1 else "miss")
    assert code == (0 if memory == "pass" else 1)


@pytest.mark.parametrize(
    ("fault", "memory", "verdicts"),
    [
        ("", [100.0, 110.0, 90.0], ["pass", "pass", "pass"]),
        ("", [100.0, 111.0, 90.0], ["pass", "pass", "miss"]),
        ("HTTPError: 500", [100.0], ["miss", "pass", "pass"]),
        (FOREIGN, [100.0], ["pass", "miss", "pass"]),
    ],
)
def test_each_promise_is_passed_or_missed(fault: str, memory: list[float], verdicts: list[str]) -> None:
    rounds = [[Asked("", 1.0), Asked(fault, 2.0)]]
    assert list(summary("coded", 2, rounds, memory)["verdicts"].values()) == verdicts
