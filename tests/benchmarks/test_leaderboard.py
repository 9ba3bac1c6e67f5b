"""Leaderboards over hand-made runs: one table a data set, ranks, baselines once, adjusted p-values."""

import json

import pytest

from benchmarks.leaderboard import main, make_boards, to_html, to_markdown
from benchmarks.run_folder import read_run
from benchmarks.summary import summarise

QUESTIONS = 8


def write_run(folder, scores, *, sha="a" * 64, limit=None, model="nano"):
    """A run of eight questions on eight images; scores by condition, 0 or 1 each."""
    folder.mkdir()
    rows = {
        condition: [
            {
                "qid": str(k),
                "boxes": condition,
                "prediction": "p",
                "confidence": None,
                "error": None,
                "reference": "r",
                "question": "q",
                "cluster": f"image {k}",
                "groups": {"answer type": ["OPEN" if k % 2 else "CLOSED"]},
                "scores": {"exact": float(value), "token-f1": 0.5},
            }
            for k, value in enumerate(own)
        ]
        for condition, own in scores.items()
    }
    lines = [json.dumps(row) + "\n" for own in rows.values() for row in own]
    (folder / "predictions.jsonl").write_text("".join(lines))
    metrics = {
        "kind": "vqa",
        "headline": "exact",
        "failed": dict.fromkeys(scores, 0) | {"none": 2},
        "conditions": {condition: summarise(own) for condition, own in rows.items()},
    }
    (folder / "metrics.json").write_text(json.dumps(metrics))
    settings = {"task": "t", "split": "test", "limit": limit, "data_sha256": sha, "model": model}
    (folder / "manifest.json").write_text(json.dumps({"settings": settings}))
    return folder


PRIOR = [1, 0, 0, 0, 0, 0, 0, 0]


@pytest.fixture
def runs(tmp_path):
    one = write_run(tmp_path / "one", {"none": [1] * 4 + [0] * 4, "question-type-prior": PRIOR})
    two = write_run(tmp_path / "two", {"none": [1] * 8, "question-type-prior": PRIOR}, model="a/b/big|one")
    return [one, two]


def test_ranks_baselines_and_tests_by_hand(runs):
    (board,) = make_boards([read_run(run) for run in runs])
    assert board.heading == "t test: exact"
    assert [(e.name, e.score) for e in board.entries] == [
        ("b/big|one, boxes none", 1.0),
        ("nano, boxes none", 0.5),
        ("question-type-prior", 0.125),  # the same in both runs: once
    ]
    first, second, third = board.differences
    assert first is None and second["difference"]["mean"] == 0.5 and third["difference"]["mean"] == 0.875
    # All 4 (7) differences of one sign: 2 of 2**4 (2**7) patterns; Holm doubles the smaller.
    assert (second["permutation_p"], third["permutation_p"]) == (2 / 16, 2 / 128)
    head, rows = board.table()
    assert head == ["", "who", "run", "exact", "open", "closed", "first - this", "p (Holm)", "failed"]
    assert [row[-2] for row in rows] == ["-", "0.125", "0.0312"]
    assert [row[-1] for row in rows] == ["2", "2", "0"]
    assert rows[2][1:3] == ["question-type-prior (baseline)", "one"]
    assert rows[1][4:6] == ["0.500 [0.000, 1.000]"] * 2


def test_files_and_output(runs, tmp_path, capsys):
    assert main([*map(str, runs), "--out", str(tmp_path / "board")]) == 0
    printed = capsys.readouterr().out
    assert "| 1 | b/big/one, boxes none | two | 1.000 [1.000, 1.000] |" in printed
    assert f"Data: sha256 {'a' * 64}." in printed and "Holm" in printed
    assert (tmp_path / "board" / "leaderboard.md").read_text() == printed[:-1]
    page = (tmp_path / "board" / "leaderboard.html").read_text()
    assert "<svg" in page and "<script" not in page and "t test: exact" in page


def test_other_data_stands_in_another_table_with_a_warning(runs, tmp_path):
    other = write_run(tmp_path / "other", {"none": [1] * 8}, sha="b" * 64)
    part = write_run(tmp_path / "part", {"none": [1] * 8}, limit=8)
    boards = make_boards([read_run(run) for run in [*runs, other, part]])
    assert [len(board.entries) for board in boards] == [3, 1, 1]
    assert "t test (limit 8): exact" in to_markdown(boards)
    assert "t test: 3 tables" in to_markdown(boards) and "t test: 3 tables" in to_html(boards)


def test_the_protocol_is_named_and_must_be_there(runs):
    (board,) = make_boards([read_run(runs[0])], "token-f1")
    assert board.heading == "t test: token-f1" and board.entries[0].score == 0.5
    with pytest.raises(ValueError, match="expected a protocol of exact, token-f1, got 'bleu'"):
        make_boards([read_run(runs[0])], "bleu")
