"""The page in a real browser: upload, ask, boxes, slider, errors, and sessions that do not see each other."""

from __future__ import annotations

import os
import re
import runpy
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from PIL import Image

from grounding.data.phantoms import make_phantom

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def picture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A real chest X-ray where the data is, else a phantom."""
    root = Path(os.environ.get("MEDGLIP_DATA", "/nonexistent"), "grounding", "cxr_lungs")
    for path in sorted(root.rglob("*.jpg")):
        return path
    path = tmp_path_factory.mktemp("picture") / "uploaded chest.png"
    Image.fromarray(make_phantom("CR", 4).image.pixels).save(path)
    return path


def upload(page: Page, path: Path) -> None:
    page.set_input_files("#mg-upload input[type=file]", path)
    page.wait_for_function(
        "name => document.querySelector('#mg-caption').textContent.includes(name)", arg=path.name
    )


def ask(page: Page, question: str) -> str:
    """Ask and return the finished answer's text."""
    page.fill("#mg-question textarea", question)
    page.click("#mg-question button")
    page.wait_for_selector("#mg-chat .bot small")
    return page.inner_text("#mg-chat .bot >> nth=-1")


def shown_boxes(page: Page) -> int:
    return page.locator(".mg-box:visible").count()


def test_upload_ask_answer_and_boxes(page: Page, picture: Path) -> None:
    upload(page, picture)
    page.click("#mg-kind input")
    page.get_by_role("option", name=re.compile(r"\(CR\)")).click()
    page.wait_for_function("document.querySelector('#mg-caption').textContent.includes('X-ray')")
    text = ask(page, "Where are the lungs?")
    assert re.match(r"\w+.*\bR\d+\b", text, re.DOTALL), "words, then a citation"
    assert shown_boxes(page) >= 1
    assert "lung" in page.inner_text("#mg-regions")
    page.click("#mg-trace button")
    page.wait_for_selector(".mg-trace >> text=grounding")


def test_citation_lights_its_box_up(page: Page) -> None:
    ask(page, "Where are the lungs?")
    link = page.locator("#mg-chat a[href^='#R']").first
    number = link.inner_text().removeprefix("R")
    link.hover()
    assert "mg-lit" in (page.get_attribute(f".mg-box[data-region='{number}']", "class") or "")


def test_score_slider_hides_and_shows_boxes_again(page: Page) -> None:
    ask(page, "Where are the lungs?")
    before = shown_boxes(page)
    scores = sorted(
        float(s) for s in page.eval_on_selector_all(".mg-box", "e => e.map(x => x.dataset.score)")
    )
    assert before == len(scores) >= 1
    slider = page.locator("#mg-score input[type=number]")
    threshold = min(1.0, int(scores[0] * 100) / 100 + 0.01)
    slider.fill(f"{threshold:.2f}")
    slider.press("Tab")
    page.wait_for_function("document.querySelectorAll('.mg-box[hidden]').length > 0")
    assert shown_boxes(page) == sum(score >= threshold for score in scores) < before
    slider.fill("0")
    slider.press("Tab")
    page.wait_for_function("document.querySelectorAll('.mg-box[hidden]').length === 0")
    assert shown_boxes(page) == before


def test_a_part_is_drawn_and_asked_about(page: Page) -> None:
    frame = page.locator(".mg-picture").bounding_box()
    size = page.eval_on_selector(".mg-picture", "e => [Number(e.dataset.width), Number(e.dataset.height)]")
    assert frame is not None
    page.mouse.move(frame["x"] + 0.25 * frame["width"], frame["y"] + 0.25 * frame["height"])
    page.mouse.down()
    page.mouse.move(frame["x"] + 0.5 * frame["width"], frame["y"] + 0.75 * frame["height"], steps=5)
    page.mouse.up()
    field = page.locator("#mg-box").locator("textarea, input")
    written = [int(part) for part in field.input_value().split(",")]
    for value, part, side in zip(written, (0.25, 0.25, 0.5, 0.75), (*size, *size), strict=True):
        assert abs(value - part * side) <= 0.01 * side + 1
    assert "The marked region lies" in ask(page, "Is this normal?")
    page.wait_for_selector(".mg-mark")
    page.click("#mg-examples button.thumbnail-item >> nth=1")
    page.wait_for_function("!document.querySelector('.mg-mark')")
    assert field.input_value() == ""


def test_report_links_its_sentences(page: Page) -> None:
    page.click("#mg-report")
    page.wait_for_selector("#mg-chat .bot small")
    text = page.inner_text("#mg-chat .bot >> nth=-1")
    assert "Findings" in text and "Impression" in text and "not grounded" in text
    page.locator("#mg-chat li a[href='#R1']").first.hover()
    assert "mg-lit" in (page.get_attribute(".mg-box[data-region='1']", "class") or "")


def test_an_earlier_picture_is_compared_with(page: Page, picture: Path) -> None:
    upload(page, picture)
    page.click("#mg-compare button")
    page.set_input_files("#mg-prior input[type=file]", picture)
    page.wait_for_selector(f"#mg-prior >> text={picture.name[:12]}")
    assert "Both images have the same pixels" in ask(page, "What has changed?")


def test_answer_is_downloaded_in_the_chosen_format(page: Page, tmp_path: Path) -> None:
    ask(page, "Where are the lungs?")
    page.click("#mg-export button")
    page.click("#mg-format input")
    page.get_by_role("option", name=re.compile("HTML")).click()
    page.wait_for_selector("#mg-download a[download$='.html']")
    with page.expect_download() as download:
        page.click("#mg-download a")
    path = tmp_path / "answer.html"
    download.value.save_as(path)
    text = path.read_text(encoding="utf-8")
    assert "Where are the lungs?" in text and "Research use only" in text and "sha256" in text
    page.fill("#mg-question textarea", "Where is the heart?")
    page.click("#mg-question button")
    page.wait_for_function("!document.querySelector('#mg-download a')")  # the file of the old answer


def test_broken_file_is_a_friendly_sentence(page: Page, tmp_path: Path) -> None:
    path = tmp_path / "notes.dcm"
    path.write_text("This is a letter, not a picture.")
    page.set_input_files("#mg-upload input[type=file]", path)
    toast = page.wait_for_selector(".toast-body, .toast-wrap")
    text = (toast.inner_text() if toast else "").replace("\n", " ")
    assert "This file cannot be shown" in text
    assert "notes.dcm" in text
    assert "Traceback" not in text


def test_example_opens_and_suggests_its_question(page: Page) -> None:
    page.click("#mg-examples button.thumbnail-item >> nth=1")
    page.wait_for_function("document.querySelector('#mg-caption').textContent.includes('Abdominal CT')")
    page.click("#mg-suggestions button >> nth=0")
    page.wait_for_selector("#mg-chat .bot small")
    assert "liver" in page.inner_text("#mg-chat .user").lower()
    assert shown_boxes(page) >= 1


def test_sessions_do_not_see_each_other(page: Page, browser: Browser, app_url: str, picture: Path) -> None:
    upload(page, picture)
    mine = page.get_attribute(".mg-picture img", "src")
    ask(page, "Where are the lungs?")
    other = browser.new_context()
    theirs = other.new_page()
    theirs.goto(app_url)
    theirs.wait_for_selector(".mg-picture img")
    assert picture.name not in theirs.inner_text("body")
    assert theirs.get_attribute(".mg-picture img", "src") != mine
    assert theirs.locator(".mg-box").count() == 0
    assert theirs.locator("#mg-chat .bot").count() == 0
    other.close()


def test_notice_and_limits_are_on_the_page_and_nothing_is_fetched_elsewhere(
    browser: Browser, app_url: str
) -> None:
    context = browser.new_context(viewport={"width": 390, "height": 844})
    fresh = context.new_page()
    requests: list[str] = []
    fresh.on("request", lambda request: requests.append(request.url))
    fresh.goto(app_url)
    fresh.wait_for_selector(".mg-picture img")
    assert fresh.locator("text=Research use only").is_visible()
    assert fresh.locator(".mg-limits").count() == 1
    assert fresh.evaluate("document.documentElement.scrollWidth") <= 390, "no sideways scrolling on a phone"
    outside = [url for url in requests if not url.startswith((app_url, "data:", "blob:"))]
    assert outside == []
    context.close()


def test_boxes_reach_programs_as_json(app_url: str, picture: Path) -> None:
    path = Path(__file__).parents[2] / "examples" / "call_the_app.py"
    example = runpy.run_path(str(path))
    phrases = ["left lung", "right lung"]
    answer, grounding = example["call"](app_url, str(picture), "Where are the lungs?", phrases, "CR")
    assert answer["answer"]["text"]
    assert answer["image"]["modality"] == "CR"
    assert grounding["kind"] == "grounding"
    assert {region["label"] for region in grounding["regions"]} <= set(phrases)
    assert all(len(region["box_xyxy"]) == 4 for region in grounding["regions"])


def test_frames_can_be_stepped_through(page: Page, tmp_path: Path) -> None:
    path = tmp_path / "pages.tif"
    first, second = (Image.new("L", (64, 64), grey) for grey in (60, 200))
    first.save(path, save_all=True, append_images=[second])
    upload(page, path)
    before = page.get_attribute(".mg-picture img", "src")
    page.locator("#mg-frame input[type=number]").fill("2")
    page.locator("#mg-frame input[type=number]").press("Enter")
    page.wait_for_function("document.querySelector('#mg-caption').textContent.includes('frame 2 of 2')")
    assert page.get_attribute(".mg-picture img", "src") != before
