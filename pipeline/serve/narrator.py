"""One voice for concurrent clients: requests are validated, then spoken piece by piece in one thread.

Pieces of different requests alternate, so that a short text does not wait for a long one. When a client disconnects,
the rest of its text is not spoken.
"""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field

from model.inference.sentences import Piece, split_text
from model.inference.voice import SpeakingStyle, Voice
from pipeline.serve.sound import Pcm, to_pcm

ResultT = TypeVar("ResultT")
# A sentence per language with a word outside the dictionaries, which also loads the fallback models.
WARM_UP = {"EN": "Ready, florbish.", "ZH": "准备好了, florbish。", "JP": "準備ができました, florbish。"}


@dataclass(frozen=True)
class Limits:
    """Limits of one request and of concurrent requests."""

    max_characters: int = 5000
    max_requests: int = 4
    max_seconds: float = 120.0

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            if getattr(self, field.name) <= 0:
                raise ValueError(f"{field.name} is {getattr(self, field.name)}; it must be above 0")

    @property
    def max_body_bytes(self) -> int:
        """Return the size of the longest text in JSON with every character escaped, plus the other fields."""
        return 12 * self.max_characters + 4096


class SpeakRequest(BaseModel):
    """A text and how to speak it; omitted fields take the voice's defaults."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    text: Annotated[str, Field(min_length=1, description="text to speak")]
    speaker: Annotated[str | None, Field(description="name; default: the voice's first")] = None
    language: Annotated[str | None, Field(description="code; default: the voice's first")] = None
    speed: Annotated[float, Field(ge=0.5, le=2.0, description="2 is twice as fast")] = 1.0
    noise: Annotated[
        float | None, Field(ge=0.0, le=1.5, description="scale of the prior's noise; default: the voice's")
    ] = None
    seed: Annotated[int, Field(ge=0, lt=2**32, description="random seed")] = 0
    format: Annotated[Literal["wav", "flac"], Field(description="file format")] = "wav"
    stream: Annotated[
        bool, Field(description="WAV only: send each sentence as soon as it is spoken, in a file of unknown length")
    ] = False


class RequestError(ValueError):
    """A request that this voice cannot serve; the message is for the client."""


class BusyError(RuntimeError):
    """The maximum number of concurrent requests is reached."""


class Narrator:
    """Speaker for a bounded number of concurrent requests; used from one event loop."""

    def __init__(self, voice: Voice, limits: Limits) -> None:
        self.voice = voice
        self.limits = limits
        self.n_requests = 0
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="voice")

    def warm_up(self) -> None:
        """Speak a sentence of every language, so that all models are loaded. Raises EncoderError, TextError."""
        for language in self.voice.languages:
            self.voice.say(WARM_UP[language], language=language)

    @contextmanager
    def slot(self) -> Iterator[None]:
        """Hold one of the slots for concurrent requests. Raises BusyError."""
        if self.n_requests >= self.limits.max_requests:
            raise BusyError(f"the maximum of {self.limits.max_requests} concurrent requests is reached; try again soon")
        self.n_requests += 1
        try:
            yield
        finally:
            self.n_requests -= 1

    async def pieces(self, request: SpeakRequest) -> list[Piece]:
        """Return the request's text in pieces, all of which the front end can read.

        Raises RequestError (speaker, language, length) or TextError.
        """
        if len(request.text) > self.limits.max_characters:
            raise RequestError(
                f"the text has {len(request.text):,} characters; the maximum is {self.limits.max_characters:,}"
            )
        if request.speaker is not None and request.speaker not in self.voice.speakers:
            raise RequestError(f"unknown speaker {request.speaker!r}; this voice has {', '.join(self.voice.speakers)}")
        language = self._language(request)
        if language not in self.voice.languages:
            raise RequestError(f"unknown language {language!r}; this voice speaks {', '.join(self.voice.languages)}")
        pieces = split_text(request.text, language)
        for piece in pieces:
            await self._in_thread(partial(self.voice.read, piece.text, language))
        return pieces

    async def speak(self, pieces: list[Piece], request: SpeakRequest) -> AsyncIterator[Pcm]:
        """Yield the pieces as 16-bit samples (S,), each with the pause after it."""
        say = partial(
            self.voice.say, language=self._language(request), speaker=request.speaker, style=self.style(request)
        )
        for piece in pieces:
            speech = await self._in_thread(partial(say, piece.text))
            yield to_pcm(speech.samples, piece.pause_seconds / request.speed, speech.sample_rate_hz)

    def style(self, request: SpeakRequest) -> SpeakingStyle:
        """Return the voice's style with the request's changes."""
        default = self.voice.style
        noise = default.noise_scale if request.noise is None else request.noise
        return dataclasses.replace(
            default, noise_scale=noise, length_scale=default.length_scale / request.speed, seed=request.seed
        )

    def _language(self, request: SpeakRequest) -> str:
        return self.voice.languages[0] if request.language is None else request.language

    async def _in_thread(self, work: Callable[[], ResultT]) -> ResultT:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)
