"""The real speech that benchmarks work on: the default corpus, decoded once per run.

The recordings are 16 kHz. Where a benchmark needs 44.1 or 48 kHz they are upsampled in memory beforehand: lengths and
amounts of work are then those of such recordings, and no figure depends on what lies above 8 kHz.
"""

from __future__ import annotations

import csv
import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

RECORDINGS = Path("data/recordings/asterisk-en")
CORPUS_RATE_HZ = 16000
MIN_SECONDS = 0.7  # shorter prompts are single syllables that no preset trains on
_NOT_SPEECH = re.compile(r"[\[\](){}<>]")

Pcm = npt.NDArray[np.int16]


class SpeechMissingError(Exception):
    """The default recordings are not there; the message says how to get them."""


@dataclass(frozen=True)
class Clip:
    """One prompt: pcm (S,) int16 at `CORPUS_RATE_HZ`."""

    name: str
    text: str
    pcm: Pcm

    def at_rate(self, sample_rate_hz: int) -> Pcm:
        """Return the prompt upsampled to another rate."""
        import soxr

        level = soxr.resample(self.pcm.astype(np.float32) / np.float32(32768.0), CORPUS_RATE_HZ, sample_rate_hz)
        return np.clip(np.rint(level * 32768.0), -32768, 32767).astype(np.int16)


def decode_corpus(recordings: Path, out: Path) -> int:
    """Decode every spoken prompt into `out` and return how many; raises SpeechMissingError when there are none."""
    from stages.common import audio

    transcripts = recordings / "transcripts.csv"
    if not transcripts.is_file():
        raise SpeechMissingError(f"{transcripts}: not there; run `make recordings`, which fetches the default corpus")
    with transcripts.open(encoding="utf-8", newline="") as stream:
        listed = [(row["audio"], row["text"]) for row in csv.DictReader(stream)]
    entries, pieces = [], []
    for name, text in sorted(listed):
        path = recordings / name
        if _NOT_SPEECH.search(text) or not path.is_file() or not path.stat().st_size:
            continue
        recording = audio.decode(path.read_bytes(), path.suffix)
        if len(recording.samples) < MIN_SECONDS * CORPUS_RATE_HZ:
            continue
        pieces.append(np.clip(np.rint(recording.samples[:, 0] * 32768.0), -32768, 32767).astype(np.int16))
        entries.append({"name": name.rsplit(".", 1)[0], "text": text, "n_samples": len(pieces[-1])})
    if not entries:
        raise SpeechMissingError(f"{recordings}: no spoken prompt there; delete the folder and run `make recordings`")
    np.save(out / "pcm.npy", np.concatenate(pieces))
    (out / "clips.json").write_text(json.dumps(entries), encoding="utf-8")
    return len(entries)


def read_clips(folder: Path) -> list[Clip]:
    """Return the clips that `decode_corpus` wrote."""
    pcm = np.load(folder / "pcm.npy")
    clips, start = [], 0
    for entry in json.loads((folder / "clips.json").read_text(encoding="utf-8")):
        clips.append(Clip(entry["name"], entry["text"], pcm[start : start + entry["n_samples"]]))
        start += entry["n_samples"]
    return clips


def sample(clips: Sequence[Clip], count: int) -> list[Clip]:
    """Return `count` clips, the same in every run, with the lengths of the whole corpus (chosen by the hash of their names)."""
    return sorted(clips, key=lambda clip: hashlib.sha256(clip.name.encode()).digest())[:count]
