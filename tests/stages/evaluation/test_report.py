import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import soundfile
from PIL import Image

from stages.evaluation.report import ReportContext, file_stem, format_figure, write_report
from stages.evaluation.scoring import summarise
from tests.stages.speech_sounds import RATE_HZ, make_rendition, make_row

NASTY = "<script>alert(\"1\")</script> & 'co'"


class References(HTMLParser):
    """Collects what the page points to, and its tags."""

    def __init__(self, page):
        super().__init__()
        self.links, self.tags = [], []
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.links += [value for name, value in attributes if name in ("src", "href")]


def make_report(folder: Path, *, renditions=None, rows=None, **context):
    renditions = renditions or [
        make_rendition("ada/one", "Good morning"),
        make_rendition("ada/two", "Good night"),
    ]
    rows = rows or [
        make_row(utterance_id=one.utterance_id, text=one.text, transcript="good morning", note="")
        for one in renditions
    ]
    write_report(
        folder,
        renditions,
        rows,
        summarise(rows),
        ReportContext(**({"title": "Report", "voice_name": "Ada"} | context)),
    )
    return (folder / "index.html").read_text(encoding="utf-8")


def test_the_page_lists_every_utterance_with_sounds_and_pictures_that_exist(tmp_path):
    page = make_report(tmp_path)
    assert page.count("<article") == page.count("<tr>\n          <td") == 2
    files = [link for link in References(page).links if not link.startswith("#")]
    assert len(files) == len(set(files)) == 2 * (3 + 2)
    for file in files:
        assert (tmp_path / file).stat().st_size > 100
    assert {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.*")} == {*files, "index.html"}


def test_links_within_the_page_have_targets(tmp_path):
    page = make_report(tmp_path)
    for link in References(page).links:
        if link.startswith("#"):
            assert f'id="{link[1:]}"' in page


def test_the_page_needs_no_network(tmp_path):
    page = make_report(tmp_path)
    assert not re.search(r"https?://|//[a-z]|@import|url\(", page)


def test_text_from_outside_is_escaped_everywhere(tmp_path):
    rendition = make_rendition(NASTY, NASTY, speaker=NASTY)
    row = make_row(utterance_id=NASTY, text=NASTY, speaker=NASTY, transcript=NASTY, note=NASTY)
    page = make_report(
        tmp_path,
        renditions=[rendition],
        rows=[row],
        title=NASTY,
        voice_name=NASTY,
        facts={NASTY: NASTY},
        attribution=NASTY,
    )
    assert "<script>alert" not in page
    assert References(page).tags.count("script") == 1


def test_what_was_heard_differently_is_marked(tmp_path):
    rendition = make_rendition("one", "Good morning dear friends")
    row = make_row(
        utterance_id="one",
        text=rendition.text,
        transcript="good warning dear little friends",
        recording_transcript="",
    )
    page = make_report(tmp_path, renditions=[rendition], rows=[row])
    assert re.search(r"<del>.*morning</del>", page) and re.search(r"<ins>.*warning</ins>", page)
    assert re.search(r"<ins>.*little</ins>", page)
    assert re.search(r"<del>.*good morning dear friends</del>", page)


def test_synthetic_sources_are_labelled(tmp_path):
    page = make_report(tmp_path)
    assert page.count("synthetic, from") == 4 and "synthetic source" not in page
    assert "<td>person</td>" in page and "<td>synthetic</td>" not in page
    machine = make_rendition("two", recording_is_synthetic=True)
    rows = [make_row(utterance_id="one"), make_row(utterance_id="two", synthetic=True)]
    page = make_report(tmp_path / "mixed", renditions=[make_rendition("one"), machine], rows=rows)
    assert page.count('<span class="badge">synthetic source</span>') == page.count('<span class="badge">original</span>') == 1
    assert "<td>partly synthetic</td>" in page and "so are the recordings marked as synthetic source" in page
    page = make_report(tmp_path / "made", renditions=[machine], rows=rows[1:])
    assert "<td>synthetic</td>" in page and "so are the recordings shown here" in page


def three_languages():
    texts = {"EN": "Good morning", "ZH": "你好世界", "JP": "東京タワー"}
    heard = {"EN": "good evening", "ZH": "你号世界", "JP": "東京タワ"}
    renditions, rows = [], []
    for code, text in texts.items():
        common = {"language": code, "speaker": f"speaker-{code}"}
        renditions.append(make_rendition(code, text, recording_is_synthetic=code == "JP", **common))
        rows.append(make_row(utterance_id=code, text=text, synthetic=code == "JP", transcript=heard[code], word_edits=1, **common))
    return renditions, rows


def test_every_language_has_its_unit_and_figures_and_every_speaker_its_languages(tmp_path):
    renditions, rows = three_languages()
    page = make_report(tmp_path, renditions=renditions, rows=rows)
    for code, unit in {"EN": "word", "ZH": "toned pinyin syllable", "JP": "kana"}.items():
        assert re.search(rf'<th scope="row">{code}</th><td>{unit}</td><td class="number">1</td><td class="number">25.0', page)
        origin = "synthetic" if code == "JP" else "person"
        assert f'<th scope="row">speaker-{code}</th><td>{code}</td><td>{origin}</td><td class="number">1</td>' in page


def test_differences_are_shown_by_sound_beside_what_was_written(tmp_path):
    renditions, rows = three_languages()
    page = make_report(tmp_path, renditions=renditions, rows=rows)
    assert re.search(r"<del>.*hao3</del>\s*<ins>.*hao4</ins>", page)
    assert re.search(r"<del>.*ー</del>", page)
    assert re.search(r'written: </span><span lang="zh">你号世界', page) and "good evening</span>" not in page


def test_one_language_needs_no_table_of_languages(tmp_path):
    assert "By language" not in make_report(tmp_path) and "By speaker" in make_report(tmp_path)


def test_headline_figures_stand_beside_the_recordings_own(tmp_path):
    rows = [
        make_row(
            utterance_id="one", words=10, word_edits=5, recording_word_edits=1, mos=2.5, recording_mos=4.0
        )
    ]
    page = make_report(tmp_path, renditions=[make_rendition("one")], rows=rows).replace(
        "\N{NARROW NO-BREAK SPACE}", " "
    )
    assert re.search(
        r'Word error rate</h3>\s*<p class="value">50.0 %</p>\s*<p class="beside"><span>recording 10.0 %', page
    )


def test_the_attribution_and_the_facts_are_on_the_page(tmp_path):
    page = make_report(tmp_path, attribution="Voice: Ada, CC BY 4.0", facts={"Steps": "1,200"})
    assert "Voice: Ada, CC BY 4.0" in page and "<dt>Steps</dt><dd>1,200</dd>" in page


def test_a_rendition_without_alignment_or_sound_still_has_its_article(tmp_path):
    rendition = make_rendition(
        "one",
        recording_durations_frames=None,
        synthesis=np.zeros(0, dtype=np.float32),
        synthesis_durations_frames=np.zeros(5, dtype=int),
        resynthesis=np.full(99, np.nan, dtype=np.float32),
    )
    row = make_row(utterance_id="one", text="Good morning", mcd_db=float("nan"), note="synthesis: silent")
    page = make_report(tmp_path, renditions=[rendition], rows=[row])
    assert "synthesis: silent" in page and "1 utterance could not be scored in full" in page
    assert "Phones in time, synthesis" in page


def test_missing_scores_are_refused(tmp_path):
    with pytest.raises(ValueError, match="no scores for 1 renditions, the first is 'two'"):
        make_report(
            tmp_path,
            renditions=[make_rendition("one"), make_rendition("two")],
            rows=[make_row(utterance_id="one")],
        )


def test_sounds_are_16_bit_and_as_given(tmp_path):
    rendition = make_rendition("one")
    make_report(tmp_path, renditions=[rendition])
    samples, rate_hz = soundfile.read(tmp_path / "audio" / "001-one-recording.wav")
    assert (
        rate_hz == RATE_HZ
        and soundfile.info(tmp_path / "audio" / "001-one-recording.wav").subtype == "PCM_16"
    )
    assert np.abs(samples - rendition.recording).max() < 1e-4


def test_pictures_are_small_and_wide_enough_to_read(tmp_path):
    make_report(tmp_path)
    for path in (tmp_path / "pictures").iterdir():
        assert path.stat().st_size < 150_000
        assert Image.open(path).width >= 1000


def test_the_same_scores_make_the_same_files(tmp_path):
    for name in ("first", "second"):
        make_report(tmp_path / name)
    for path in (tmp_path / "first").rglob("*.*"):
        assert path.read_bytes() == (tmp_path / "second" / path.relative_to(tmp_path / "first")).read_bytes()


@pytest.mark.parametrize("utterance_id", ["../../etc/passwd", "a b?.wav", "语音", "x" * 300, ""])
def test_file_names_are_safe(utterance_id):
    assert re.fullmatch(r"007[A-Za-z0-9_-]{0,61}", file_stem(7, utterance_id))


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
def test_figures_read_as_people_write_them(value, unit, text):
    assert format_figure(value, unit).replace("\N{NARROW NO-BREAK SPACE}", " ") == text
