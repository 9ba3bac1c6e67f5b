"""The page of a run in a real browser, light and dark: nothing fails, nothing runs out of the window."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from PIL import Image

from benchmarks import run_vqa
from benchmarks.page import build_page
from benchmarks.run_folder import read_run
from grounding.data.phantoms import make_phantom

if TYPE_CHECKING:
    from playwright.sync_api import Browser

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def run_page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Baselines on six questions about phantoms."""
    data, out = (tmp_path_factory.mktemp(name) for name in ("data", "run"))
    root = data / "vqa" / "vqa_rad"
    (root / "images").mkdir(parents=True)
    questions = []
    for k in range(6):
        Image.fromarray(make_phantom("CR", k).image.pixels).save(root / "images" / f"{k}.png")
        answer, kind = ("yes", "CLOSED") if k % 2 else ("left lung", "OPEN")
        question = {"qid": k, "image_name": f"{k}.png", "image_organ": "CHEST", "question": f"<b>where {k}?"}
        questions.append(question | {"answer": answer, "answer_type": kind, "question_type": "POS"})
    (root / "trainset.json").write_text(json.dumps(questions[:3]))
    (root / "testset.json").write_text(json.dumps(questions[3:]))
    flags = ["--data-dir", data, "--split", "official-test", "--model", "baselines", "--out", out]
    assert run_vqa.main([str(flag) for flag in flags]) == 0
    path = out / "page.html"
    path.write_text(build_page(read_run(out), data_dir=data), encoding="utf-8")
    return path


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_page_in_a_browser(browser: Browser, run_page: Path, scheme: str, width: int) -> None:
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
    page = context.new_page()
    problems: list[str] = []
    page.on("console", lambda message: problems.append(message.text))
    page.on(
        "request",
        lambda request: None if request.url[:5] in ("file:", "data:") else problems.append(request.url),
    )
    page.goto(run_page.as_uri())
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    shade = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (shade == "rgb(255, 255, 255)") == (scheme == "light")
    boxes = page.evaluate(
        "[...document.querySelectorAll('svg image')].map(e => e.getBoundingClientRect().width)"
    )
    assert boxes and all(box > 100 for box in boxes)
    assert page.locator(".card .asked").first.inner_text().startswith("<b>where")
    assert not problems
    context.close()
