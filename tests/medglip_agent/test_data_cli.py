"""`medglip data`: from phantoms to a built set, what is printed of it, and mistakes in one line."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from llm.data import fetch
from medglip_agent import cli


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two phantoms of CT and two of CR, built by the commands themselves."""
    root = tmp_path_factory.mktemp("data_cli")
    call = ["data", "phantoms", "--out", str(root / "phantoms"), "--count", "2", "--modality", "ct", "CR"]
    assert cli.main(call) == 0
    sources = [
        {"reader": "coco", "path": str(root / "phantoms" / name)} for name in ("phantom_ct", "phantom_cr")
    ]
    (root / "build.yaml").write_text(json.dumps({"sources": sources}))  # JSON is YAML
    assert cli.main(["data", "build", str(root / "build.yaml"), "--out", str(root / "built"), "--quiet"]) == 0
    return root / "built"


def test_a_finished_build_is_told_again(built: Path, capsys: pytest.CaptureFixture[str]) -> None:
    call = ["data", "build", str(built.parent / "build.yaml"), "--out", str(built), "--quiet"]
    assert cli.main(call) == 0
    out, err = capsys.readouterr()
    assert "4 images" in out and str(built) in out and err == ""


def test_stats(built: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert cli.main(["data", "stats", str(built), "--out", str(tmp_path / "stats.png"), "--labels", "1"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("4 images") and "| phantom_ct |" in out and "more labels" in out
    assert (tmp_path / "stats.png").is_file()
    assert cli.main(["data", "stats", str(built), "--json"]) == 0
    counted = json.loads(capsys.readouterr().out)
    assert counted["images"] == 4 and counted["labels"]["left lung"]["images"] == 2


def test_show(built: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    sheet = tmp_path / "new" / "sheet.png"
    call = ["data", "show", str(built), "--out", str(sheet), "--modality", "ct", "--label", "liver"]
    assert cli.main(call) == 0
    assert capsys.readouterr().out == f"2 pictures: {sheet}\n"
    with Image.open(sheet) as picture:
        assert picture.format == "PNG" and picture.width > 700


def test_check_of_a_good_set(built: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["data", "check", str(built), "--pixels"]) == 0
    assert "4 images: 0 errors" in capsys.readouterr().out.splitlines()[-1]


def test_check_of_a_bad_set(built: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """A shard that is there twice: every image id occurs twice."""
    (tmp_path / "data").mkdir()
    (tmp_path / "manifest.json").write_text("{}")
    for number, shard in enumerate([*(built / "data").iterdir()] * 2):
        target = tmp_path / "data" / f"{shard.name.split('-')[0]}-{number:05d}.parquet"
        target.write_bytes(shard.read_bytes())
    assert cli.main(["data", "check", str(tmp_path), "--limit", "1"]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "error: image twice (4)" and lines[2] == "  ... and 3 more"
    assert lines[-1].startswith("8 images: 4 errors, ")
    assert cli.main(["data", "check", str(tmp_path), "--json"]) == 1
    faults = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert {fault["kind"] for fault in faults if fault["severity"] == "error"} == {"image twice"}


@pytest.mark.parametrize("form", ["coco", "odvg", "odvg-grounding", "yolo", "hf"])
def test_export(built: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path, form: str) -> None:
    assert cli.main(["data", "export", str(built), "--format", form, "--out", str(tmp_path / form)]) == 0
    assert f"{tmp_path / form}: 4 images" in capsys.readouterr().out
    assert any((tmp_path / form).iterdir())


def test_labels(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["data", "labels", "right_lung", "livr"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "right_lung: right lung (organ)"
    assert lines[1].split()[:2] == ["in", "lung"] and lines[2].split() == ["side", "right"]
    assert lines[-1] == "livr: unknown; nearest: liver"


def test_fetch(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(fetch, "fetch_dataset", lambda name, folder: Path(folder))
    assert cli.main(["data", "fetch", "slake", "--out", str(tmp_path)]) == 0
    assert capsys.readouterr().out == f"slake: {tmp_path}\n"
    assert cli.main(["data", "fetch", "slake"]) == 0
    assert capsys.readouterr().out == "slake: slake\n"


def test_fetch_lists_the_sets(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["data", "fetch"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert any(line.startswith("slake ") and "CC BY 4.0" in line for line in lines)


def test_fetch_says_where_to_apply(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert cli.main(["data", "fetch", "mimic-cxr", "--out", str(tmp_path)]) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("medglip: mimic-cxr is not downloaded for you.\n")
    assert "physionet.org" in err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["stats", "FOLDER"], "expected manifest.json in FOLDER; build it with `medglip data build`"),
        (["check", "FOLDER"], "expected manifest.json in FOLDER; build it with `medglip data build`"),
        (["stats", "FOLDER", "--out", "a.jpg"], "--out must end in .png, got 'a.jpg'"),
        (["show", "FOLDER", "--out", "a.png", "--count", "0"], "--count must be at least 1, got 0"),
        (["phantoms", "--out", "FOLDER", "--modality", "XX"], "--modality must be among"),
        (["fetch", "slakee"], "unknown data set 'slakee'; did you mean slake?"),
        (["build", "FOLDER/none.yaml", "--out", "FOLDER"], "No such file or directory: 'FOLDER/none.yaml'"),
        (["build", "FOLDER/bad.yaml", "--out", "FOLDER/out"], "no 'cocoo'; did you mean 'coco'?"),
        (["build", "FOLDER/away.yaml", "--out", "FOLDER/out"], "FOLDER/away"),
    ],
)
def test_mistakes_are_told_in_one_line(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, arguments: list[str], message: str
) -> None:
    for name, reader, path in (("bad", "cocoo", "x"), ("away", "coco", tmp_path / "away")):
        text = json.dumps({"sources": [{"reader": reader, "path": str(path)}]})
        (tmp_path / f"{name}.yaml").write_text(text)
    folder = str(tmp_path)
    assert cli.main(["data", *(argument.replace("FOLDER", folder) for argument in arguments)]) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("medglip: ") and err.count("\n") == 1
    assert message.replace("FOLDER", folder) in err


def test_help_loads_nothing_heavy() -> None:
    code = (
        "import sys; from medglip_agent import cli; cli._parser();"
        "print(sorted({'torch', 'pyarrow', 'matplotlib', 'numpy', 'PIL'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
