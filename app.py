"""Opens the chat: python app.py [--host 127.0.0.1] [--port 7860]. The page itself: medglip_agent/web."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Sequence
from pathlib import Path

os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")  # before gradio is imported: no outside look-ups

from medglip_agent import MedGLIPAgent
from medglip_agent.audit import AuditLog
from medglip_agent.chat_model import ChatModelAgent
from medglip_agent.examples import examples
from medglip_agent.redact import log_safely
from medglip_agent.uploads import sweep
from medglip_agent.web.layout import build_page, launch_options
from medglip_agent.web.loading import AgentLike, AgentLoader


def main(argv: Sequence[str] | None = None) -> int:
    """Serve the chat on this machine until it is stopped."""
    args = parse_arguments(argv)
    log_safely()
    sweep()
    try:
        audit = None if args.audit is None else AuditLog(args.audit)
    except (OSError, ValueError) as error:  # a file that is no log, or may not be written
        raise SystemExit(f"app.py: --audit {error}") from error
    loader = AgentLoader(lambda say: load_agent(args, say), audit)
    loader.start()
    page = build_page(loader, examples())
    print(f"Med-GLIP Agent: opening http://{args.host}:{args.port} (stop with Ctrl-C)", flush=True)
    page.launch(
        server_name=args.host, server_port=args.port, inbrowser=not args.no_browser, **launch_options()
    )
    return 0


def load_agent(args: argparse.Namespace, say: Callable[[str], None]) -> AgentLike:
    """Load the models that the flags name."""
    agent = MedGLIPAgent.from_pretrained(
        args.grounder, args.vlm, args.device, segmenter=args.segmenter, on_progress=say
    )
    if args.chat_model is None:
        return agent
    say(f"loading the chat model of {args.chat_model} ...")
    return ChatModelAgent.from_config(agent, args.chat_model)


def parse_arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """Read the flags."""
    parser = argparse.ArgumentParser(prog="app.py", description=main.__doc__)
    parser.add_argument(
        "--host", default="127.0.0.1", help="address to serve on (default: this machine only)"
    )
    parser.add_argument("--port", type=int, default=7860, help="port (default: 7860)")
    parser.add_argument("--no-browser", action="store_true", help="do not open a browser")
    parser.add_argument(
        "--grounder", default="nano", help="grounding model: a name or a folder (default: nano)"
    )
    parser.add_argument("--vlm", default="nano", help="language model: a name or a folder (default: nano)")
    parser.add_argument("--segmenter", metavar="FOLDER", help="a SAM or MedSAM model, for outlines")
    parser.add_argument(
        "--chat-model", metavar="YAML", help="a chat model that leads the tools (docs/agent.md)"
    )
    parser.add_argument(
        "--audit", type=Path, metavar="JSONL", help="append a line an answer to this log (docs/serve.md)"
    )
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda (default: auto)")
    return parser.parse_args(argv)


if __name__ == "__main__":
    raise SystemExit(main())
