"""Opens the chat: python app.py [--host 127.0.0.1] [--port 7860]. The page itself: medglip_agent/web."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence

os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")  # before gradio is imported: no outside look-ups

from medglip_agent import MedGLIPAgent
from medglip_agent.examples import examples
from medglip_agent.uploads import sweep
from medglip_agent.web.layout import build_page, launch_options
from medglip_agent.web.loading import AgentLoader


def main(argv: Sequence[str] | None = None) -> int:
    """Serve the chat on this machine until it is stopped."""
    args = parse_arguments(argv)
    sweep()
    loader = AgentLoader(
        lambda say: MedGLIPAgent.from_pretrained(args.grounder, args.vlm, args.device, on_progress=say)
    )
    loader.start()
    page = build_page(loader, examples())
    print(f"Med-GLIP Agent: opening http://{args.host}:{args.port} (stop with Ctrl-C)", flush=True)
    page.launch(
        server_name=args.host, server_port=args.port, inbrowser=not args.no_browser, **launch_options()
    )
    return 0


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
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda (default: auto)")
    return parser.parse_args(argv)


if __name__ == "__main__":
    raise SystemExit(main())
