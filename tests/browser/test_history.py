"""Past conversations: kept in the browser, there again after the app was killed; new, open, delete."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from PIL import Image

from grounding.data.phantoms import make_phantom
from medglip_agent.audit import verify

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = pytest.mark.browser

ROOT = Path(__file__).resolve().parents[2]
# `app.py` itself, with the fakes of the page's other tests; the word "hangs" in a question keeps it busy.
COMMAND = """
import runpy, sys, time
import app
fakes = runpy.run_path("tests/medglip_agent/web/fakes.py")
said = fakes["FixedModel"]._answer
fakes["FixedModel"]._answer = staticmethod(lambda text: time.sleep(600) if "hangs" in text else said(text))
app.load_agent = lambda args, say: fakes["make_agent"]()
sys.exit(app.main(sys.argv[1:]))
"""
QUESTION = "Which lung is *more* opaque?"


@contextmanager
def app(port: int, folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run the chat as a process with an audit log; it is killed in the end."""
    flags = ["--port", str(port), "--no-browser", "--audit", str(folder / "audit.jsonl")]
    environment = {**os.environ, "TMPDIR": str(folder), "GRADIO_TEMP_DIR": str(folder / "gradio")}
    process = subprocess.Popen([sys.executable, "-c", COMMAND, *flags], cwd=ROOT, env=environment)
    try:
        while True:
            assert process.poll() is None
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/").close()
                break
            except OSError:
                time.sleep(0.2)
        yield process
    finally:
        process.kill()
        process.wait()


@pytest.fixture
def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "Doe Jane 1970.png"
    Image.fromarray(make_phantom("CR", 4).image.pixels).save(path)
    return path


def ask(page: Page, question: str, answers: int) -> None:
    """Ask, and wait until so many answers are there."""
    page.fill("#mg-question textarea", question)
    page.click("#mg-question button")
    page.wait_for_function(f"document.querySelectorAll('#mg-chat .bot small').length === {answers}")


def listed(page: Page) -> list[str]:
    """The past conversations to choose from."""
    page.click("#mg-past input")
    names: list[str] = page.locator("#mg-past [role=option]").all_inner_texts()
    page.keyboard.press("Escape")
    page.locator("#mg-past input").blur()
    return names


def open_past(page: Page, words: str) -> None:
    page.click("#mg-past input")
    page.locator("#mg-past [role=option]", has_text=words).click()
    page.wait_for_function("document.querySelector('#mg-caption').textContent.includes('past conversation')")
    page.wait_for_selector(f"#mg-chat .user >> text={words}")


def test_kill_9_and_restart_leave_the_history_intact(
    browser: Browser, free_port: int, tmp_path: Path, picture: Path
) -> None:
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    context.set_default_timeout(60_000)
    page = context.new_page()
    with app(free_port, tmp_path) as process:
        page.goto(f"http://127.0.0.1:{free_port}")
        page.wait_for_selector(".mg-picture img")
        page.set_input_files("#mg-upload input[type=file]", picture)
        page.wait_for_function("document.querySelector('#mg-caption').textContent.includes('Doe')")
        ask(page, QUESTION, answers=1)
        answer = page.inner_text("#mg-chat .bot >> nth=-1")
        page.fill("#mg-question textarea", "Is it so, although it hangs?")
        page.click("#mg-question button")
        page.wait_for_selector("#mg-chat .user >> nth=1")
        page.wait_for_function("document.querySelector('#mg-past input').value")
        process.send_signal(signal.SIGKILL)
        process.wait()

    with app(free_port, tmp_path):
        page.close()
        page = context.new_page()
        page.goto(f"http://127.0.0.1:{free_port}")
        page.wait_for_selector(".mg-picture img")
        assert page.locator("#mg-chat .user").count() == 0, "it opens with a new conversation"
        (name,) = listed(page)
        assert name.endswith(f"· {QUESTION}")
        open_past(page, QUESTION)
        assert page.locator("#mg-chat .user").all_inner_texts() == [QUESTION, "Is it so, although it hangs?"]
        answered, unanswered = page.locator("#mg-chat .bot").all_inner_texts()
        assert answered == answer and "R" in answer
        assert unanswered.startswith("Not answered")
        assert page.locator(".mg-picture").count() == 0, "its picture is not kept, nor another shown"
        assert "picture was not kept" in page.inner_text("#mg-caption")
        page.fill("#mg-question textarea", "And now?")
        page.click("#mg-question button")
        page.wait_for_selector(".toast-body >> text=Open an image")
        assert verify(tmp_path / "audit.jsonl").count == 1
        kept = page.evaluate("JSON.stringify(localStorage)")
        assert "opaque" in kept
        assert not any(word in kept for word in ("Doe", "1970", "data:image", "And now"))
    context.close()


def test_new_open_and_delete(page: Page) -> None:
    assert listed(page) == []
    ask(page, "Where is the left lung?", answers=1)
    page.click("#mg-new")
    page.wait_for_function("!document.querySelector('#mg-chat .bot, .mg-box')")
    assert page.locator(".mg-picture img").count() == 1, "the same picture, nothing asked"
    ask(page, "Where is the right lung?", answers=1)
    assert [name.partition(" · ")[2] for name in listed(page)] == [
        "Where is the right lung?",
        "Where is the left lung?",
    ]
    open_past(page, "left lung")
    assert page.inner_text("#mg-chat .user") == "Where is the left lung?"
    page.click("#mg-examples button.thumbnail-item >> nth=0")
    page.wait_for_selector(".mg-picture img")
    page.wait_for_function("!document.querySelector('#mg-chat .user')")
    open_past(page, "right lung")
    page.click("#mg-delete")
    page.wait_for_function("!document.querySelector('#mg-chat .user')")
    (left,) = listed(page)
    assert left.endswith("Where is the left lung?")
    page.reload()
    page.wait_for_selector(".mg-picture img")
    assert listed(page) == [left]


def test_two_tabs_keep_each_others_conversations(page: Page) -> None:
    other = page.context.new_page()
    other.goto(page.url)
    other.wait_for_selector(".mg-picture img")
    ask(page, "Where is the left lung?", answers=1)
    ask(other, "Where is the right lung?", answers=1)
    ask(page, "Where are the lungs?", answers=2)
    other.reload()
    other.wait_for_selector(".mg-picture img")
    assert sorted(name.partition(" · ")[2] for name in listed(other)) == [
        "Where is the left lung?",
        "Where is the right lung?",
    ]
