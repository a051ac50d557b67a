"""Real speech for benchmarks, decoded once to 16 kHz and cached.

Benchmarks at 44.1 or 48 kHz upsample clips in memory beforehand: lengths and amounts of work are those of such
recordings, and no figure depends on frequencies above 8 kHz.
"""

from __future__ import annotations

import csv
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from stages.common.errors import RowRejected
from stages.common.files import output_folder
from stages.rows.executors import map_unordered

CORPUS_RATE_HZ = 16000
MIN_SECONDS = 0.7  # no preset trains on shorter prompts
MARKS = set("[](){}<>")  # of texts that describe tones or silence, as in corpus.non_speech_pattern

Pcm = npt.NDArray[np.int16]


def is_spoken(text: str) -> bool:
    """Return whether a transcript is of speech."""
    return not MARKS & set(text)


def to_pcm(level: npt.NDArray[np.float32]) -> Pcm:
    """Return samples (S,) in [-1, 1] as 16 bits."""
    pcm: Pcm = np.clip(np.rint(level * 32768.0), -32768, 32767).astype(np.int16)
    return pcm


class SpeechMissingError(Exception):
    """Recordings are missing; the message says how to get them."""


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
        return to_pcm(level)


@dataclass(frozen=True)
class Prompt:
    """A line of transcripts.csv whose recording is there."""

    name: str
    text: str
    path: Path


def read_prompts(recordings: Path) -> list[Prompt]:
    """Return the spoken prompts of a folder with transcripts.csv; raises SpeechMissingError when there are none."""
    transcripts = recordings / "transcripts.csv"
    if not transcripts.is_file():
        raise SpeechMissingError(
            f"{transcripts}: not there; without --recordings, benchmarks fetch recordings of their own"
        )
    with transcripts.open(encoding="utf-8", newline="") as stream:
        listed = sorted((row["audio"], row["text"]) for row in csv.DictReader(stream))
    prompts = [Prompt(audio.rsplit(".", 1)[0], text, recordings / audio) for audio, text in listed if is_spoken(text)]
    found = [prompt for prompt in prompts if prompt.path.is_file() and prompt.path.stat().st_size]
    if not found:
        raise SpeechMissingError(
            f"{recordings}: no spoken prompt there; delete the folder, and benchmarks fetch recordings of their own"
        )
    return found


def decode(prompt: Prompt) -> tuple[str, Pcm] | None:
    """Return a prompt's name and PCM (S,) at `CORPUS_RATE_HZ`; None if it is too short or unreadable."""
    import soxr

    from stages.audio import decode as audio

    try:
        recording = audio.decode(prompt.path.read_bytes(), prompt.path.suffix)
    except RowRejected:
        return None
    level = recording.samples[:, 0]
    if recording.sample_rate_hz != CORPUS_RATE_HZ:
        level = soxr.resample(level, recording.sample_rate_hz, CORPUS_RATE_HZ)
    if len(level) < MIN_SECONDS * CORPUS_RATE_HZ:
        return None
    return prompt.name, to_pcm(level)


def decode_corpus(prompts: Sequence[Prompt], out: Path) -> int:
    """Decode prompts into `out`, on all cores, and return how many are long enough."""
    pieces = dict(found for found in map_unordered(decode, prompts) if found)
    kept = [prompt for prompt in prompts if prompt.name in pieces]
    if not kept:
        raise SpeechMissingError(f"none of {len(prompts)} spoken prompts lasts {MIN_SECONDS} s")
    np.save(out / "pcm.npy", np.concatenate([pieces[prompt.name] for prompt in kept]))
    entries = [{"name": prompt.name, "text": prompt.text, "n_samples": len(pieces[prompt.name])} for prompt in kept]
    (out / "clips.json").write_text(json.dumps(entries), encoding="utf-8")
    return len(kept)


def kept_speech(recordings: Path, kept: Path) -> Path:
    """Return the folder below `kept` with the decoded prompts of `recordings`, decoded again if any of them changed.

    Raises SpeechMissingError.
    """
    prompts = read_prompts(recordings)
    digest = hashlib.sha256(f"{CORPUS_RATE_HZ} {MIN_SECONDS}".encode())
    for prompt in prompts:
        digest.update(f"\0{prompt.name}\0{prompt.text}\0".encode() + hashlib.sha256(prompt.path.read_bytes()).digest())
    folder = kept / digest.hexdigest()[:16]
    if not folder.is_dir():
        with output_folder(folder) as temporary:
            decode_corpus(prompts, temporary)
    return folder


def read_clips(folder: Path) -> list[Clip]:
    """Return the clips that `decode_corpus` wrote; samples are memory-mapped."""
    pcm = np.load(folder / "pcm.npy", mmap_mode="r").view(np.ndarray)
    clips, start = [], 0
    for entry in json.loads((folder / "clips.json").read_text(encoding="utf-8")):
        clips.append(Clip(entry["name"], entry["text"], pcm[start : start + entry["n_samples"]]))
        start += entry["n_samples"]
    return clips


def sample(clips: Sequence[Clip], count: int) -> list[Clip]:
    """Return a deterministic subset of at most `count` clips, chosen by the hash of their names."""
    return sorted(clips, key=lambda clip: hashlib.sha256(clip.name.encode()).digest())[:count]
