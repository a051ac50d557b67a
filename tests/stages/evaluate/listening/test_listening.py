"""Text of the listening page: figures, sources, differences, errors. Its behaviour: test_page."""

from __future__ import annotations

import json
import re
from html import unescape
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stages.common.errors import PipelineError
from stages.evaluate.listening.listening import ONLY, write_listening_page
from stages.metrics.catalogue import METRICS, format_figure
from stages.metrics.rendition import Rendition
from tests.stages.evaluate.evaluations import ABOUT, write_evaluation
from tests.stages.speech_sounds import make_rendition, make_row

NASTY = "<script>alert(\"1\")</script> & 'co'"


class Tags(HTMLParser):
    """Collects the page's tags and what it points to."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.links: list[str | None] = []
        self.tags: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.links += [value for name, value in attributes if name in ("src", "href")]


def page_of(
    folder: Path,
    renditions: list[Rendition],
    rows: list[dict[str, Any]] | None = None,
    name: str = ONLY,
    about: dict[str, Any] = ABOUT,
) -> str:
    rows = rows or [make_row(utterance_id=one.utterance_id, text=one.text, speaker=one.speaker) for one in renditions]
    write_evaluation(folder, renditions, rows, about)
    write_listening_page(folder / "index.html", {name: folder}, "Listening")
    return (folder / "index.html").read_text(encoding="utf-8")


def content_of(page: str) -> dict[str, Any]:
    found = re.search(r'<script type="application/json" id="content">(.*?)</script>', page, re.DOTALL)
    assert found
    content: dict[str, Any] = json.loads(found[1])
    return content


def test_the_page_is_one_file_that_needs_nothing_else(tmp_path: Path) -> None:
    page = page_of(tmp_path, [make_rendition("ada/one"), make_rendition("ada/two")])
    assert [link for link in Tags(page).links if link and not link.startswith(("#", "data:"))] == []
    assert not re.search(r"https?://|@import|url\(", page)
    for utterance in content_of(page)["utterances"]:
        for one in utterance["versions"]:
            assert one["audio"].startswith("data:audio/flac;base64,") and one["spectrogram"].startswith(
                "data:image/png;base64,"
            )


def test_every_metric_that_is_known_is_explained_with_its_direction_and_source(tmp_path: Path) -> None:
    unknown = dict.fromkeys(("mos", "recording_mos", "resynthesis_mos"), float("nan"))
    page = unescape(
        page_of(
            tmp_path,
            [make_rendition("one")],
            [make_row(utterance_id="one", mcd_db=5.0, resynthesis_mcd_db=3.0, **unknown)],
        )
    )
    known = [metric for metric in METRICS if metric.key != "mos"]
    cards = re.findall(r'<li class="card">.*?</li>', page, re.DOTALL)
    assert len(cards) == len(known)
    for metric, card in zip(known, cards, strict=True):
        assert metric.name in card and metric.direction in card and metric.source in card
    card = next(card for card in cards if "Mel-cepstral" in card)
    assert re.search(
        rf"Synthesis</dt><dd>{format_figure(5.0, 'dB')}.*Resynthesis</dt><dd>{format_figure(3.0, 'dB')}",
        card,
        re.DOTALL,
    )
    assert "Recording</dt>" not in card


def test_error_rates_are_edits_over_length_not_means(tmp_path: Path) -> None:
    rows = [
        make_row(utterance_id="one", words=2, word_edits=2),
        make_row(utterance_id="two", words=8, word_edits=0, recording_word_edits=1),
    ]
    page = page_of(tmp_path, [make_rendition("one"), make_rendition("two")], rows).replace(
        "\N{NARROW NO-BREAK SPACE}", " "
    )
    card = next(card for card in re.findall(r'<li class="card">.*?</li>', page, re.DOTALL) if "Word error rate" in card)
    assert "<dd>20.0 %</dd>" in card and "Recording</dt><dd>10.0 %" in card
    assert "of the 1 utterances of 3 words or more" in page


def test_what_was_heard_differently_is_marked(tmp_path: Path) -> None:
    one = make_rendition("one", "Good morning dear friends")
    page = page_of(
        tmp_path, [one], [make_row(utterance_id="one", text=one.text, transcript="good warning dear little friends")]
    )
    recording, synthesis, _ = content_of(page)["utterances"][0]["versions"]
    kinds = [kind for kind, _, _ in synthesis["heard"]]
    assert kinds == ["equal", "substitute", "equal", "insert", "equal"] and synthesis["heard"][1][1:] == [
        "morning",
        "warning",
    ]
    assert recording["heard"] == [["delete", "good morning dear friends", ""]]


def test_differences_are_by_sound_and_every_language_has_its_unit(tmp_path: Path) -> None:
    texts = {"EN": ("Good morning", "good evening"), "ZH": ("你好世界", "你号世界"), "JP": ("東京タワー", "東京タワ")}
    renditions = [make_rendition(code, text, language=code, speaker=f"of {code}") for code, (text, _) in texts.items()]
    rows = [
        make_row(
            utterance_id=code,
            text=text,
            language=code,
            speaker=f"of {code}",
            transcript=heard,
            word_edits=1,
            synthetic=code == "JP",
        )
        for code, (text, heard) in texts.items()
    ]
    page = re.sub(r">\s+<", "><", page_of(tmp_path, renditions, rows))
    versions = {utterance["language"]: utterance["versions"][1] for utterance in content_of(page)["utterances"]}
    assert ["substitute", "hao3", "hao4"] in versions["ZH"]["heard"] and versions["JP"]["heard"][-1] == [
        "delete",
        "ー",
        "",
    ]
    assert versions["ZH"]["transcript"] == "你号世界" and versions["EN"]["transcript"] == ""
    for code, unit in {"EN": "word", "ZH": "toned pinyin syllable", "JP": "kana"}.items():
        assert f'<th scope="row">{code}</th><td>{unit}</td><td class="number">1</td>' in page
        origin = "synthetic" if code == "JP" else "person"
        assert f'<th scope="row">of {code}</th><td>{code}</td><td>{origin}</td><td class="number">1</td>' in page
    assert "as are the recordings marked as synthetic source" in page
    origins = {
        utterance["language"]: utterance["versions"][0]["origin"] for utterance in content_of(page)["utterances"]
    }
    assert origins == {"EN": "original", "ZH": "original", "JP": "synthetic source"}


def test_text_from_outside_is_escaped_everywhere(tmp_path: Path) -> None:
    about = {"facts": {NASTY: NASTY}, "attribution": NASTY}
    row = make_row(utterance_id=NASTY, text=NASTY, speaker=NASTY, transcript=NASTY, note=NASTY)
    page = page_of(tmp_path, [make_rendition(NASTY, NASTY, speaker=NASTY)], [row], NASTY, about)
    assert "<script>alert" not in page and Tags(page).tags.count("script") == 2
    assert content_of(page)["utterances"][0]["text"] == NASTY


def test_facts_attribution_and_what_could_not_be_scored_are_said(tmp_path: Path) -> None:
    silent = make_rendition(
        "one", synthesis=np.zeros(0, dtype=np.float32), synthesis_durations_frames=np.zeros(5, dtype=int)
    )
    page = page_of(tmp_path, [silent], [make_row(utterance_id="one", mcd_db=float("nan"), note="synthesis: silent")])
    assert "<dt>training steps</dt><dd>1,200</dd>" in page and "Recordings: Ada, CC BY 4.0" in page
    assert "1 utterance of synthesis could not be fully scored" in page
    assert content_of(page)["utterances"][0]["notes"] == ["synthesis: silent"]
    assert "By language" not in page and "By speaker" in page


def test_several_experiments_share_the_recordings_and_their_common_utterances(tmp_path: Path) -> None:
    renditions = [make_rendition(name) for name in ("one", "two", "three")]
    rows = {
        side: [make_row(utterance_id=one.utterance_id, mos=value) for one in renditions]
        for side, value in (("old", 2.0), ("new", 2.5))
    }
    write_evaluation(tmp_path / "old", renditions[:2], rows["old"][:2])
    write_evaluation(
        tmp_path / "new", [renditions[0], make_rendition("two", "Another text"), renditions[2]], rows["new"]
    )
    write_listening_page(tmp_path / "page.html", {"old": tmp_path / "old", "new": tmp_path / "new"}, "Both")
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    content = content_of(page)
    assert [column["name"] for column in content["columns"]] == [
        "Recording",
        "old",
        "new",
        "old, resynthesis",
        "new, resynthesis",
    ]
    assert [column["rated"] for column in content["columns"]] == ["recording", "old", "new", None, None]
    assert [utterance["id"] for utterance in content["utterances"]] == ["one"]
    assert content["utterances"][0]["differences"]["2,1"]["mos"] == [0.5, "+0.50"]
    assert "left out: 1 of old: two; 2 of new: two, three" in page and "recordings differ" not in page


def test_other_recordings_under_the_same_names_are_told(tmp_path: Path) -> None:
    row = [make_row(utterance_id="one")]
    write_evaluation(tmp_path / "old", [make_rendition("one")], row)
    write_evaluation(tmp_path / "new", [make_rendition("one", recording=make_rendition().synthesis)], row)
    write_listening_page(tmp_path / "page.html", {"old": tmp_path / "old", "new": tmp_path / "new"}, "Both")
    assert "1 of the 1 recordings differ between new and old" in (tmp_path / "page.html").read_text(encoding="utf-8")


def test_what_makes_no_page_is_refused_with_a_remedy(tmp_path: Path) -> None:
    one = write_evaluation(tmp_path / "one", [make_rendition("one")], [make_row(utterance_id="one")])
    two = write_evaluation(tmp_path / "two", [make_rendition("two")], [make_row(utterance_id="two")])
    bare = write_evaluation(tmp_path / "bare", [make_rendition("one")], [make_row(utterance_id="other")])
    refused = {
        "rename": {"recording": one},
        "the same corpus and split": {"a": one, "b": two},
        "has no figures for 1": {"a": bare},
    }
    for message, experiments in refused.items():
        with pytest.raises(PipelineError, match=message):
            write_listening_page(tmp_path / "page.html", experiments, "Nothing")


def test_the_same_evaluation_makes_the_same_page(tmp_path: Path) -> None:
    assert page_of(tmp_path / "first", [make_rendition("one")]) == page_of(tmp_path / "second", [make_rendition("one")])


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (0.1234, "percent", "12.3 %"),
        (4.126, "score", "4.13"),
        (99.6, "cents", "100 cents"),
        (6.5, "dB", "6.50 dB"),
        (float("nan"), "dB", "–"),
        (None, "percent", "–"),
    ],
)
def test_figures_read_as_people_write_them(value: float | None, unit: str, text: str) -> None:
    assert format_figure(value, unit).replace("\N{NARROW NO-BREAK SPACE}", " ") == text
