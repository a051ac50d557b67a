"""One voice for several clients: requests checked, read and spoken piece by piece, in one thread.

Pieces of different requests take turns, so that a short text does not wait for the end of a long one. What a client
who left had still to hear is never spoken, but for the piece that is being spoken.
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
# A sentence per language, with a word that no dictionary has: what is loaded late is loaded by it.
WARM_UP = {"EN": "Ready, florbish.", "ZH": "准备好了, florbish。", "JP": "準備ができました, florbish。"}


@dataclass(frozen=True)
class Limits:
    """What one client may ask for, and all together."""

    max_characters: int = 5000
    max_requests: int = 4
    max_seconds: float = 120.0

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            if getattr(self, field.name) <= 0:
                raise ValueError(f"{field.name} is {getattr(self, field.name)}; use more than 0")

    @property
    def max_body_bytes(self) -> int:
        """The longest text as JSON that escapes every character, and the other fields."""
        return 12 * self.max_characters + 4096


class SpeakRequest(BaseModel):
    """What to say and how; what is left out is the voice's own."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    text: Annotated[str, Field(min_length=1, description="what to say")]
    speaker: Annotated[str | None, Field(description="name; the voice's first if left out")] = None
    language: Annotated[str | None, Field(description="code; the voice's first if left out")] = None
    speed: Annotated[float, Field(ge=0.5, le=2.0, description="2 is twice as fast")] = 1.0
    noise: Annotated[
        float | None, Field(ge=0.0, le=1.5, description="spread of the prior; the voice's own if left out")
    ] = None
    seed: Annotated[int, Field(ge=0, lt=2**32, description="of the random draws")] = 0
    format: Annotated[Literal["wav", "flac"], Field(description="kind of file")] = "wav"
    stream: Annotated[
        bool, Field(description="WAV only: send every sentence as soon as it is spoken, in a file of unknown length")
    ] = False


class RequestError(ValueError):
    """A request that this voice cannot fulfil; the message is for the client."""


class BusyError(RuntimeError):
    """As many requests as are allowed are in work."""


class Narrator:
    """Speaks for a bounded number of requests at a time; used from one event loop."""

    def __init__(self, voice: Voice, limits: Limits) -> None:
        self.voice = voice
        self.limits = limits
        self.n_requests = 0
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="voice")

    def warm_up(self) -> None:
        """Speak a sentence of every language, so that no client waits for loading. Raises EncoderError, TextError."""
        for language in self.voice.languages:
            self.voice.say(WARM_UP[language], language=language)

    @contextmanager
    def admitted(self) -> Iterator[None]:
        """Count as a request in work. Raises BusyError."""
        if self.n_requests >= self.limits.max_requests:
            raise BusyError(f"as many requests are in work as are allowed ({self.n_requests}); try again soon")
        self.n_requests += 1
        try:
            yield
        finally:
            self.n_requests -= 1

    async def pieces(self, request: SpeakRequest) -> list[Piece]:
        """Return the request's text in pieces that can all be read.

        Raises RequestError (speaker, language, length), TextError for what cannot be read.
        """
        if len(request.text) > self.limits.max_characters:
            raise RequestError(
                f"the text has {len(request.text):,} characters; at most {self.limits.max_characters:,} are spoken at once"
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
        """Return the voice's own style with what the request says."""
        own = self.voice.style
        noise = own.noise_scale if request.noise is None else request.noise
        return dataclasses.replace(
            own, noise_scale=noise, length_scale=own.length_scale / request.speed, seed=request.seed
        )

    def _language(self, request: SpeakRequest) -> str:
        return self.voice.languages[0] if request.language is None else request.language

    async def _in_thread(self, work: Callable[[], ResultT]) -> ResultT:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)
