"""Recorded Mandarin: isolated toned syllables of two speakers from Debian's gcin-voice, joined into reading lists.

The package has one file of about 0.3 s per syllable and speaker, in folders named in bopomofo. Such short utterances
would waste most of a training batch, so at least 16 are joined with pauses. The transcript writes each syllable as a
common character with that reading; a syllable without one is left out and listed. Speech recognition works badly on
isolated syllables (Whisper base recognises about two thirds of one speaker's and few of the other's), so the lists
are longer than the utterances that the split stage holds out for evaluation.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import io
import logging
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from pipeline.corpora.debian import download, unpack
from stages.common.command import configure_logging, run_command
from stages.common.files import atomic_path, content_key, output_folder
from stages.common.progress import progress_bar

logger = logging.getLogger(__name__)

PACKAGE = "gcin-voice"
SYLLABLES = Path("usr/share/gcin-voice/ogg")
COPYRIGHT = Path("usr/share/doc/gcin-voice/copyright")
SPEAKERS = {"gcin-3": "3.ogg", "gcin-5": "5.ogg"}  # numbered by the package
TONE_MARKS = {"1": "˙", "2": "ˊ", "3": "ˇ", "4": "ˋ"}  # the first tone has no digit
MIN_LIST_LENGTH = 16  # makes lists longer than split.held_out_max_seconds
PAUSE_SECONDS = 0.25
MARGIN_SECONDS = 0.1
INTERJECTIONS = set("哦喔噢嗯呣唉哎诶欸")  # their tone depends on the meaning
FADE_SECONDS = 0.004  # some files begin or end without a zero crossing


@dataclass(frozen=True)
class ReadingList:
    """One utterance: a speaker's syllables (folder names) and the characters that stand for them."""

    speaker: str
    syllables: tuple[str, ...]
    characters: tuple[str, ...]

    @property
    def text(self) -> str:
        """The transcript: a pause mark between the characters."""
        return "，".join(self.characters) + "。"

    @property
    def audio(self) -> str:
        """The file's path below the corpus; its name is the hash of the text."""
        return f"{self.speaker}/list-{hashlib.sha256(self.text.encode()).hexdigest()[:12]}.flac"


def bopomofo(folder: str) -> str:
    """Return the standard spelling (ㄅㄚˋ) of a folder's name (ㄅㄚ4)."""
    return folder[:-1] + TONE_MARKS[folder[-1]] if folder[-1] in TONE_MARKS else folder


def commonness(character: str) -> int:
    """Return 2 for the 3,755 common characters of GB 2312 level 1, 1 for level 2, 0 otherwise."""
    try:
        first_byte = character.encode("gb2312")[0]
    except UnicodeEncodeError:
        return 0
    return 2 if 0xB0 <= first_byte <= 0xD7 else 1 if 0xD8 <= first_byte <= 0xF7 else 0


def characters_by_syllable() -> dict[str, str]:
    """Return toned bopomofo → a character of GB 2312 with that reading.

    Preferred is a level 1 character with a single reading, then a level 2 character with a single reading, then a
    level 1 character whose first reading it is. Among equals, the character that occurs in most words is chosen.
    """
    import jieba
    from pypinyin import Style, pinyin

    jieba.setLogLevel(logging.WARNING)
    jieba.dt.initialize()
    n_words: dict[str, int] = {}
    for word in jieba.dt.FREQ:
        if len(word) > 1 and jieba.dt.FREQ[word]:
            for character in set(word):
                n_words[character] = n_words.get(character, 0) + 1
    best: dict[str, tuple[tuple[int, int, str], str]] = {}
    for character, count in n_words.items():
        if not (level := commonness(character)) or character in INTERJECTIONS:
            continue
        readings = list(dict.fromkeys(pinyin(character, style=Style.BOPOMOFO, heteronym=True)[0]))
        if len(readings) > 1 and level == 1:
            continue
        rank = (level + 1 if len(readings) == 1 else 1, count, character)
        best[readings[0]] = max(best.get(readings[0], ((0, 0, ""), "")), (rank, character))
    return {syllable: character for syllable, (_, character) in best.items()}


def make_reading_lists(
    files: Mapping[str, Sequence[str]], characters: Mapping[str, str], min_length: int = MIN_LIST_LENGTH
) -> tuple[list[ReadingList], list[str]]:
    """Return reading lists of at least `min_length` syllables of speaker → folder names, and folders left out.

    A speaker's syllables are shuffled by their hash, so that each list contains varied syllables.
    """
    left_out = sorted(
        {folder for folders in files.values() for folder in folders if bopomofo(folder) not in characters}
    )
    lists = []
    for speaker, folders in sorted(files.items()):
        kept = [folder for folder in folders if bopomofo(folder) in characters]
        shuffled = sorted(kept, key=lambda folder: hashlib.sha256(f"{speaker}\0{folder}".encode()).digest())
        n_lists = max(1, len(shuffled) // min_length)
        for number in range(n_lists):
            group = tuple(shuffled[number::n_lists])
            lists.append(ReadingList(speaker, group, tuple(characters[bopomofo(folder)] for folder in group)))
    return lists, left_out


def join_syllables(pieces: Sequence[npt.NDArray[np.floating]], sample_rate_hz: int) -> npt.NDArray[np.float32]:
    """Return syllables (S,) in sequence, with fades at their edges, pauses between them and margins around them."""
    fade = np.linspace(0, 1, max(2, int(FADE_SECONDS * sample_rate_hz)), dtype=np.float32)
    pause = np.zeros(int(PAUSE_SECONDS * sample_rate_hz), dtype=np.float32)
    margin = np.zeros(int(MARGIN_SECONDS * sample_rate_hz), dtype=np.float32)
    parts = [margin]
    for piece in pieces:
        shaped = np.array(piece, dtype=np.float32)
        shaped[: len(fade)] *= fade[: len(shaped)]
        shaped[-len(fade) :] *= fade[::-1][-len(shaped) :]
        parts += [shaped, pause]
    return np.concatenate([*parts[:-1], margin])


def write_list(reading_list: ReadingList, sounds: Path, out: Path) -> None:
    """Write one reading list as FLAC below `out`."""
    import soundfile

    pieces, rates = [], set()
    for syllable in reading_list.syllables:
        path = sounds / syllable / SPEAKERS[reading_list.speaker]
        samples, rate = soundfile.read(path, dtype="float32", always_2d=True)
        pieces.append(samples.mean(axis=1))
        rates.add(rate)
    if len(rates) != 1:
        raise ValueError(f"{reading_list.audio}: the syllables have sample rates {sorted(rates)}")
    encoded = io.BytesIO()
    soundfile.write(encoded, join_syllables(pieces, rates.pop()), rate, format="FLAC", subtype="PCM_16")
    with atomic_path(out / reading_list.audio) as temporary:
        temporary.write_bytes(encoded.getvalue())


def recipe() -> str:
    """Return the hash of the settings that determine the lists."""
    return content_key(MIN_LIST_LENGTH, PAUSE_SECONDS, MARGIN_SECONDS, FADE_SECONDS, sorted(SPEAKERS.items()))


def is_complete(out: Path) -> bool:
    """Return whether `out` contains the lists of this recipe."""
    mark = out / "recipe.txt"
    return (out / "transcripts.csv").is_file() and mark.is_file() and mark.read_text(encoding="utf-8") == recipe()


def write_lists(out: Path, min_length: int) -> tuple[list[ReadingList], list[str]]:
    """Write ``SPEAKER/list-….flac`` and COPYRIGHT into `out`; return the lists and the syllables left out."""
    with tempfile.TemporaryDirectory(prefix="gcin-voice-") as scratch:
        root = unpack(download([PACKAGE], Path(scratch)), Path(scratch))
        sounds = root / SYLLABLES
        files = {
            speaker: sorted(path.parent.name for path in sounds.glob(f"*/{name}")) for speaker, name in SPEAKERS.items()
        }
        lists, left_out = make_reading_lists(files, characters_by_syllable(), min_length)
        with progress_bar("syllables", len(lists), "list") as bar:
            for reading_list in lists:
                write_list(reading_list, sounds, out)
                bar.update(1)
        shutil.copyfile(root / COPYRIGHT, out / "COPYRIGHT")
        return lists, left_out


def fetch(out: Path) -> tuple[int, list[str]]:
    """Write ``SPEAKER/list-….flac``, transcripts.csv, COPYRIGHT, recipe.txt and left_out.txt into `out`.

    Return the number of lists and the syllables left out.
    """
    with output_folder(out) as temporary:
        lists, left_out = write_lists(temporary, MIN_LIST_LENGTH)
        (temporary / "recipe.txt").write_text(recipe(), encoding="utf-8")
        (temporary / "left_out.txt").write_text("".join(f"{syllable}\n" for syllable in left_out), encoding="utf-8")
        with (temporary / "transcripts.csv").open("w", encoding="utf-8", newline="") as stream:
            writer = csv.writer(stream, lineterminator="\n")
            writer.writerow(["audio", "speaker", "language", "text"])
            writer.writerows(sorted((item.audio, item.speaker, "ZH", item.text) for item in lists))
        return len(lists), left_out


def main() -> None:
    """Make the reading lists unless they exist."""
    parser = argparse.ArgumentParser(
        prog="python -m pipeline.corpora.gcin",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--out", type=Path, default=Path("data/recordings/gcin-voice"), metavar="PATH")
    out = parser.parse_args().out
    configure_logging()
    if not is_complete(out):
        run_command(lambda: _fetch_and_log(out), "recordings")


def _fetch_and_log(out: Path) -> None:
    n_lists, left_out = fetch(out)
    logger.info("%d reading lists in %s; %d syllables left out: %s", n_lists, out, len(left_out), " ".join(left_out))


if __name__ == "__main__":
    main()
