"""The listening page in a real Chromium, opened from disk: lists, sounds, keys, blind ratings, accessibility."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect

from tests.stages.evaluate.conftest import TEXTS

PATIENCE_MS = 10_000
RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
PLAYING = "() => playing && !playing.paused ? [view.current.id, view.place] : null"
Pages = dict[str, str]


@pytest.fixture
def page(browser: Browser, pages: Pages) -> Iterator[Page]:
    context = browser.new_context(viewport={"width": 1300, "height": 900})
    context.set_default_timeout(PATIENCE_MS)
    page = context.new_page()
    mistakes: list[str] = []
    page.on("pageerror", lambda error: mistakes.append(str(error)))
    page.goto(pages["two"])
    yield page
    context.close()
    assert mistakes == []


def listed(page: Page) -> list[str]:
    return page.locator("#list .words").all_text_contents()


def ids(page: Page) -> list[str]:
    by_text = {text: name for name, text in TEXTS.items()}
    return [by_text[text] for text in listed(page)]


def test_the_list_is_sorted_by_any_metric_of_any_side_and_what_is_unknown_comes_last(page: Page) -> None:
    assert ids(page) == ["ada/1", "ada/2", "ben/3", "ben/4"]
    page.locator("#sort").select_option("Naturalness (predicted MOS)")
    assert ids(page) == ["ada/1", "ben/4", "ben/3", "ada/2"]
    page.get_by_role("button", name="Descending").click()
    assert ids(page) == ["ben/3", "ben/4", "ada/1", "ada/2"]
    page.locator("#of").select_option("new minus old")
    assert ids(page) == ["ada/1", "ben/4", "ben/3", "ada/2"]
    assert page.locator("#list .figure").all_text_contents() == ["+0.50", "+0.25", "−0.50", "–"]
    page.locator("#sort").select_option("text")
    assert listed(page) == ["Zebras run", "Maybe tomorrow", "Good morning", "A quiet evening"]
    options = page.locator("#sort option").all_text_contents()
    assert {"order", "text", "length", "Character error rate", "Mel-cepstral distortion", "Length error"} <= set(
        options
    )


def test_the_list_is_filtered_by_speaker_language_and_text(page: Page) -> None:
    page.locator("#speaker").select_option("ben")
    assert ids(page) == ["ben/3", "ben/4"]
    expect(page.locator("#text")).to_have_text("A quiet evening")
    page.locator("#speaker").select_option("all")
    page.locator("#language").select_option("EN")
    assert ids(page) == ["ada/1", "ada/2"]
    page.get_by_label("Search the text").fill("MORN")
    assert ids(page) == ["ada/2"]
    page.get_by_label("Search the text").fill("nothing like it")
    expect(page.get_by_text("No utterance matches the filters.")).to_be_visible()


def test_keys_move_play_pause_and_seek(page: Page) -> None:
    page.keyboard.press("j")
    expect(page.locator("#list [aria-current=true] .words")).to_have_text("Good morning")
    page.keyboard.press("3")
    page.wait_for_function("() => playing.currentTime > 0.05")
    assert page.evaluate(PLAYING) == ["ada/2", 2]
    expect(page.get_by_role("button", name="new", exact=True)).to_have_attribute("aria-pressed", "true")
    page.keyboard.press("Space")
    expect(page.get_by_role("button", name="new", exact=True)).to_have_attribute("aria-pressed", "false")
    before = page.evaluate("() => playing.currentTime")
    page.keyboard.press("ArrowRight")
    assert page.evaluate("() => playing.currentTime") == pytest.approx(before + 0.5, abs=0.01)
    expect(page.locator(".playhead:visible")).to_have_count(1)
    page.keyboard.press("r")
    page.wait_for_function("() => !playing.paused && playing.currentTime < 0.4")
    page.keyboard.press("1")
    page.wait_for_function("() => view.place === 0 && !playing.paused")
    assert page.evaluate("() => [...sounds.values()].filter((sound) => !sound.paused).length") == 1
    page.keyboard.press("k")
    assert page.evaluate(PLAYING) is None and page.evaluate("() => view.current.id") == "ada/1"
    page.keyboard.press("?")
    expect(page.get_by_role("dialog", name="Keyboard shortcuts")).to_be_visible()
    page.get_by_label("Enable keyboard shortcuts").uncheck()
    page.keyboard.press("Escape")
    page.keyboard.press("j")
    assert page.evaluate("() => view.current.id") == "ada/1"


def test_letters_typed_into_a_field_are_no_commands(page: Page) -> None:
    page.get_by_label("Search the text").press_sequentially("jr1")
    assert page.evaluate("() => [view.current.id, playing]") == ["ada/1", None]


def test_a_click_into_a_spectrogram_plays_from_there(page: Page) -> None:
    track = page.locator(".track").nth(1)
    box = track.bounding_box()
    assert box
    track.click(position={"x": box["width"] / 2, "y": 60})
    page.wait_for_function("() => playing && !playing.paused")
    longest = page.evaluate("() => Math.max(...view.current.versions.map((version) => version.seconds))")
    assert page.evaluate("() => playing.currentTime") == pytest.approx(longest / 2, abs=0.2)


def test_what_is_drawn_is_the_sound_its_phones_and_pitch_on_one_axis(page: Page) -> None:
    page.wait_for_function("() => document.querySelectorAll('.track canvas')[1].width > 300")
    drawn = """(place) => { const canvas = document.querySelectorAll('.track canvas')[place];
      const context = canvas.getContext('2d');
      const { data } = context.getImageData(0, canvas.height - 1, canvas.width, 1);
      return data.filter((value, i) => i % 4 === 3 && value === 255).length / canvas.width; }"""
    page.wait_for_function(f"() => ({drawn})(1) > 0.5")
    seconds = [version["seconds"] for version in page.evaluate("() => view.current.versions")]
    for place in (0, 1):
        assert page.evaluate(drawn, place) == pytest.approx(seconds[place] / max(seconds), abs=0.01)
    green = """(place) => { const canvas = document.querySelectorAll('.track canvas')[place];
      const context = canvas.getContext('2d');
      const { data } = context.getImageData(0, 0, canvas.width, canvas.height); let n = 0;
      for (let i = 0; i < data.length; i += 4) n += data[i] === 61 && data[i + 1] === 245; return n; }"""
    assert page.evaluate(green, 0) > 100


def test_same_loudness_is_off_at_first_and_turns_the_louder_sounds_down(page: Page) -> None:
    volumes = "() => view.current.versions.map((_, place) => volumeOf(view.current, place))"
    assert page.evaluate(volumes) == [1, 1, 1, 1, 1]
    page.get_by_label("Same loudness").check()
    levels = page.evaluate("() => view.current.versions.map((version) => version.lufs)")
    assert page.evaluate(volumes) == pytest.approx([10 ** ((min(levels) - level) / 20) for level in levels])


def start(page: Page, rater: str = "eva", seed: int = 7, mode: str = "A/B") -> None:
    page.get_by_role("button", name="Rate blind").click()
    page.get_by_label("Your name").fill(rater)
    page.get_by_label("Seed of the order").fill(str(seed))
    page.get_by_role("radio", name=mode).check()
    page.get_by_role("button", name="Start", exact=True).click()


def exported(page: Page, path: Path) -> dict[str, Any]:
    with page.expect_download() as download:
        page.get_by_role("button", name="Export ratings").click()
    download.value.save_as(path)
    assert download.value.suggested_filename == "ratings-eva.json"
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return content


def test_preferences_are_blind_resumed_after_a_reload_undone_and_exported(page: Page, tmp_path: Path) -> None:
    start(page)
    expect(page.locator("#progress")).to_have_text("1 of 4 · rater eva · seed 7")
    expect(page.get_by_role("button", name="A is better")).to_be_disabled()
    page.keyboard.press("1")  # nothing was heard yet
    expect(page.locator("#progress")).to_contain_text("1 of 4")
    order = page.evaluate(
        "() => trialsOf(session).map(({ utterance, places }) => "
        "[utterance.id, places.map((place) => columns[place].name)])"
    )
    assert sorted(name for name, _ in order) == sorted(TEXTS) and all(
        sorted(sides) == ["new", "old"] for _, sides in order
    )
    for key in ("1", "2"):
        visible = page.locator("body").inner_text()
        assert "old" not in visible and "new" not in visible.replace("Start over", "")
        page.keyboard.press("a")
        page.keyboard.press("b")
        page.keyboard.press(key)
    expect(page.locator("#progress")).to_contain_text("3 of 4")
    page.reload()
    page.get_by_role("button", name="Resume rating").click()
    expect(page.locator("#progress")).to_contain_text("3 of 4")
    page.keyboard.press("u")
    expect(page.locator("#progress")).to_contain_text("2 of 4")
    for key in ("0", "2", "1"):
        page.keyboard.press("a")
        page.keyboard.press("b")
        page.keyboard.press(key)
    expect(page.get_by_text("Finished: thank you")).to_be_visible()
    content = exported(page, tmp_path / "ratings.json")
    answers = [
        {"utterance_id": name, "a": a, "b": b, "preferred": preferred}
        for (name, (a, b)), preferred in zip(order, ("a", "none", "b", "a"), strict=True)
    ]
    assert content == {"kind": "voice-factory-ratings", "version": 1, "rater": "eva", "ab": answers, "mos": []}


def test_opinions_of_every_voice_and_of_the_hidden_recordings_are_kept(page: Page, tmp_path: Path) -> None:
    start(page, mode="Opinion")
    for number in range(12):
        expect(page.locator("#progress")).to_contain_text(f"{number + 1} of 12")
        page.keyboard.press("Space")
        page.keyboard.press(str(1 + number % 5))
    expect(page.get_by_text("Finished: thank you")).to_be_visible()
    content = exported(page, tmp_path / "ratings.json")
    rated = sorted((answer["utterance_id"], answer["experiment"]) for answer in content["mos"])
    assert rated == sorted((name, side) for name in TEXTS for side in ("recording", "old", "new"))
    assert [answer["score"] for answer in content["mos"]] == [1 + number % 5 for number in range(12)] and content[
        "ab"
    ] == []


def test_the_order_follows_from_rater_and_seed(page: Page) -> None:
    orders = """([rater, seed]) => JSON.stringify(trialsOf({ rater, seed, mode: 'mos', sides: [1, 2] })
      .map(({ utterance, places }) => [utterance.id, places]))"""
    same, again, other_rater, other_seed = (
        page.evaluate(orders, who) for who in (["eva", 1], ["eva", 1], ["max", 1], ["eva", 2])
    )
    assert same == again and len({same, other_rater, other_seed}) == 3
    firsts = page.evaluate(
        "() => [...Array(20).keys()].map((seed) => "
        "trialsOf({ rater: 'eva', seed, mode: 'ab', sides: [1, 2] })[0].places[0])"
    )
    assert {1, 2} == set(firsts), "sides change places"


def test_one_experiment_is_compared_with_the_recording(page: Page, pages: Pages) -> None:
    page.goto(pages["one"])
    start(page)
    sides = page.evaluate(
        "() => trialsOf(session).map(({ places }) => places.map((place) => columns[place].rated).sort())"
    )
    assert sides == [["recording", "synthesis"]] * 4


@pytest.mark.parametrize(("scheme", "width"), [("light", 1300), ("dark", 420)])
def test_every_view_is_accessible_and_fits_its_width(browser: Browser, pages: Pages, scheme: Any, width: int) -> None:
    context = browser.new_context(color_scheme=scheme, viewport={"width": width, "height": 900})
    page = context.new_page()
    page.goto(pages["two"])

    def check(view: str) -> None:
        found = Axe().run(page, options={"resultTypes": ["violations"], "runOnly": RULES})
        assert found.violations_count == 0, f"{view}: {found.generate_report()}"
        assert page.evaluate("() => document.documentElement.scrollWidth <= window.innerWidth"), view

    check("browsing")
    page.get_by_role("button", name="Keys").click()
    check("help")
    page.keyboard.press("Escape")
    page.get_by_role("button", name="Rate blind").click()
    check("set-up")
    page.get_by_label("Your name").fill("eva")
    page.get_by_role("button", name="Start", exact=True).click()
    check("trial")
    context.close()
