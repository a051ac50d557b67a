"""The listening page of a comparison, and the ratings it exports."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from pipeline.compare import compare as program
from stages.evaluate.renditions import write_renditions
from tests.pipeline.compare.comparable_project import ComparableProject, evaluation, start_project
from tests.stages.speech_sounds import make_rendition

N_UTTERANCES = 4


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> ComparableProject:
    """Commits of evaluations: `silent` without audio, `first` and `second` with it."""
    project = start_project(tmp_path_factory.mktemp("heard") / "voice")
    project.commit(evaluation(N_UTTERANCES, seed=1), "silent")
    for seed, name in ((1, "first"), (2, "second")):
        rows = evaluation(N_UTTERANCES, seed=seed)
        renditions = [make_rendition(row["utterance_id"], row["text"], speaker=row["speaker"]) for row in rows]
        write_renditions(project.root / "reports/evaluate", renditions, {"facts": {"seed": str(seed)}})
        project.commit(rows, name)
    project.back_to("silent")
    return project


@pytest.fixture(autouse=True)
def work_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("VOICE_WORK_DIR", str(tmp_path / "work"))


def test_ratings_given_on_the_page_come_back_into_the_comparison(
    project: ComparableProject, browser: Browser, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["first", "second", "--root", str(project.root), "--out", str(tmp_path / "out")]
    assert program.main(command) == 0
    assert f"listen: {tmp_path / 'out' / 'listening.html'}" in capsys.readouterr().out
    page = browser.new_page()
    page.goto((tmp_path / "out" / "index.html").as_uri())
    page.get_by_role("link", name="Listening page").click()
    page.get_by_role("button", name="Rate blind").click()
    page.get_by_label("Your name").fill("eva")
    page.get_by_role("button", name="Start", exact=True).click()
    for _ in range(N_UTTERANCES):
        side = page.evaluate("() => trial.places.findIndex((place) => columns[place].name === 'second')")
        page.keyboard.press("a")
        page.keyboard.press("b")
        page.keyboard.press("12"[side])
    page.get_by_role("button", name="Continue with opinions").click()
    for number in range(N_UTTERANCES * 3):
        expect(page.locator("#progress")).to_contain_text(f"{number + 1} of 12")
        score = page.evaluate("() => ({ recording: 5, second: 4, first: 2 })[columns[trial.places[0]].rated]")
        page.keyboard.press("Space")
        page.keyboard.press(str(score))
    with page.expect_download() as download:
        page.get_by_role("button", name="Export ratings").click()
    download.value.save_as(tmp_path / "eva.json")
    page.close()
    assert program.main([*command, "--ratings", str(tmp_path / "eva.json")]) == 0
    ratings = json.loads((tmp_path / "out" / "comparison.json").read_text(encoding="utf-8"))["ratings"]
    results = {tuple(rating["experiments"]): (rating["interval"]["value"], rating["n_ratings"]) for rating in ratings}
    assert results == {
        ("recording",): (5.0, 4),
        ("first",): (2.0, 4),
        ("second",): (4.0, 4),
        ("first", "second"): (1.0, 4),
    }


def test_an_evaluation_that_kept_no_sounds_is_named_and_the_rest_compared(
    project: ComparableProject, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert program.main(["silent", "second", "--root", str(project.root), "--out", str(tmp_path / "out")]) == 0
    shown = capsys.readouterr().out
    assert (
        "warning: No listening page: silent was evaluated before audio was stored" in shown
        and "\nlisten: " not in shown
    )
    page = (tmp_path / "out" / "index.html").read_text(encoding="utf-8")
    assert "silent was evaluated before audio was stored" in page and "listening.html" not in page
    assert not (tmp_path / "out" / "listening.html").exists()
