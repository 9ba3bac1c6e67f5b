"""The command line of the servers and their log: `medglip serve | mcp | audit verify`.

Owns arguments; heavy imports happen only once a command runs. Mistakes are raised as ValueError or OSError,
which `cli.py` tells in one line.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from . import NOTICE

if TYPE_CHECKING:
    from .agent import MedGLIPAgent
    from .audit import AuditLog

TOKEN_VARIABLE: Final = "MEDGLIP_TOKEN"


def add_serve_commands(commands: Any) -> None:
    """Attach serve, mcp and audit to the subparsers of `medglip`."""
    serve = commands.add_parser("serve", help="answer over HTTP as OpenAI's API does", epilog=NOTICE)
    _add_address(serve, 8000)
    _add_models(serve)
    serve.add_argument("--max-image-mb", type=int, default=64, help="largest file (default: 64)")
    serve.add_argument("--waiting", type=int, default=32, help="requests that may wait (default: 32)")
    serve.set_defaults(run=_serve)

    mcp = commands.add_parser("mcp", help="offer ground, ask and report as MCP tools", epilog=NOTICE)
    mcp.add_argument("--root", type=Path, required=True, metavar="DIR", help="only files below it are read")
    mcp.add_argument("--http", action="store_true", help="serve HTTP at /mcp instead of stdin and stdout")
    _add_address(mcp, 8001)
    _add_models(mcp)
    mcp.add_argument("--max-image-mb", type=int, default=64, help="largest file (default: 64)")
    mcp.set_defaults(run=_mcp)

    audit = commands.add_parser("audit", help="check an audit log")
    actions = audit.add_subparsers(required=True, metavar="COMMAND")
    verify = actions.add_parser("verify", help="check that no line was changed, added or removed")
    verify.add_argument("file", type=Path, metavar="FILE")
    verify.add_argument("--head", metavar="HASH", help="noted earlier: it must still be in the chain")
    verify.set_defaults(run=_verify)


def _add_address(parser: argparse.ArgumentParser, port: int) -> None:
    parser.add_argument("--host", default="127.0.0.1", help="address (default: this machine only)")
    parser.add_argument("--port", type=int, default=port, help=f"port (default: {port})")
    parser.add_argument(
        "--token-file",
        type=Path,
        metavar="FILE",
        help=f"holds the token that requests must bear; or set {TOKEN_VARIABLE}",
    )


def _add_models(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--grounder", default="nano", help="name or folder (default: nano)")
    parser.add_argument("--vlm", default="nano", help="name or folder (default: nano)")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda (default: auto)")
    parser.add_argument("--audit", type=Path, metavar="JSONL", help="append a line an answer to this log")
    parser.add_argument(
        "--audit-texts", action="store_true", help="also log questions and answers as they are"
    )


def _serve(args: argparse.Namespace) -> int:
    from grounding.probe import Limits

    from .serve.application import Settings, build_app
    from .serve.guard import names_for
    from .serve.lane import LaneLimits
    from .serve.run import run

    token = _token(args)
    names = names_for(args.host, token)
    if args.waiting < 0:
        raise ValueError(f"--waiting must be at least 0, got {args.waiting}")
    audit = _audit(args)
    lane, limits = LaneLimits(waiting=args.waiting), Limits(max_bytes=_megabytes(args))
    app = build_app(_agent(args), Settings(token, names, limits, lane, audit=audit))
    _say(f"serving http://{args.host}:{args.port}/v1 (stop with Ctrl-C). {NOTICE}")
    run(app, args.host, args.port)
    return 0


def _mcp(args: argparse.Namespace) -> int:
    from grounding.probe import Limits

    from .redact import log_safely

    try:
        from .mcp_server import Tools, build_http_app, build_server
        from .serve.guard import names_for
    except ImportError as error:
        raise ValueError("expected the extra mcp, which is not installed: pip install '.[mcp]'") from error
    token, audit, limits = _token(args), _audit(args), Limits(max_bytes=_megabytes(args))
    if not args.root.is_dir():
        raise ValueError(f"expected a folder with image files, got {args.root}: give another --root")
    if args.http:
        names_for(args.host, token)  # before any model loads
    tools = Tools(_agent(args), args.root, limits=limits, audit=audit)
    if args.http:
        from .serve.run import run

        app = build_http_app(tools, args.host, token)
        _say(f"serving http://{args.host}:{args.port}/mcp (stop with Ctrl-C). {NOTICE}")
        run(app, args.host, args.port)
        return 0
    server = build_server(tools)
    log_safely()
    server.run("stdio")
    return 0


def _verify(args: argparse.Namespace) -> int:
    from .audit import verify

    chain = verify(args.file, args.head)
    print(f"{args.file}: {chain.count} lines hold together; head {chain.head}")
    return 0


def _token(args: argparse.Namespace) -> str | None:
    if args.token_file is not None:
        token: str = args.token_file.read_text(encoding="utf-8").strip()
        if not token:
            raise ValueError(f"expected a token in {args.token_file}, got an empty file")
        return token
    return os.environ.get(TOKEN_VARIABLE) or None


def _audit(args: argparse.Namespace) -> AuditLog | None:
    from .audit import AuditLog

    return None if args.audit is None else AuditLog(args.audit, keep_texts=args.audit_texts)


def _megabytes(args: argparse.Namespace) -> int:
    if args.max_image_mb < 1:
        raise ValueError(f"--max-image-mb must be at least 1, got {args.max_image_mb}")
    return int(args.max_image_mb) << 20


def _agent(args: argparse.Namespace) -> MedGLIPAgent:
    from .agent import MedGLIPAgent
    from .uploads import sweep

    sweep()
    return MedGLIPAgent.from_pretrained(args.grounder, args.vlm, args.device, on_progress=_say)


def _say(message: str) -> None:
    print(f"medglip: {message}", file=sys.stderr, flush=True)
