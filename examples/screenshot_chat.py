"""Make docs/images/chat.png: ask the running app about its first example, a phantom, and take a picture.

make app                                          # in one terminal
python examples/screenshot_chat.py --out docs/images/chat.png
"""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Sequence
from pathlib import Path

_HEIGHT = 900


def main(argv: Sequence[str] | None = None) -> None:
    """Open the page in a headless Chromium, ask, wait for the answer, save what is seen."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--url", default="http://127.0.0.1:7860")
    parser.add_argument("--question", default="Where are the lungs?")
    parser.add_argument("--width", type=int, default=1280, help="of the window, in pixels")
    parser.add_argument("--dark", action="store_true", help="the dark theme")
    parser.add_argument("--out", type=Path, required=True, help="PNG to write")
    args = parser.parse_args(argv)

    from playwright.sync_api import sync_playwright

    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        raise SystemExit("expected a Chromium on the PATH, found none; apt-get install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": args.width, "height": _HEIGHT})
        page.goto(f"{args.url}/?__theme={'dark' if args.dark else 'light'}")
        page.wait_for_selector(".mg-picture img")
        page.fill("#mg-question textarea", args.question)
        page.click("#mg-question button")
        page.wait_for_selector("#mg-chat .bot small", timeout=120_000)
        page.wait_for_timeout(1000)  # boxes fade in
        args.out.parent.mkdir(parents=True, exist_ok=True)
        top = page.locator(".mg-picture").bounding_box()["y"] - 8  # above it are examples of real patients
        page.screenshot(path=args.out, clip={"x": 0, "y": top, "width": args.width, "height": _HEIGHT - top})
        browser.close()


if __name__ == "__main__":
    main()
