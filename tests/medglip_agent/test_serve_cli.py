"""medglip serve, mcp, audit: what is checked before any model loads, and what reaches the server."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from medglip_agent import cli, serve_cli
from medglip_agent.audit import AuditLog

TOKEN = "a-token-of-this-test"


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch, agent: Any) -> list[Any]:
    """Stands in for the models and for uvicorn; lists what would be served where."""
    calls: list[Any] = []
    monkeypatch.setattr(serve_cli, "_agent", lambda args: agent)
    monkeypatch.setattr(
        "medglip_agent.serve.run.run", lambda app, host, port: calls.append((app, host, port))
    )
    monkeypatch.delenv(serve_cli.TOKEN_VARIABLE, raising=False)
    return calls


def test_serve_is_local_by_default(served: list[Any], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["serve"]) == 0
    [(_, host, port)] = served
    assert (host, port) == ("127.0.0.1", 8000)
    out, err = capsys.readouterr()
    assert out == "" and "http://127.0.0.1:8000/v1" in err and "Research use only" in err


@pytest.mark.parametrize("command", [["serve"], ["mcp", "--http", "--root", "."]])
def test_the_network_needs_a_token(
    served: list[Any], tmp_path: Path, capsys: pytest.CaptureFixture[str], command: list[str]
) -> None:
    if command[0] == "mcp":
        pytest.importorskip("mcp")
    assert cli.main([*command, "--host", "0.0.0.0"]) == 2
    assert "expected a token" in capsys.readouterr().err and not served
    (tmp_path / "token").write_text(f"{TOKEN}\n")
    assert cli.main([*command, "--host", "0.0.0.0", "--token-file", str(tmp_path / "token")]) == 0
    assert served[0][1] == "0.0.0.0" and TOKEN not in capsys.readouterr().err


def test_a_token_from_the_environment(served: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(serve_cli.TOKEN_VARIABLE, TOKEN)
    assert cli.main(["serve", "--host", "::"]) == 0
    monkeypatch.setenv(serve_cli.TOKEN_VARIABLE, "short")
    assert cli.main(["serve"]) == 2


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["serve", "--max-image-mb", "0"], "--max-image-mb must be at least 1"),
        (["serve", "--waiting", "-1"], "--waiting must be at least 0"),
        (["serve", "--token-file", "absent"], "absent"),
        (["mcp", "--root", "absent"], "expected a folder"),
        (["audit", "verify", "absent"], "absent"),
    ],
)
def test_mistakes_are_told_in_a_line(
    served: list[Any], capsys: pytest.CaptureFixture[str], arguments: list[str], told: str
) -> None:
    if arguments[0] == "mcp":
        pytest.importorskip("mcp")
    assert cli.main(arguments) == 2
    assert told in capsys.readouterr().err and not served


def test_audit_verify(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "audit.jsonl"
    head = AuditLog(path).append("ask", {"regions": 2})
    assert cli.main(["audit", "verify", str(path), "--head", head]) == 0
    assert f"1 lines hold together; head {head}" in capsys.readouterr().out
    path.write_text(path.read_text().replace('"regions": 2', '"regions": 3'))
    assert cli.main(["audit", "verify", str(path)]) == 2
    assert "line 1: was changed" in capsys.readouterr().err
