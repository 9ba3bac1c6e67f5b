"""Averaged checkpoints: by hand, the ends exact, what does not fit."""

import pytest
import torch
from safetensors.torch import load_file, save_file

from grounding.average import WEIGHTS, average, main


@pytest.fixture
def ends(tmp_path):
    folders = []
    for name, value in (("start", 1.0), ("end", 3.0)):
        folder = tmp_path / name
        folder.mkdir()
        tensors = {"w": torch.full((2,), value).half(), "steps": torch.tensor([int(value)])}
        save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})
        (folder / "config.json").write_text(name)
        folders.append(folder)
    return folders


@pytest.mark.parametrize(("share", "expected"), [(0.0, 1.0), (0.25, 1.5), (1.0, 3.0)])
def test_between_start_and_end(ends, tmp_path, share, expected):
    average(*ends, share, tmp_path / "out")
    found = load_file(tmp_path / "out" / WEIGHTS)
    assert (found["w"].tolist(), found["w"].dtype) == ([expected] * 2, torch.float16)
    assert found["steps"].tolist() == [3]  # whole numbers are the end's
    assert (tmp_path / "out" / "config.json").read_text() == "end"


def test_what_does_not_fit_is_refused(ends, tmp_path):
    with pytest.raises(ValueError, match=r"share in \[0, 1\]"):
        average(*ends, 1.5, tmp_path / "out")
    save_file({"w": torch.zeros(3)}, ends[1] / WEIGHTS)
    with pytest.raises(ValueError, match="differ in"):
        average(*ends, 0.5, tmp_path / "out")


def test_command_line(ends, tmp_path, capsys):
    flags = ["--start", str(ends[0]), "--end", str(ends[1]), "--share", "0.5", "--out", str(tmp_path / "o")]
    main(flags)
    assert load_file(tmp_path / "o" / WEIGHTS)["w"].tolist() == [2.0, 2.0]
    assert "written" in capsys.readouterr().out
