"""The page to type and listen, in a real Chromium: by keyboard and mouse, in both colour schemes, with its errors."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import soundfile
from playwright.sync_api import Browser, Page, expect

PATIENCE_MS = 60_000
# Contrast of every visible text against what lies behind it, and whether every control has a name (WCAG 2.2, 1.4.3 and
# 4.1.2).
LOW_CONTRAST = """() => {
  const parts = (colour) => colour.match(/[\\d.]+/g).map(Number);
  const light = (colour) => parts(colour).slice(0, 3).map((value) => value / 255)
    .map((value) => value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4)
    .reduce((sum, value, i) => sum + value * [0.2126, 0.7152, 0.0722][i], 0);
  const behind = (element) => {
    for (; element; element = element.parentElement) {
      const colour = getComputedStyle(element).backgroundColor;
      if (parts(colour)[3] !== 0) return colour;
    }
  };
  const texts = [...document.querySelectorAll("h1, h2, p, label, textarea, button:enabled, a, footer, kbd, span")];
  return texts.filter((element) => element.textContent.trim() || element.value).map((element) => {
    const [high, low] = [light(getComputedStyle(element).color), light(behind(element))].sort((a, b) => b - a);
    return [element.outerHTML.slice(0, 60), (high + 0.05) / (low + 0.05)];
  }).filter(([, ratio]) => ratio < 4.5);
}"""


@pytest.fixture(params=["light", "dark"])
def page(browser: Browser, address: str, request: pytest.FixtureRequest) -> Iterator[Page]:
    context = browser.new_context(color_scheme=request.param)
    context.set_default_timeout(PATIENCE_MS)
    page = context.new_page()
    page.goto(address)
    expect(page.get_by_text("anna, ben · EN, ZH · 16,000 Hz")).to_be_visible()
    yield page
    context.close()


def test_a_text_is_typed_spoken_kept_and_downloaded(page: Page, address: str, tmp_path: Path) -> None:
    expect(page.get_by_text("Trained on: nobody")).to_be_visible()
    expect(page.get_by_label("Noise")).to_have_value("0.25")
    page.get_by_label("Text").fill("Hello there. How are you?")
    page.get_by_label("Speaker").select_option("ben")
    page.keyboard.press("Control+Enter")
    item = page.get_by_role("listitem")
    expect(item).to_contain_text("ben, EN, speed 1, noise 0.25")
    expect(page.get_by_role("status")).to_have_text("Done.", timeout=PATIENCE_MS)
    with page.expect_download() as download:
        item.get_by_role("link", name="Download").click()
    download.value.save_as(tmp_path / "speech.wav")
    spoken = page.request.post(f"{address}/speak", data={"text": "Hello there. How are you?", "speaker": "ben"})
    assert (tmp_path / "speech.wav").read_bytes() == spoken.body()
    assert item.locator("audio").evaluate("(audio) => audio.duration") == pytest.approx(
        soundfile.info(tmp_path / "speech.wav").duration, abs=0.01
    )


def test_speaking_is_stopped_by_key_and_by_button(page: Page) -> None:
    page.get_by_label("Text").fill("Hello there, how are you? " * 40)
    for stop in (lambda: page.keyboard.press("Escape"), lambda: page.get_by_role("button", name="Stop").click()):
        page.get_by_role("button", name="Speak").click()
        expect(page.get_by_role("button", name="Speak")).to_be_disabled()
        stop()
        expect(page.get_by_role("status")).to_have_text("Stopped.")
        expect(page.get_by_role("button", name="Speak")).to_be_enabled()


def test_what_is_wrong_is_said_and_the_next_text_is_spoken(page: Page) -> None:
    page.get_by_label("Text").fill("A ☃.")
    page.get_by_role("button", name="Speak").click()
    expect(page.get_by_role("status")).to_have_text("'☃' (U+2603 SNOWMAN) cannot be read in English")
    expect(page.get_by_role("listitem")).to_have_count(0)
    page.get_by_label("Language").select_option("ZH")
    page.get_by_label("Text").fill("你好。")
    page.get_by_role("button", name="Speak").click()
    expect(page.get_by_role("status")).to_have_text("Done.", timeout=PATIENCE_MS)
    page.get_by_label("Text").fill("")
    page.get_by_role("button", name="Use again").click()
    expect(page.get_by_label("Text")).to_have_value("你好。")
    expect(page.get_by_label("Text")).to_be_focused()


def test_everything_is_named_reachable_and_legible(page: Page) -> None:
    page.get_by_label("Text").fill("Hello.")
    page.keyboard.press("Control+Enter")
    expect(page.get_by_role("status")).to_have_text("Done.", timeout=PATIENCE_MS)
    assert page.evaluate(LOW_CONTRAST) == []
    page.get_by_label("Text").focus()
    reached = []
    for _ in range(5):
        page.keyboard.press("Tab")
        reached.append(
            page.evaluate(
                "() => document.activeElement.labels?.[0]?.firstChild.textContent.trim()"
                " || document.activeElement.textContent"
            )
        )
    assert reached == ["Speaker", "Language", "Speed", "Noise", "Speak"]


def test_the_page_loads_nothing_from_elsewhere(browser: Browser, address: str) -> None:
    page, asked = browser.new_page(), []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(address, wait_until="networkidle")
    assert {url for url in asked if not url.startswith("data:")} == {f"{address}/", f"{address}/voice"}
    page.close()
