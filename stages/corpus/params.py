"""Parameters of the corpus stage."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

from model.settings import NonNegativeFloat, PositiveInt, Settings, Share
from stages.corpus.quality import QualityParams


@dataclass(frozen=True)
class CorpusParams(Settings):
    """`recordings` is a folder of ``speaker/*.wav`` (any format, rate and channel count), `transcripts` its text."""

    recordings: str
    transcripts: str
    transcript_format: Literal["auto", "table", "bert_vits2", "ljspeech"]
    default_language: str
    languages: tuple[str, ...]
    non_speech_pattern: str
    min_seconds: NonNegativeFloat
    max_seconds: float
    max_utterances: PositiveInt | None
    max_reject_share: Share
    source_note: str
    quality: QualityParams = field(default_factory=QualityParams)

    def _conflicts(self) -> Iterator[str]:
        if not self.min_seconds < self.max_seconds:
            yield f"min_seconds {self.min_seconds} must be less than max_seconds {self.max_seconds}"
        if self.default_language not in self.languages:
            yield f"default_language {self.default_language!r} is not among languages {self.languages}"
        try:
            re.compile(self.non_speech_pattern)
        except re.error as error:
            yield f"non_speech_pattern is not a regular expression: {error}"
