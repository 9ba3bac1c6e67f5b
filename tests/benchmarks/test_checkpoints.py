"""Regions written beforehand are refused once their grounder has changed."""

import json

import pytest

from benchmarks.checkpoints import check_regions, grounder_fingerprint
from grounding.calibration import Calibration


def test_stale_regions_are_refused(tmp_path):
    folder, path = tmp_path / "mine", tmp_path / "regions.jsonl"
    folder.mkdir()
    (folder / "model.safetensors").write_bytes(b"1")

    def write(**writer):
        path.write_text(json.dumps({"qid": 1, "regions": {}} | writer) + "\n")

    write(grounder="mine", grounder_sha256=grounder_fingerprint(str(folder)))
    check_regions(path, str(folder))
    Calibration(temperature=2.0).save(folder / "calibration.json")
    with pytest.raises(ValueError, match="before its weights or calibration changed"):
        check_regions(path, str(folder))
    write(grounder="mine", grounder_sha256=grounder_fingerprint(str(folder)))
    check_regions(path, str(folder))
    (folder / "model.safetensors").write_bytes(b"2")
    with pytest.raises(ValueError, match="fit it again"):  # nor does the calibration hold any longer
        check_regions(path, str(folder))
    Calibration(temperature=2.0).save(folder / "calibration.json")
    with pytest.raises(ValueError, match="as it is now"):
        check_regions(path, str(folder))
    write(grounder="mine")  # from before fingerprints were kept
    with pytest.raises(ValueError, match="name their grounder with --grounder"):
        check_regions(path, str(folder))
    write()  # of no grounder of ours
    check_regions(path, str(folder))


def test_an_id_of_a_hub_has_no_files_here():
    assert grounder_fingerprint("someone/something") is None
    assert len(grounder_fingerprint("nano")) == 64
