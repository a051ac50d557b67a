"""The service as clients meet it: a real process, real requests, every limit and every error."""

from __future__ import annotations

import io
import json
import socket
import subprocess
import sys
import time
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import numpy as np
import pytest
import soundfile

from pipeline.serve.serve import is_loopback
from tests.pipeline.serve.conftest import MAX_CHARACTERS, PATIENCE_SECONDS, ROOT

TEXT = "Hello there. How are you? Good."


def speak(address: str, **wanted: object) -> httpx.Response:
    return httpx.post(f"{address}/speak", json=wanted, timeout=PATIENCE_SECONDS)


def samples_of(response: httpx.Response) -> np.ndarray:
    assert response.status_code == 200, response.text
    pcm, rate_hz = soundfile.read(io.BytesIO(response.content), dtype="int16")
    assert rate_hz == 16000
    return pcm


def test_the_voice_is_described(address: str) -> None:
    facts = httpx.get(f"{address}/voice").json()
    assert (
        facts["speakers"] == ["anna", "ben"] and facts["languages"] == ["EN", "ZH"] and facts["sample_rate_hz"] == 16000
    )
    assert facts["style"]["noise_scale"] == 0.25 and facts["max_characters"] == MAX_CHARACTERS


def test_whole_files_streams_and_addresses_give_the_same_samples(address: str) -> None:
    whole = speak(address, text=TEXT)
    expected = samples_of(whole)
    assert whole.headers["content-type"] == "audio/wav" and len(expected) > 16000
    with httpx.stream(
        "POST", f"{address}/speak", json={"text": TEXT, "stream": True}, timeout=PATIENCE_SECONDS
    ) as response:
        content = response.read()
    assert "content-length" not in response.headers
    assert np.array_equal(soundfile.read(io.BytesIO(content), dtype="int16")[0], expected)
    assert np.array_equal(
        samples_of(httpx.get(f"{address}/speak", params={"text": TEXT}, timeout=PATIENCE_SECONDS)), expected
    )
    flac = speak(address, text=TEXT, format="flac", stream=True)
    assert flac.headers["content-type"] == "audio/flac" and np.array_equal(samples_of(flac), expected)


def test_the_style_reaches_the_voice(address: str) -> None:
    plain = samples_of(speak(address, text=TEXT))
    assert np.array_equal(
        samples_of(speak(address, text=TEXT, noise=0.25, speed=1, speaker="anna", language="EN", seed=0)), plain
    )
    for change in ({"noise": 1.0}, {"speaker": "ben"}, {"seed": 1}):
        other = samples_of(speak(address, text=TEXT, **change))
        assert len(other) != len(plain) or not np.array_equal(other, plain), change
    assert len(samples_of(speak(address, text=TEXT, speed=0.5))) > 1.5 * len(plain)
    assert len(samples_of(speak(address, text="你好。", language="ZH"))) > 0


@pytest.mark.parametrize(
    ("wanted", "sentence"),
    [
        ({"text": "Hi.", "speaker": "carl"}, "unknown speaker 'carl'; this voice has anna, ben"),
        ({"text": "Hi.", "language": "JP"}, "unknown language 'JP'; this voice speaks EN, ZH"),
        ({"text": "A ☃."}, "'☃' (U+2603 SNOWMAN) cannot be read in English"),
        ({"text": "Fine. A ☃.", "stream": True}, "'☃' (U+2603 SNOWMAN) cannot be read in English"),
        ({"text": "x" * (MAX_CHARACTERS + 1)}, "the text has 2,001 characters; the maximum is 2,000"),
        ({"text": "Hi.", "speed": 9}, "speed: Input should be less than or equal to 2"),
        ({"text": "Hi.", "volume": 1}, "volume: Extra inputs are not permitted"),
        ({}, "text: Field required"),
    ],
)
def test_what_cannot_be_spoken_is_said_in_one_sentence(address: str, wanted: dict[str, object], sentence: str) -> None:
    response = speak(address, **wanted)
    assert (response.status_code, response.json()) == (422, {"error": sentence})


@pytest.mark.parametrize("text", ["", " \n ", "...", "\ud800"])
def test_a_text_without_speech_is_refused(address: str, text: str) -> None:
    response = httpx.post(
        f"{address}/speak", content=json.dumps({"text": text}), headers={"Content-Type": "application/json"}
    )
    assert response.status_code == 422 and response.json()["error"]


def test_long_bodies_are_not_read(address: str) -> None:
    response = httpx.post(f"{address}/speak", content=b"x" * 1_000_000, headers={"Content-Type": "application/json"})
    assert response.status_code == 413 and "send less text" in response.json()["error"]


def test_other_sites_are_kept_out(address: str) -> None:
    assert httpx.get(f"{address}/voice", headers={"Host": "evil.example"}).status_code == 400
    from_a_form = httpx.post(f"{address}/speak", content=b'{"text": "Hi."}', headers={"Content-Type": "text/plain"})
    assert from_a_form.status_code == 422
    answer = httpx.get(f"{address}/speak", params={"text": "Hi."}, headers={"Origin": "https://evil.example"})
    assert (
        "access-control-allow-origin" not in answer.headers
        and answer.headers["cross-origin-resource-policy"] == "same-origin"
    )


def test_the_schema_is_there_and_pages_from_elsewhere_are_not(address: str) -> None:
    assert set(httpx.get(f"{address}/openapi.json").json()["paths"]) == {"/speak", "/voice", "/healthz"}
    assert [httpx.get(f"{address}/{path}").status_code for path in ("docs", "redoc", "voice/metadata.json")] == [
        404
    ] * 3


def test_a_client_that_leaves_makes_room(address: str) -> None:
    body = json.dumps({"text": TEXT * 40, "stream": True}).encode()
    lines = (
        "POST /speak HTTP/1.1",
        "Host: localhost",
        "Content-Type: application/json",
        f"Content-Length: {len(body)}",
    )
    head = "".join(f"{line}\r\n" for line in (*lines, "")).encode()
    with socket.create_connection((urlsplit(address).hostname, urlsplit(address).port or 80)) as client:
        client.sendall(head + body)
        assert client.recv(100).startswith(b"HTTP/1.1 200")
    end = time.monotonic() + PATIENCE_SECONDS
    while (n_requests := httpx.get(f"{address}/healthz").json()["requests"]) and time.monotonic() < end:
        time.sleep(0.05)
    assert n_requests == 0


@pytest.mark.parametrize(
    ("damage", "message"),
    [(None, "no voice there; train one"), ("metadata.json", "missing; no checkpoint was completed")],
)
def test_a_voice_that_is_missing_or_damaged_is_one_line(
    small_voice: Path, tmp_path: Path, damage: str | None, message: str
) -> None:
    folder = tmp_path / "voice"
    if damage:
        folder.mkdir()
        for path in small_voice.iterdir():
            if path.name != damage:
                (folder / path.name).write_bytes(path.read_bytes())
    ended = subprocess.run(
        [sys.executable, "-m", "pipeline.serve.serve", "--voice", str(folder)], cwd=ROOT, capture_output=True, text=True
    )
    assert (
        ended.returncode == 1
        and ended.stderr.startswith("error: ")
        and message in ended.stderr
        and ended.stderr.count("\n") == 1
    )


def test_addresses_of_this_machine_alone_are_known() -> None:
    assert all(map(is_loopback, ("localhost", "127.0.0.1", "127.1.2.3", "::1")))
    assert not any(map(is_loopback, ("0.0.0.0", "::", "192.168.1.2", "localhost.example")))
