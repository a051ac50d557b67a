"""Mandarin syllables: every label gets a character that is read so, and every recording goes into one list."""

from __future__ import annotations

import csv
import subprocess
from pathlib import Path

import numpy as np
import pytest
import soundfile
from pypinyin import Style, lazy_pinyin

from model.text.registry import get_front_end
from pipeline.corpora import gcin

FOLDERS = [
    "ㄅㄚ",
    "ㄅㄚ1",
    "ㄅㄚ2",
    "ㄅㄚ3",
    "ㄅㄚ4",
    "ㄓ",
    "ㄕㄨㄟ3",
    "ㄩㄥ4",
    "ㄦ4",
    "ㄌㄩ4",
    "ㄋㄩ3",
    "ㄑㄩㄝ4",
    "ㄐㄩㄥ3",
    "ㄘ2",
    "ㄡ",
]


@pytest.fixture(scope="module")
def characters() -> dict[str, str]:
    return gcin.characters_by_syllable()


def test_folder_names_are_spelled_as_bopomofo_is() -> None:
    spelled = [gcin.bopomofo(folder) for folder in FOLDERS[:6]]
    assert spelled == ["ㄅㄚ", "ㄅㄚ˙", "ㄅㄚˊ", "ㄅㄚˇ", "ㄅㄚˋ", "ㄓ"]


def test_every_character_is_read_as_the_syllable_it_stands_for(characters: dict[str, str]) -> None:
    wrong = {
        syllable: character
        for syllable, character in characters.items()
        if lazy_pinyin(character, style=Style.BOPOMOFO) != [syllable]
    }
    assert not wrong and len(set(characters.values())) == len(characters) > 1150
    assert all(gcin.bopomofo(folder) in characters for folder in FOLDERS if folder not in ("ㄅㄚ1",))


def test_common_characters_with_one_reading_are_preferred(characters: dict[str, str]) -> None:
    chosen = [characters[gcin.bopomofo(folder)] for folder in ("ㄅㄚ4", "ㄕㄨㄟ3", "ㄩㄥ4", "ㄖㄣ2", "ㄑㄩㄝ4")]
    assert all(gcin.commonness(character) == 2 for character in chosen)
    assert (gcin.commonness("水"), gcin.commonness("鳔"), gcin.commonness("體"), gcin.commonness("a")) == (2, 1, 0, 0)


def test_the_front_end_reads_every_character_as_its_recording_says_it(characters: dict[str, str]) -> None:
    """A lexicon of the wanted readings changes nothing."""
    front_end = get_front_end("ZH")
    wanted = get_front_end("ZH", lexicon={c: to_tone3_of(c) for c in characters.values()})
    wrong = []
    for character in characters.values():
        text = front_end.normalise(f"水，{character}，火。")
        if front_end.to_phones(text) != wanted.to_phones(text):
            wrong.append(character)
    assert not wrong
    marks = {"ˊ": 2, "ˇ": 3, "ˋ": 4, "˙": 5}
    read = {
        syllable: front_end.to_phones(front_end.normalise(character)).tones[0]
        for syllable, character in characters.items()
    }
    assert {syllable: tone for syllable, tone in read.items() if tone != marks.get(syllable[-1], 1)} == {}


def to_tone3_of(character: str) -> str:
    """The first reading of a character as a lexicon has it (ba4)."""
    reading: str = lazy_pinyin(character, style=Style.TONE3, neutral_tone_with_five=True)[0]
    return reading


def test_every_syllable_with_a_character_is_in_one_list(characters: dict[str, str]) -> None:
    folders = sorted(syllable for syllable in characters if syllable[-1] not in gcin.TONE_MARKS.values())
    lists, left_out = gcin.make_reading_lists({"gcin-3": [*folders, "ㄆ", "ㄧㄞ2"], "gcin-5": folders[:20]}, characters)
    assert left_out == ["ㄆ", "ㄧㄞ2"]
    for speaker, count in (("gcin-3", len(folders)), ("gcin-5", 20)):
        mine = [item for item in lists if item.speaker == speaker]
        assert sorted(syllable for item in mine for syllable in item.syllables) == folders[:count]
        assert all(len(item.syllables) == len(item.characters) >= gcin.MIN_LIST_LENGTH for item in mine)
    assert len({item.audio for item in lists}) == len(lists)
    assert (
        lists == gcin.make_reading_lists({"gcin-5": folders[:20], "gcin-3": [*folders, "ㄆ", "ㄧㄞ2"]}, characters)[0]
    )
    assert lists[0].text.count("，") == len(lists[0].syllables) - 1 and lists[0].text.endswith("。")


def test_syllables_are_joined_with_silence_around_and_between() -> None:
    rate = 1000
    samples = gcin.join_syllables([np.full(200, 0.5), np.full(300, -0.5)], rate)
    assert len(samples) == 100 + 200 + 250 + 300 + 100
    assert not samples[:100].any() and not samples[300:550].any() and not samples[-100:].any()
    assert samples[200] == 0.5 and samples[700] == -0.5 and samples[100] == samples[299] == 0


def build_package(folder: Path) -> Path:
    """Build a Debian package of a few syllables in the real one's layout."""
    root = folder / "package"
    sound = 0.3 * np.sin(np.arange(13230) / 20)
    for number, syllable in enumerate([*FOLDERS, "ㄆ"]):
        (root / gcin.SYLLABLES / syllable).mkdir(parents=True)
        for name in ("3.ogg", "5.ogg")[: 1 + number % 2]:
            soundfile.write(root / gcin.SYLLABLES / syllable / name, sound, 44100, format="OGG", subtype="VORBIS")
    for path, content in {
        gcin.COPYRIGHT: "GPL-3, CC-BY-3\n",
        Path(
            "DEBIAN/control"
        ): "Package: syllables\nVersion: 1\nArchitecture: all\nMaintainer: nobody <a@b.c>\nDescription: syllables\n",
    }.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(content, encoding="utf-8")
    subprocess.run(["dpkg-deb", "--build", str(root), str(folder / "syllables.deb")], check=True, capture_output=True)
    return folder / "syllables.deb"


def test_the_package_becomes_lists_and_transcripts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = build_package(tmp_path)
    monkeypatch.setattr(gcin, "download", lambda packages, folder: [package])
    out = tmp_path / "out"
    assert not gcin.is_complete(out)
    n_lists, left_out = gcin.fetch(out)
    assert n_lists == 2 and "ㄆ" in left_out and gcin.is_complete(out)
    with (out / "transcripts.csv").open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [(row["speaker"], row["language"]) for row in rows] == [("gcin-3", "ZH"), ("gcin-5", "ZH")]
    for row in rows:
        n_syllables = len(row["text"]) // 2
        seconds = soundfile.info(out / row["audio"]).duration
        assert seconds == pytest.approx(
            0.3 * n_syllables + gcin.PAUSE_SECONDS * (n_syllables - 1) + 2 * gcin.MARGIN_SECONDS, abs=0.01
        )
    assert (out / "COPYRIGHT").is_file() and (out / "left_out.txt").read_text(encoding="utf-8").split() == left_out


def test_another_recipe_makes_the_lists_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "transcripts.csv").touch()
    (tmp_path / "recipe.txt").write_text(gcin.recipe(), encoding="utf-8")
    assert gcin.is_complete(tmp_path)
    monkeypatch.setattr(gcin, "PAUSE_SECONDS", 0.5)
    assert not gcin.is_complete(tmp_path)
