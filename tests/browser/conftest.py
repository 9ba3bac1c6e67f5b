"""A running app and a browser to look at it, or a skip with the reason."""

from __future__ import annotations

import importlib.util
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

_ROOT = Path(__file__).parents[2]
_FLAGS = ("--no-sandbox", "--disable-gpu", "--disable-background-networking")
_TIMEOUT_MS = 120_000  # a loaded machine is slow; nothing here measures time


def _chromium() -> str:
    """Return the browser's path: $CHROMIUM, or the system's."""
    for name in (os.environ.get("CHROMIUM", ""), "chromium", "chromium-browser", "google-chrome"):
        if name and (path := shutil.which(name)):
            return path
    pytest.skip("no Chromium found: apt-get install chromium, or set CHROMIUM to its path")


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """A headless Chromium."""
    path = _chromium()
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is absent: pip install '.[dev]'")
    with sync_api.sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=path, args=list(_FLAGS))
        yield opened
        opened.close()


@pytest.fixture(scope="session")
def app_url(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of the app on the nano models where they are, else on the phantoms' true boxes."""
    from medglip_agent.examples import examples
    from medglip_agent.web.layout import build_page, launch_options
    from medglip_agent.web.loading import AgentLoader

    loader = AgentLoader(lambda say: _nano_agent() if _has_nano() else _fake_agent())
    loader.start()
    page = build_page(loader, examples(tmp_path_factory.mktemp("examples")))
    _, url, _ = page.launch(prevent_thread_lock=True, **launch_options())
    yield url
    page.close()


@pytest.fixture
def page(browser: Browser, app_url: str) -> Iterator[Page]:
    """A fresh session, its first example open."""
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    context.set_default_timeout(_TIMEOUT_MS)
    opened = context.new_page()
    opened.goto(app_url)
    opened.wait_for_selector(".mg-picture img")
    yield opened
    context.close()


def _has_nano() -> bool:
    from grounding.base_weights import NAMES, is_cached

    checkpoints = [
        _ROOT / package / "checkpoints" / "nano" / "config.json" for package in ("grounding", "llm")
    ]
    return all(path.is_file() for path in checkpoints) and all(is_cached(name) for name in NAMES)


def _nano_agent() -> object:
    from medglip_agent import MedGLIPAgent

    return MedGLIPAgent.from_pretrained()


def _fake_agent() -> object:
    path = _ROOT / "tests" / "medglip_agent" / "web" / "fakes.py"
    spec = importlib.util.spec_from_file_location("medglip_fakes", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.make_agent()
