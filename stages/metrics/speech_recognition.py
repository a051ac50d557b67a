"""Intelligibility: transcripts of a speech recogniser, and their error rates by units and by characters.

A unit is an English word, a toned pinyin syllable or a kana (see spoken_units).

The recogniser is Whisper base (Radford et al. 2022) in int8 by faster-whisper and CTranslate2. Each clip is decoded
alone, without VAD, previous text, timestamps or temperature fallback, so a transcript depends only on its clip.
Whisper was trained on windows of 30 s and spends nearly all of its time on the padding of a short clip (1.6
CPU-seconds). Windows of 10 s are five times cheaper, but on 25 held-out prompts one recording was transcribed three
times over, which raised the recordings' word error rate from 3.9 % to 13.7 %.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import jiwer
import numpy as np
import numpy.typing as npt
import soxr

from stages.metrics.perceptual_input import SAMPLE_RATE_HZ

BEAM_SIZE = 5
WINDOW_SECONDS = 30
TRAILING_SILENCE_SECONDS = 1
TOKENS_PER_SECOND = 15  # several times the speed of speech: limits hallucinations on sounds that are not speech
MIN_TOKENS = 16
WHISPER_LANGUAGES = {"EN": "en", "ZH": "zh", "JP": "ja"}


@dataclass(frozen=True)
class WordDifference:
    """One stretch of an aligned transcript; `kind` is equal, substitute, delete or insert."""

    kind: str
    said: tuple[str, ...]
    heard: tuple[str, ...]


@dataclass(frozen=True)
class ErrorCount:
    """Edits between text and transcript; their sums over utterances give the corpus's rates."""

    word_edits: int
    words: int
    character_edits: int
    characters: int

    @property
    def word_error_rate(self) -> float:
        """Return the edits per unit of the text; NaN without units."""
        return self.word_edits / self.words if self.words else float("nan")

    @property
    def character_error_rate(self) -> float:
        """Return the edits per character of the text's units, with the spaces between words; NaN without characters."""
        return self.character_edits / self.characters if self.characters else float("nan")


class SpeechRecogniser:
    """Whisper for single waveforms; the same waveform gives the same transcript.

    Each clip takes one thread; up to `workers` threads can call it at once.
    """

    def __init__(self, model_folder: Path, *, workers: int = 1) -> None:
        from faster_whisper import WhisperModel

        self._model = WhisperModel(
            str(model_folder), device="cpu", compute_type="int8", cpu_threads=1, num_workers=workers
        )

    def __call__(self, waveform: npt.NDArray[np.floating], sample_rate_hz: int, language: str) -> str:
        """Return the transcript of a waveform (S,) in a language of WHISPER_LANGUAGES; "" for an empty one.

        Samples that are not finite count as 0. A waveform longer than 29 s is transcribed in pieces.
        """
        samples = np.nan_to_num(np.asarray(waveform, dtype=np.float32), nan=0.0, posinf=0.0, neginf=0.0)
        if not samples.any():
            return ""  # Whisper hallucinates words for silence
        samples = soxr.resample(samples, sample_rate_hz, SAMPLE_RATE_HZ, quality="HQ")
        piece = (WINDOW_SECONDS - TRAILING_SILENCE_SECONDS) * SAMPLE_RATE_HZ
        texts = [self._transcribe(samples[start : start + piece], language) for start in range(0, len(samples), piece)]
        return " ".join(text for text in texts if text)

    def _transcribe(self, samples: npt.NDArray[np.float32], language: str) -> str:
        from faster_whisper.tokenizer import Tokenizer
        from faster_whisper.transcribe import get_suppressed_tokens

        padded = np.pad(samples, (0, WINDOW_SECONDS * SAMPLE_RATE_HZ - len(samples)))
        features = self._model.feature_extractor(padded, padding=0)
        tokenizer = Tokenizer(self._model.hf_tokenizer, True, task="transcribe", language=WHISPER_LANGUAGES[language])
        prompt = self._model.get_prompt(tokenizer, [], without_timestamps=True)
        max_tokens = MIN_TOKENS + int(TOKENS_PER_SECOND * len(samples) / SAMPLE_RATE_HZ)
        result = self._model.model.generate(
            self._model.encode(features),
            [prompt],
            beam_size=BEAM_SIZE,
            sampling_temperature=0.0,
            suppress_blank=True,
            suppress_tokens=get_suppressed_tokens(tokenizer, [-1]),
            max_length=min(len(prompt) + max_tokens, self._model.max_length),
        )
        return str(tokenizer.decode(result[0].sequences_ids[0])).strip()


def count_errors(said: Sequence[str], heard: Sequence[str], separator: str = " ") -> ErrorCount:
    """Return the edits from the text's units to the transcript's, by units and by characters.

    Characters include the `separator` between units.
    """
    said_text, heard_text = separator.join(said), separator.join(heard)
    if not said:
        return ErrorCount(len(heard), 0, len(heard_text), 0)
    words = jiwer.process_words(" ".join(said), " ".join(heard))
    characters = jiwer.process_characters(said_text, heard_text)
    return ErrorCount(
        words.substitutions + words.deletions + words.insertions,
        len(said),
        characters.substitutions + characters.deletions + characters.insertions,
        len(said_text),
    )


def align_words(said: Sequence[str], heard: Sequence[str]) -> list[WordDifference]:
    """Return the aligned words of text and transcript as stretches of one kind, in order."""
    if not said:
        return [WordDifference("insert", (), tuple(heard))] if heard else []
    chunks = jiwer.process_words(" ".join(said), " ".join(heard)).alignments[0]
    return [
        WordDifference(
            chunk.type,
            tuple(said[chunk.ref_start_idx : chunk.ref_end_idx]),
            tuple(heard[chunk.hyp_start_idx : chunk.hyp_end_idx]),
        )
        for chunk in chunks
    ]
