"""The app's JSON endpoints, seen by the official gradio client."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError

from medglip_agent.examples import Example, examples
from medglip_agent.exports.grounded_json import schema
from medglip_agent.web.layout import build_page, launch_options
from medglip_agent.web.loading import AgentLoader


@pytest.fixture(scope="module")
def chest(tmp_path_factory: pytest.TempPathFactory) -> Example:
    return examples(tmp_path_factory.mktemp("examples"))[0]


@pytest.fixture(scope="module")
def client(loader: AgentLoader, chest: Example, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GRADIO_TEMP_DIR", str(tmp_path_factory.mktemp("gradio")))
        patch.setenv("GRADIO_ANALYTICS_ENABLED", "False")
        page = build_page(loader, [chest])
        _, url, _ = page.launch(prevent_thread_lock=True, **launch_options())
        yield Client(url, verbose=False, analytics_enabled=False)
        page.close()


def test_only_what_is_meant_for_programs_is_offered(client: Client) -> None:
    offered = client.view_api(return_format="dict")["named_endpoints"]
    assert set(offered) == {"/ground", "/ask"}


def test_ground(client: Client, chest: Example) -> None:
    found = client.predict(handle_file(chest.path), ["left lung", "spleen"], 0.0, "CR", api_name="/ground")
    jsonschema.validate(found, schema())
    assert [region["label"] for region in found["regions"]] == ["left lung", "spleen"]


def test_ask(client: Client, chest: Example) -> None:
    found = client.predict(handle_file(chest.path), "Which lung is more opaque?", "CR", api_name="/ask")
    jsonschema.validate(found, schema())
    assert found["kind"] == "answer" and "left lung" in found["answer"]["text"]


@pytest.mark.parametrize(
    ("content", "arguments", "said"),
    [
        (b"no image", ("Why?", ""), "This file cannot be shown"),
        (b"\x89PNG\r\n\x1a\n broken", ("Why?", ""), "This file cannot be shown"),
        (None, (" ", ""), "Write a question first"),
        (None, ("x" * 2001, ""), "2000 characters"),
        (None, ("Why?", "an x-ray"), "DICOM code"),
    ],
)
def test_mistakes_are_sentences(
    client: Client, chest: Example, tmp_path: Path, content: bytes | None, arguments: Any, said: str
) -> None:
    path = chest.path
    if content is not None:
        path = tmp_path / "scan.png"
        path.write_bytes(content)
    with pytest.raises(AppError, match=said) as told:
        client.predict(handle_file(path), *arguments, api_name="/ask")
    assert "Traceback" not in str(told.value) and ".py" not in str(told.value)


def test_a_fault_of_ours_is_told_without_its_words(
    client: Client, chest: Example, loader: AgentLoader, monkeypatch: pytest.MonkeyPatch, capfd: Any
) -> None:
    def fail(*args: object) -> None:
        raise RuntimeError("SECRET^DETAIL")

    monkeypatch.setattr(loader.get(), "ask", fail)
    with pytest.raises(AppError, match="log tells where") as told:
        client.predict(handle_file(chest.path), "Why?", "CR", api_name="/ask")
    assert "SECRET" not in str(told.value) + "".join(capfd.readouterr())
