"""The command that measures the scorers runs on a few reports and says what it compared."""

import gzip
import json

import pytest

from benchmarks.bench_metrics import Comparison, compare, main, report_pairs, time_protocols


@pytest.fixture
def data(tmp_path):
    folder = tmp_path / "reports"
    folder.mkdir()
    rows = [
        {
            "uid": f"CXR{k}",
            "findings": f"The heart is normal in size {k}.",
            "impression": "Edema.",
            "mesh_major": tags,
        }
        for k, tags in enumerate(
            [["Pulmonary Edema"], ["normal"], ["Pulmonary Edema/mild"], ["normal"]], start=1
        )
    ]
    with gzip.open(folder / "iu_xray_reports.jsonl.gz", "wt") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)
    return tmp_path


def test_the_command_measures_all_three(data, capsys):
    assert main(["--data-dir", str(data), "--predictions", "200", "--pairs", "12"]) == 0
    figures = json.loads(capsys.readouterr().out)
    assert figures["vqa"]["predictions"] == 200
    edema = figures["labels"]["reports"]["held apart"]["by observation"]["Edema"]
    assert edema["tagged"] == 0  # reports 2 and 4 are normal, though both say edema
    assert edema["positive"]["precision"] == 0
    assert figures["labels"]["reports"]["tuned"]["by observation"]["Edema"]["positive"]["recall"] == 1


def test_absent_data_is_refused(tmp_path, capsys):
    with pytest.raises(SystemExit):
        main(["--data-dir", str(tmp_path)])
    assert "pass the data folder" in capsys.readouterr().err


def test_pairs_are_repeatable_and_never_empty(data):
    path = data / "reports" / "iu_xray_reports.jsonl.gz"
    assert report_pairs(path, 9) == report_pairs(path, 9)
    assert all(said and true for said, true in report_pairs(path, 9))


def test_a_comparison_reports_the_largest_difference():
    pair = Comparison("m", "r", "json", lambda pairs: [1.0, 2.0], lambda pairs: [1.0, 2.5])
    row = compare(pair, [(["a"], ["a"])] * 2)
    assert row["largest difference"] == 0.5


def test_protocols_are_timed_over_the_count():
    assert time_protocols(50)["predictions"] == 50
