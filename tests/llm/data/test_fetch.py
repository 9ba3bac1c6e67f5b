"""Fetching, with a hub made of a dictionary; nothing here reaches a network."""

import io
import json
import zipfile
from collections.abc import Callable, Iterable
from hashlib import sha256
from pathlib import Path

import pytest

from llm.data import fetch, sources
from llm.data.fetch import ApplicationNeededError, FetchError, fetch_dataset
from llm.data.sources import SOURCES, Source, find_source, how_to_get


def packed(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return buffer.getvalue()


HUB = {
    "train.json": b"[]",
    "data/test.parquet": b"test",
    "imgs.zip": packed({"imgs/xmlab1/source.jpg": b"picture", "imgs/xmlab1/mask.png": b"mask"}),
}


class Hub:
    """Gives out `files`; counts its calls and may break off after some files."""

    def __init__(self, files: dict[str, bytes]) -> None:
        self.files = files
        self.calls: list[list[str]] = []
        self.gives: int | None = None
        self.error: Exception | None = None

    def __call__(self, repository: str, revision: str, files: Iterable[str], folder: Path) -> None:
        assert (repository, revision) == ("us/toy", "abc")
        wanted = [file for file in files if not (folder / file).is_file()]
        self.calls.append(wanted)
        for file in wanted[: self.gives]:
            (folder / file).parent.mkdir(parents=True, exist_ok=True)
            (folder / file).write_bytes(self.files[file])
        if self.error:
            raise self.error


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Hub:
    files = {"train.json": sha256(b"[]").hexdigest(), "data/test.parquet": "", "imgs.zip": ""}
    toy = Source(
        "Toy", "CC0", "https://hub/us/toy", "train.json", ("copy it",), "us/toy", "abc", files, ("imgs.zip",)
    )
    monkeypatch.setattr(sources, "SOURCES", {**SOURCES, "toy": toy})
    hub = Hub(dict(HUB))
    monkeypatch.setattr(fetch, "snapshot", hub)
    return hub


def test_fetches_unpacks_and_records(hub: Hub, tmp_path: Path) -> None:
    folder = fetch_dataset("toy", tmp_path / "toy")
    assert (folder / "imgs" / "xmlab1" / "source.jpg").read_bytes() == b"picture"
    record = json.loads((folder / "fetched.json").read_text())
    assert (record["repository"], record["revision"], record["licence"]) == ("us/toy", "abc", "CC0")
    assert set(record["files"]) == {*HUB, "imgs/xmlab1/source.jpg", "imgs/xmlab1/mask.png"}
    assert record["files"]["data/test.parquet"] == sha256(b"test").hexdigest()


def test_what_is_whole_is_not_downloaded_again(hub: Hub, tmp_path: Path) -> None:
    fetch_dataset("toy", tmp_path)
    hub.error = ConnectionError("no network")
    fetch_dataset("toy", tmp_path)
    assert len(hub.calls) == 1


@pytest.mark.parametrize("spoil", [lambda path: path.write_bytes(b"other"), lambda path: path.unlink()])
def test_damaged_files_are_fetched_again(hub: Hub, tmp_path: Path, spoil: Callable[[Path], None]) -> None:
    fetch_dataset("toy", tmp_path)
    spoil(tmp_path / "data" / "test.parquet")
    fetch_dataset("toy", tmp_path)
    assert hub.calls[1] == ["data/test.parquet"]
    assert (tmp_path / "data" / "test.parquet").read_bytes() == b"test"


def test_damaged_unpacked_files_need_no_network(hub: Hub, tmp_path: Path) -> None:
    fetch_dataset("toy", tmp_path)
    (tmp_path / "imgs" / "xmlab1" / "mask.png").write_bytes(b"other")
    fetch_dataset("toy", tmp_path)
    assert len(hub.calls) == 1
    assert (tmp_path / "imgs" / "xmlab1" / "mask.png").read_bytes() == b"mask"


def test_goes_on_where_it_was_broken_off(hub: Hub, tmp_path: Path) -> None:
    hub.gives, hub.error = 1, ConnectionError("cable")
    with pytest.raises(FetchError, match=r"ConnectionError: cable.*stays in") as caught:
        fetch_dataset("toy", tmp_path)
    assert "1. copy it" in str(caught.value)
    assert not (tmp_path / "fetched.json").exists()
    hub.gives = hub.error = None
    fetch_dataset("toy", tmp_path)
    assert [len(call) for call in hub.calls] == [3, 2]


def test_client_that_returns_too_little_is_noticed(hub: Hub, tmp_path: Path) -> None:
    hub.gives = 2
    with pytest.raises(FetchError, match=r"1 of 3 files did not come, such as imgs\.zip"):
        fetch_dataset("toy", tmp_path)


def test_other_bytes_than_pinned_or_recorded_are_refused(hub: Hub, tmp_path: Path) -> None:
    hub.files["train.json"] = b"[1]"
    with pytest.raises(FetchError, match=r"expected train\.json with sha256"):
        fetch_dataset("toy", tmp_path / "a")
    hub.files["train.json"] = b"[]"
    fetch_dataset("toy", tmp_path / "b")
    (tmp_path / "b" / "data" / "test.parquet").unlink()
    hub.files["data/test.parquet"] = b"changed"
    with pytest.raises(FetchError, match=r"expected data/test\.parquet"):
        fetch_dataset("toy", tmp_path / "b")


@pytest.mark.parametrize(
    ("archive", "said"), [(packed({"../out.txt": b"x"}), "leads out"), (b"no archive", "damaged")]
)
def test_bad_archives_are_not_unpacked(hub: Hub, tmp_path: Path, archive: bytes, said: str) -> None:
    hub.files["imgs.zip"] = archive
    with pytest.raises(FetchError, match=said):
        fetch_dataset("toy", tmp_path / "toy")
    assert not (tmp_path / "out.txt").exists()


@pytest.mark.parametrize(
    "record", ["{", "[]", '{"repository": "us/toy", "revision": "abc", "files": {"../x": "0"}}']
)
def test_broken_record_is_named_and_nothing_is_touched(hub: Hub, tmp_path: Path, record: str) -> None:
    folder = tmp_path / "toy"
    folder.mkdir()
    (tmp_path / "x").touch()
    (folder / "fetched.json").write_text(record)
    with pytest.raises(FetchError, match=r"fetched\.json is no record"):
        fetch_dataset("toy", folder)
    assert (tmp_path / "x").exists()


def test_record_of_another_revision_starts_over(hub: Hub, tmp_path: Path) -> None:
    (tmp_path / "fetched.json").write_text(
        '{"repository": "us/toy", "revision": "old", "files": {"gone": "0"}}'
    )
    fetch_dataset("toy", tmp_path)
    assert json.loads((tmp_path / "fetched.json").read_text())["revision"] == "abc"


@pytest.mark.parametrize("name", ["mimic-cxr", "ms-cxr", "vindr-cxr", "iu-xray", "sa-med2d"])
def test_others_are_told_how_to_get(tmp_path: Path, name: str) -> None:
    with pytest.raises(
        ApplicationNeededError, match=r"licence: .*\n(?s:.*)https://.*\n(?s:.*)expected in the folder"
    ):
        fetch_dataset(name, tmp_path / name)
    assert not (tmp_path / name).exists()


def test_without_network_the_real_client_leads_to_the_manual_steps(tmp_path: Path) -> None:
    """HF_HUB_OFFLINE is set for all tests."""
    with pytest.raises(
        FetchError, match=r"(?s)could not download vqa-rad.*hf download flaviagiammarino/vqa-rad"
    ):
        fetch_dataset("vqa-rad", tmp_path)


def test_unknown_names_get_the_nearest_or_all() -> None:
    with pytest.raises(ValueError, match="did you mean slake"):
        find_source("slak")
    with pytest.raises(ValueError, match="choose one of vqa-rad, slake"):
        how_to_get("zzz")


def test_every_source_of_the_table_is_pinned_and_whole() -> None:
    for name, source in SOURCES.items():
        assert all((source.title, source.licence, source.url, source.layout, source.steps)), name
        assert (source.repository is None) == (not source.files), name
        if source.repository:
            assert len(source.revision) == 40, name
            assert all(len(pin) in (0, 64) for pin in source.files.values()), name
            assert set(source.archives) <= set(source.files), name
    assert len(SOURCES["path-vqa"].files) == 13
