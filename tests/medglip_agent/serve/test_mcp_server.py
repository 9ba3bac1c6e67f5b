"""The MCP server, seen by the official client: over memory, over HTTP and over stdin and stdout."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from benchmarks.coded_pictures import QUESTION, CodedGrounder, CodedVLM, coded_picture
from grounding.probe import Limits
from medglip_agent.agent import MedGLIPAgent
from medglip_agent.audit import AuditLog, verify
from medglip_agent.exports.grounded_json import schema

pytest.importorskip("mcp")
import anyio
from mcp import ClientSession, StdioServerParameters
from mcp.client.stdio import stdio_client
from mcp.shared.memory import create_connected_server_and_client_session as connected

from medglip_agent.mcp_server import Tools, build_http_app, build_server

REPOSITORY = Path(__file__).resolve().parents[3]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "images"
    (folder / "study").mkdir(parents=True)
    (folder / "study" / "a.png").write_bytes(coded_picture(16))
    (folder / "large.png").write_bytes(coded_picture(16) + bytes(5000))
    (folder / "notes.txt").write_text("no image")
    (tmp_path / "outside.png").write_bytes(coded_picture(99))
    (folder / "link.png").symlink_to(tmp_path / "outside.png")
    return folder


@pytest.fixture
def tools(root: Path, tmp_path: Path) -> Tools:
    agent = MedGLIPAgent(CodedGrounder(), CodedVLM())
    return Tools(agent, root, limits=Limits(max_bytes=4000), audit=AuditLog(tmp_path / "audit.jsonl"))


def talk(tools: Tools, conversation: Callable[[ClientSession], Awaitable[Any]]) -> Any:
    """Run a conversation of the official client with the server, in this process."""

    async def run() -> Any:
        async with connected(build_server(tools)) as session:
            return await conversation(session)

    return anyio.run(run)


def call(tools: Tools, name: str, **arguments: Any) -> Any:
    return talk(tools, lambda session: session.call_tool(name, arguments))


def test_the_tools_say_what_they_take(tools: Tools) -> None:
    listed = {tool.name: tool for tool in talk(tools, lambda session: session.list_tools()).tools}
    assert set(listed) == {"ground", "ask", "report"}
    assert all(tool.annotations.readOnlyHint and tool.description for tool in listed.values())
    assert listed["ground"].inputSchema["required"] == ["path", "phrases"]


def test_ask(tools: Tools, tmp_path: Path) -> None:
    result = call(tools, "ask", path="study/a.png", question=QUESTION, modality="cr")
    assert not result.isError
    assert '<data from="answer">\n| left code 16 [R1].\n' in result.content[0].text
    jsonschema.validate(result.structuredContent, schema())
    assert result.structuredContent["regions"][0]["box_xyxy"] == [0, 0, 3, 3]
    assert result.structuredContent["image"]["modality"] == "CR"
    assert verify(tmp_path / "audit.jsonl").count == 1
    assert "normal" not in (tmp_path / "audit.jsonl").read_text()


def test_ground_and_report(tools: Tools) -> None:
    found = call(tools, "ground", path="study/a.png", phrases=["left lung", "heart"]).structuredContent
    assert [region["label"] for region in found["regions"]] == ["left lung"] and found["missing"] == ["heart"]
    written = call(tools, "report", path="study/a.png", modality="CR")
    assert written.structuredContent["kind"] == "report" and "Impression" in written.content[0].text


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"path": "../outside.png"}, "no such file in the shared folder"),
        ({"path": "link.png"}, "no such file in the shared folder"),
        ({"path": "/etc/passwd"}, "no such file in the shared folder"),
        ({"path": "study"}, "no such file in the shared folder"),
        ({"path": "large.png"}, "at most 4000"),
        ({"path": "notes.txt"}, "no known image format"),
        ({"path": "study/a.png", "frame": 4}, "no frame 4"),
        ({"path": "study/a.png", "window": [40, -1]}, "window must be"),
        ({"path": "study/a.png", "modality": "<x>"}, "DICOM code"),
        ({"path": "study/a.png", "modality": "x"}, "DICOM code"),
        ({"path": "study/a.png", "question": "x" * 2001}, "2000"),
        ({"path": "study/a.png", "question": "Is it normal?", "frame": -1}, "frame"),
        ({}, "path"),
    ],
)
def test_wrong_calls_are_told_to_the_model(tools: Tools, arguments: dict[str, Any], told: str) -> None:
    result = call(tools, "ask", **{"question": QUESTION, **arguments})
    assert result.isError and told in result.content[0].text
    assert "outside" not in result.content[0].text and "Traceback" not in result.content[0].text


def test_faults_of_ours_tell_no_detail(tools: Tools, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(CodedVLM, "reply", lambda self, prompt: 1 / 0)
    result = call(tools, "ask", path="study/a.png", question="Is it normal?")
    assert result.isError and "its log tells more" in result.content[0].text
    assert "division" not in result.content[0].text


def test_http_asks_for_the_token(tools: Tools, serve: Callable[[Any], str]) -> None:
    import httpx
    from mcp.client.streamable_http import streamable_http_client

    token = "a-token-of-this-test"
    address = serve(build_http_app(tools, "127.0.0.1", token)) + "/mcp"
    assert httpx.post(address, json={}).status_code == 401
    wrong_name = {"Authorization": f"Bearer {token}", "Host": "evil.example"}
    assert httpx.post(address, json={}, headers=wrong_name).status_code == 403

    async def ask() -> Any:
        async with (
            httpx.AsyncClient(headers={"Authorization": f"Bearer {token}"}) as http,
            streamable_http_client(address, http_client=http) as (read, write, _),
            ClientSession(read, write) as session,
        ):
            await session.initialize()
            return await session.call_tool("ask", {"path": "study/a.png", "question": QUESTION})

    assert "left code 16" in anyio.run(ask).content[0].text


def test_other_machines_need_a_token(tools: Tools) -> None:
    with pytest.raises(ValueError, match="expected a token"):
        build_http_app(tools, "0.0.0.0", None)


def test_stdio(root: Path, tmp_path: Path) -> None:
    """As an MCP host starts it; only the protocol may go to stdout."""
    script = tmp_path / "server.py"
    script.write_text(
        "import pathlib, sys\n"
        "from benchmarks.coded_pictures import CodedGrounder, CodedVLM\n"
        "from medglip_agent.agent import MedGLIPAgent\n"
        "from medglip_agent.cli import main\n"
        "MedGLIPAgent.from_pretrained = lambda *a, **k: MedGLIPAgent(CodedGrounder(), CodedVLM())\n"
        "sys.exit(main(['mcp', '--root', sys.argv[1]]))\n"
    )
    paths = os.pathsep.join([str(REPOSITORY), os.environ.get("PYTHONPATH", "")])
    parameters = StdioServerParameters(
        command=sys.executable, args=[str(script), str(root)], env={**os.environ, "PYTHONPATH": paths}
    )

    async def ask() -> Any:
        async with stdio_client(parameters) as (read, write), ClientSession(read, write) as session:
            await session.initialize()
            return await session.call_tool("ask", {"path": "study/a.png", "question": QUESTION})

    result = anyio.run(ask)
    assert "left code 16" in result.content[0].text
    assert json.loads(json.dumps(result.structuredContent))["kind"] == "answer"
