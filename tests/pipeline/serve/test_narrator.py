"""Who is spoken for and when: room, turns, clients that leave or stop reading; the service without its sockets."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from model.inference.voice import Speech, Voice
from pipeline.serve.app import create_app
from pipeline.serve.narrator import BusyError, Limits, Narrator, SpeakRequest

LONG = "One. " * 40


class HeardVoice(Voice):
    """A voice that remembers what it spoke."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.spoken: list[str] = []

    def say(self, text: str, **how: Any) -> Speech:
        self.spoken.append(text)
        return super().say(text, **how)


@pytest.fixture
def voice(small_voice: Path) -> HeardVoice:
    return HeardVoice(small_voice)


async def call(narrator: Narrator, send: Callable[[Any], Awaitable[None]], left: asyncio.Event) -> None:
    """Ask for the long text as a stream; the client leaves when `left` is set."""
    scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": "POST",
        "scheme": "http",
        "path": "/speak",
        "raw_path": b"/speak",
        "query_string": b"",
        "root_path": "",
        "client": ("127.0.0.1", 1),
        "server": ("localhost", 1),
        "headers": [(b"host", b"localhost"), (b"content-type", b"application/json")],
    }
    request = [
        {"type": "http.request", "body": json.dumps({"text": LONG, "stream": True}).encode(), "more_body": False}
    ]

    async def receive() -> Any:
        if request:
            return request.pop()
        await left.wait()
        return {"type": "http.disconnect"}

    await create_app(narrator, ["localhost"])(scope, receive, send)


def test_work_stops_when_the_client_leaves(voice: HeardVoice) -> None:
    narrator = Narrator(voice, Limits())

    async def scenario() -> None:
        left = asyncio.Event()

        async def send(message: Any) -> None:
            if message.get("body"):
                left.set()

        await call(narrator, send, left)

    asyncio.run(scenario())
    assert 1 <= len(voice.spoken) < 10 and narrator.n_requests == 0


def test_a_client_that_reads_nothing_is_given_up(voice: HeardVoice, caplog: pytest.LogCaptureFixture) -> None:
    narrator = Narrator(voice, Limits(max_seconds=1.0))

    async def scenario() -> None:
        async def send(message: Any) -> None:
            if message.get("body"):
                await asyncio.Event().wait()

        await call(narrator, send, asyncio.Event())

    asyncio.run(scenario())
    assert voice.spoken == ["One."] and narrator.n_requests == 0
    assert "timed out after 1 seconds" in caplog.text


def test_a_full_service_says_when_to_come_again(voice: HeardVoice) -> None:
    narrator = Narrator(voice, Limits(max_requests=1))

    async def scenario() -> list[httpx.Response]:
        async with httpx.AsyncClient(
            transport=httpx.ASGITransport(create_app(narrator, ["localhost"])), base_url="http://localhost"
        ) as client:
            with narrator.slot():
                refused = await client.post("/speak", json={"text": "Hello."})
            return [refused, await client.post("/speak", json={"text": "Hello."})]

    refused, spoken = asyncio.run(scenario())
    assert refused.status_code == 503 and int(refused.headers["retry-after"]) > 0
    assert refused.json() == {"error": "the maximum of 1 concurrent requests is reached; try again soon"}
    assert spoken.status_code == 200 and narrator.n_requests == 0


def test_a_failed_request_makes_room(voice: HeardVoice) -> None:
    narrator = Narrator(voice, Limits(max_requests=1))
    with pytest.raises(RuntimeError, match="broken"), narrator.slot():
        raise RuntimeError("broken")
    with narrator.slot(), pytest.raises(BusyError), narrator.slot():
        pass
    assert narrator.n_requests == 0


def test_a_short_text_does_not_wait_for_a_long_one(voice: HeardVoice) -> None:
    narrator = Narrator(voice, Limits())

    async def speak(text: str) -> None:
        request = SpeakRequest(text=text)
        async for _ in narrator.speak(await narrator.pieces(request), request):
            pass

    async def scenario() -> None:
        await asyncio.gather(speak(LONG), speak("Two."))

    asyncio.run(scenario())
    assert len(voice.spoken) == 41 and voice.spoken.index("Two.") < 20


def test_speed_and_noise_change_the_voices_own_style(voice: HeardVoice) -> None:
    narrator = Narrator(voice, Limits())
    own = narrator.style(SpeakRequest(text="Hi."))
    assert own == voice.style and own.noise_scale == 0.25
    changed = narrator.style(SpeakRequest(text="Hi.", speed=2, noise=0.0, seed=7))
    assert (changed.length_scale, changed.noise_scale, changed.seed, changed.sdp_ratio) == (0.5, 0.0, 7, own.sdp_ratio)


@pytest.mark.parametrize("limits", [{"max_characters": 0}, {"max_requests": -1}, {"max_seconds": 0.0}])
def test_limits_are_above_nothing(limits: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(limits))} is"):
        Limits(**limits)
