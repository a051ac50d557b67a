"""Real Mandarin: the isolated toned syllables of Debian's gcin-voice, two speakers, joined into short reading lists.

The package holds one file per syllable and speaker, a third of a second each, in folders named in bopomofo. As
utterances of their own they would fill most of a training run's batches with almost nothing, so sixteen and more are
joined with pauses between. The transcript names each syllable by a common character that is read so; a syllable
without one is left out and listed. Recognisers understand loose syllables badly (Whisper base hears about two in three
of
one speaker's and few of the other's), so the lists are made longer than what the split stage holds out for judging.
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
SPEAKERS = {"gcin-3": "3.ogg", "gcin-5": "5.ogg"}  # as the package numbers them
TONE_MARKS = {"1": "˙", "2": "ˊ", "3": "ˇ", "4": "ˋ"}  # no digit is the first tone
MIN_LIST_LENGTH = 16  # makes lists longer than split.held_out_max_seconds
PAUSE_SECONDS = 0.25
MARGIN_SECONDS = 0.1
INTERJECTIONS = set("哦喔噢嗯呣唉哎诶欸")  # a reader chooses their tone by what they mean
FADE_SECONDS = 0.004  # some files begin or end in mid-wave


@dataclass(frozen=True)
class ReadingList:
    """One utterance to make: a speaker's syllables (folder names) and the characters that name them."""

    speaker: str
    syllables: tuple[str, ...]
    characters: tuple[str, ...]

    @property
    def text(self) -> str:
        """The transcript: a pause mark between the characters."""
        return "，".join(self.characters) + "。"

    @property
    def audio(self) -> str:
        """The file's path below the corpus, named by what is said in it."""
        return f"{self.speaker}/list-{hashlib.sha256(self.text.encode()).hexdigest()[:12]}.flac"


def bopomofo(folder: str) -> str:
    """Return the standard spelling (ㄅㄚˋ) of a folder's name (ㄅㄚ4)."""
    return folder[:-1] + TONE_MARKS[folder[-1]] if folder[-1] in TONE_MARKS else folder


def commonness(character: str) -> int:
    """Return 2 for the 3,755 common characters of GB 2312's first level, 1 for those of its second, else 0."""
    try:
        first_byte = character.encode("gb2312")[0]
    except UnicodeEncodeError:
        return 0
    return 2 if 0xB0 <= first_byte <= 0xD7 else 1 if 0xD8 <= first_byte <= 0xF7 else 0


def characters_by_syllable() -> dict[str, str]:
    """Return toned bopomofo → a character that stands for it.

    Among the characters of GB 2312: a common one with this only reading, else a rarer one with this only reading,
    else a common one whose first reading it is; of several the one that is part of most words.
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


def plan(
    files: Mapping[str, Sequence[str]], characters: Mapping[str, str], min_length: int = MIN_LIST_LENGTH
) -> tuple[list[ReadingList], list[str]]:
    """Return the reading lists (of `min_length` syllables or more) of speaker → folder names, and the folders that no
    character stands for.

    A speaker's syllables are shuffled by their hash, so that a list is as varied as the language.
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


def joined(pieces: Sequence[npt.NDArray[np.floating]], sample_rate_hz: int) -> npt.NDArray[np.float32]:
    """Return syllables (S,) one after another, faded at their edges, with pauses between and margins around."""
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
        samples, rate = soundfile.read(
            sounds / syllable / SPEAKERS[reading_list.speaker], dtype="float32", always_2d=True
        )
        pieces.append(samples.mean(axis=1))
        rates.add(rate)
    if len(rates) != 1:
        raise ValueError(f"{reading_list.audio}: the syllables have sample rates {sorted(rates)}")
    encoded = io.BytesIO()
    soundfile.write(encoded, joined(pieces, rates.pop()), rate, format="FLAC", subtype="PCM_16")
    with atomic_path(out / reading_list.audio) as temporary:
        temporary.write_bytes(encoded.getvalue())


def recipe() -> str:
    """Return the hash of all that decides how the lists are made."""
    return content_key(MIN_LIST_LENGTH, PAUSE_SECONDS, MARGIN_SECONDS, FADE_SECONDS, sorted(SPEAKERS.items()))


def is_complete(out: Path) -> bool:
    """Return whether `out` holds the lists of this recipe."""
    mark = out / "recipe.txt"
    return (out / "transcripts.csv").is_file() and mark.is_file() and mark.read_text(encoding="utf-8") == recipe()


def write_lists(out: Path, min_length: int) -> tuple[list[ReadingList], list[str]]:
    """Fetch the syllables and put ``SPEAKER/list-….flac`` and COPYRIGHT into `out`; returns the lists and the syllables
    left out.
    """
    with tempfile.TemporaryDirectory(prefix="gcin-voice-") as scratch:
        root = unpack(download([PACKAGE], Path(scratch)), Path(scratch))
        sounds = root / SYLLABLES
        files = {
            speaker: sorted(path.parent.name for path in sounds.glob(f"*/{name}")) for speaker, name in SPEAKERS.items()
        }
        lists, left_out = plan(files, characters_by_syllable(), min_length)
        with progress_bar("syllables", len(lists), "list") as bar:
            for reading_list in lists:
                write_list(reading_list, sounds, out)
                bar.update(1)
        shutil.copyfile(root / COPYRIGHT, out / "COPYRIGHT")
        return lists, left_out


def fetch(out: Path) -> tuple[int, list[str]]:
    """Put ``SPEAKER/list-….flac``, transcripts.csv, COPYRIGHT, recipe.txt and left_out.txt into `out`.

    Returns the number of lists and the syllables left out.
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
    """Fetch the syllables unless they are there."""
    parser = argparse.ArgumentParser(
        prog="python -m pipeline.corpora.gcin",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--out", type=Path, default=Path("data/recordings/gcin-voice"), metavar="PATH")
    out = parser.parse_args().out
    configure_logging()
    if not is_complete(out):  # nothing twice
        run_command(lambda: _fetch_and_tell(out), "recordings")


def _fetch_and_tell(out: Path) -> None:
    n_lists, left_out = fetch(out)
    logger.info("%d reading lists in %s; %d syllables left out: %s", n_lists, out, len(left_out), " ".join(left_out))


if __name__ == "__main__":
    main()
