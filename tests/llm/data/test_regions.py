"""The file of regions by question."""

import json
from pathlib import Path

import pytest

from grounding.types import Regions
from llm.data.regions import read_regions, region_writer


def test_round_trip(tmp_path: Path, two_regions: Regions) -> None:
    path = tmp_path / "regions.jsonl"
    path.write_text(
        "".join(json.dumps({"qid": q, "regions": two_regions.to_dict()}) + "\n" for q in (7, "8"))
    )
    read = read_regions(path)
    assert set(read) == {"7", "8"}
    assert (read["7"].boxes == two_regions.boxes).all()


@pytest.mark.parametrize("line", ['{"qid": 1}', "{", '{"qid": 1, "regions": {}}'])
def test_bad_lines_are_named(tmp_path: Path, line: str) -> None:
    path = tmp_path / "regions.jsonl"
    path.write_text(line + "\n")
    with pytest.raises(ValueError, match=r"regions\.jsonl:1"):
        read_regions(path)


def test_absent_file_names_the_command(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"medglip_agent\.evidence"):
        read_regions(tmp_path / "regions.jsonl")


def test_a_file_is_of_one_grounder(tmp_path: Path, two_regions: Regions) -> None:
    path = tmp_path / "regions.jsonl"
    lines = [{"qid": qid, "regions": two_regions.to_dict()} for qid in (1, 2)]

    def write(*writers: dict) -> None:
        path.write_text(
            "".join(json.dumps(line | writer) + "\n" for line, writer in zip(lines, writers, strict=True))
        )

    write({}, {})
    assert region_writer(path) is None
    write({"grounder": "nano"}, {"grounder": "nano"})
    assert region_writer(path) == ""
    write(*[{"grounder": "nano", "grounder_sha256": sha} for sha in "aa"])
    assert region_writer(path) == "a" and len(read_regions(path)) == 2
    write(*[{"grounder": "nano", "grounder_sha256": sha} for sha in "ab"])
    with pytest.raises(ValueError, match=r"regions\.jsonl:2 is of another grounder"):
        read_regions(path)
