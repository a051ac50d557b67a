"""The service's HTTP interface: routes, limits and error responses."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from importlib import resources
from typing import Annotated, Any

import numpy as np
from fastapi import FastAPI, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse, Response, StreamingResponse
from starlette.exceptions import HTTPException
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from model.bert.tokenizers import EncoderError
from model.text.errors import TextError
from pipeline.serve.narrator import BusyError, Narrator, RequestError, SpeakRequest
from pipeline.serve.sound import MEDIA_TYPES, Pcm, to_file, wav_stream_header

logger = logging.getLogger(__name__)

RETRY_AFTER_SECONDS = 2
CLIENT_DISCONNECTED = 499  # for the access log only
PAGE_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'; media-src blob:; "
    "img-src data:; frame-ancestors 'none'"
)
AUDIO_HEADERS = {
    "Cache-Control": "no-store",
    "Cross-Origin-Resource-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
}


class BodyLimit:
    """ASGI middleware that answers 413 to a body over `max_bytes` without reading the rest."""

    def __init__(self, app: ASGIApp, max_bytes: int) -> None:
        self.app = app
        self.max_bytes = max_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Forward a request, counting the bytes of its body."""
        n_bytes = 0

        async def counted() -> Message:
            nonlocal n_bytes
            message = await receive()
            n_bytes += len(message.get("body", b""))
            if n_bytes > self.max_bytes:
                raise HTTPException(
                    413, f"the request is longer than {self.max_bytes:,} bytes; send less text per request"
                )
            return message

        await self.app(scope, counted if scope["type"] == "http" else receive, send)


class SpeechStream(StreamingResponse):
    """Audio stream that ends after `max_seconds`, even if the client stops reading, and then releases `resources`."""

    def __init__(self, content: AsyncIterator[bytes], resources: ExitStack, max_seconds: float) -> None:
        super().__init__(content, media_type=MEDIA_TYPES["wav"], headers=AUDIO_HEADERS)
        self.resources = resources
        self.max_seconds = max_seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the stream; on timeout it ends without its last chunk, which clients report as an error."""
        with self.resources:
            try:
                async with asyncio.timeout(self.max_seconds):
                    await super().__call__(scope, receive, send)
            except TimeoutError:
                logger.warning("a stream timed out after %g seconds", self.max_seconds)


def create_app(narrator: Narrator, allowed_hosts: Sequence[str]) -> FastAPI:
    """Return the service of a voice.

    Requests with a Host header outside `allowed_hosts` are refused, against DNS rebinding.
    """
    app = FastAPI(
        title="Voice", description="Speech synthesis with one trained voice.", docs_url=None, redoc_url=None
    )  # the documentation pages load scripts from a CDN
    app.add_middleware(BodyLimit, max_bytes=narrator.limits.max_body_bytes)
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=list(allowed_hosts), www_redirect=False)
    _add_error_handlers(app)
    page = resources.files("pipeline.serve").joinpath("page.html").read_text(encoding="utf-8")
    kinds: dict[str, Any] = {media_type: {} for media_type in MEDIA_TYPES.values()}
    audio: dict[int | str, dict[str, Any]] = {200: {"content": kinds, "description": "16-bit mono audio"}}

    @app.get("/", response_class=HTMLResponse, include_in_schema=False)
    async def show_page() -> HTMLResponse:
        return HTMLResponse(page, headers={"Content-Security-Policy": PAGE_POLICY, "X-Content-Type-Options": "nosniff"})

    @app.get("/healthz", summary="status and number of running requests")
    async def health() -> dict[str, Any]:
        return {"status": "ok", "requests": narrator.n_requests, "max_requests": narrator.limits.max_requests}

    @app.get("/voice", summary="speakers, languages, sample rate, default style, limits and origin")
    async def describe() -> dict[str, Any]:
        voice = narrator.voice
        return {
            "speakers": voice.speakers,
            "languages": voice.languages,
            "sample_rate_hz": voice.spectrogram.sample_rate_hz,
            "style": asdict(voice.style),
            "max_characters": narrator.limits.max_characters,
            "training_steps": voice.metadata.get("step"),
            "recordings": voice.metadata.get("source_note", ""),
        }

    @app.post("/speak", response_class=Response, responses=audio, summary="speak a text")
    async def speak(speech: SpeakRequest, request: Request) -> Response:
        return await _answer(narrator, speech, request)

    @app.get(
        "/speak", response_class=Response, responses=audio, summary="speak a text given in the URL, for audio elements"
    )
    async def speak_from_address(speech: Annotated[SpeakRequest, Query()], request: Request) -> Response:
        return await _answer(narrator, speech, request)

    return app


async def _answer(narrator: Narrator, speech: SpeakRequest, request: Request) -> Response:
    """Return the spoken text, whole or as a stream; the first piece is spoken before the status is sent."""
    limits, sample_rate_hz = narrator.limits, narrator.voice.spectrogram.sample_rate_hz
    with ExitStack() as resources:
        resources.enter_context(narrator.slot())
        try:
            async with asyncio.timeout(limits.max_seconds):
                sounds = narrator.speak(await narrator.pieces(speech), speech)
                spoken = [await anext(sounds)]
                if speech.stream and speech.format == "wav":
                    return SpeechStream(
                        _wav_chunks(spoken[0], sounds, sample_rate_hz), resources.pop_all(), limits.max_seconds
                    )
                async for pcm in sounds:
                    if await request.is_disconnected():
                        return Response(status_code=CLIENT_DISCONNECTED)
                    spoken.append(pcm)
        except TimeoutError:
            raise HTTPException(
                503, f"not spoken within {limits.max_seconds:g} seconds; send less text per request"
            ) from None
        content = to_file(np.concatenate(spoken), sample_rate_hz, speech.format)
        return Response(content, media_type=MEDIA_TYPES[speech.format], headers=AUDIO_HEADERS)


async def _wav_chunks(first: Pcm, others: AsyncIterator[Pcm], sample_rate_hz: int) -> AsyncIterator[bytes]:
    yield wav_stream_header(sample_rate_hz) + first.tobytes()
    async for pcm in others:
        yield pcm.tobytes()


def _add_error_handlers(app: FastAPI) -> None:
    def answer(status: int, sentence: str, headers: dict[str, str] | None = None) -> JSONResponse:
        return JSONResponse({"error": sentence}, status, headers)

    @app.exception_handler(RequestValidationError)
    async def malformed(_: Request, error: RequestValidationError) -> JSONResponse:
        problems = (
            f"{'.'.join(map(str, problem['loc'][1:])) or 'request'}: {problem['msg']}" for problem in error.errors()
        )
        return answer(422, "; ".join(problems))

    @app.exception_handler(EncoderError)
    @app.exception_handler(RequestError)
    async def impossible(_: Request, error: Exception) -> JSONResponse:
        return answer(422, str(error))

    @app.exception_handler(TextError)
    async def unreadable(_: Request, error: TextError) -> JSONResponse:
        return answer(422, error.detail)

    @app.exception_handler(BusyError)
    async def busy(_: Request, error: BusyError) -> JSONResponse:
        return answer(503, str(error), {"Retry-After": str(RETRY_AFTER_SECONDS)})

    @app.exception_handler(HTTPException)
    async def refused(_: Request, error: HTTPException) -> JSONResponse:
        return answer(error.status_code, str(error.detail), dict(error.headers or {}))

    @app.exception_handler(Exception)
    async def broken(_: Request, error: Exception) -> JSONResponse:
        return answer(500, "internal error; see the service's log")
