"""Reading recordings: every common format becomes samples, and what is damaged is a reject with its reason."""

from __future__ import annotations

import hashlib
import io
import struct
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile
from xxhash import xxh3_128_hexdigest

from stages.audio import decode as audio
from stages.common.errors import RowRejected
from tests.small_corpus import RECORDINGS

RATE_HZ = 24000


def tone(n_channels: int = 1, seconds: float = 0.5) -> np.ndarray:
    """Return (S, channels) float32, each channel an octave above the one before."""
    times = np.arange(int(RATE_HZ * seconds)) / RATE_HZ
    return np.stack(
        [0.5 * np.sin(2 * np.pi * 220 * 2**channel * times) for channel in range(n_channels)], axis=1
    ).astype(np.float32)


def encoded(samples: np.ndarray, container: str, subtype: str | None = None) -> bytes:
    stream = io.BytesIO()
    soundfile.write(stream, samples, RATE_HZ, format=container, subtype=subtype)
    return stream.getvalue()


def encoded_by_ffmpeg(samples: np.ndarray, container: str, codec: str) -> bytes:
    stream = io.BytesIO()
    with av.open(stream, "w", format=container) as output:
        track = output.add_stream(codec, rate=RATE_HZ, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(samples[:, :1].T), format="fltp", layout="mono")
        frame.sample_rate = RATE_HZ
        for packet in (*track.encode(frame), *track.encode(None)):
            output.mux(packet)
    return stream.getvalue()


def rejected(data: bytes, suffix: str) -> str:
    with pytest.raises(RowRejected) as caught:
        audio.decode(data, suffix)
    assert caught.value.detail
    return caught.value.reason


@pytest.mark.parametrize("n_channels", [1, 2, 6])
@pytest.mark.parametrize("container", ["WAV", "WAVEX"])
def test_16_bit_wav_is_read_as_libsndfile_reads_it(container: str, n_channels: int) -> None:
    data = encoded(tone(n_channels), container, "PCM_16")
    expected, rate_hz = soundfile.read(io.BytesIO(data), dtype="float32", always_2d=True)
    recording = audio.decode(data, ".wav")
    assert np.array_equal(recording.samples, expected) and recording.samples.dtype == np.float32
    assert recording.sample_rate_hz == rate_hz


def test_chunks_around_the_samples_of_a_wav_are_passed_over() -> None:
    plain = encoded(tone(), "WAV", "PCM_16")
    chunk = b"LIST" + struct.pack("<I", 6) + b"INFOab"
    body = plain[8:36] + chunk + plain[36:] + chunk
    assert plain[36:40] == b"data"
    data = b"RIFF" + struct.pack("<I", len(body)) + body
    assert np.array_equal(audio.decode(data, ".wav").samples, audio.decode(plain, ".wav").samples)


@pytest.mark.parametrize("declared", [0xFFFFFFFF, 2**30])
def test_a_stream_whose_header_does_not_know_its_length_is_read_to_its_end(declared: int) -> None:
    plain = encoded(tone(), "WAV", "PCM_16")
    endless = plain[:4] + b"\xff\xff\xff\xff" + plain[8:40] + struct.pack("<I", declared) + plain[44:]
    assert np.array_equal(audio.decode(endless, ".wav").samples, audio.decode(plain, ".wav").samples)


@pytest.mark.parametrize(
    ("subtype", "step"), [("PCM_U8", 2**-7), ("PCM_16", 2**-15), ("PCM_24", 2**-23), ("PCM_32", 2**-30), ("FLOAT", 0.0)]
)
@pytest.mark.parametrize("n_channels", [1, 2])
def test_wav_of_every_depth_comes_back_within_its_rounding(subtype: str, step: float, n_channels: int) -> None:
    recording = audio.decode(encoded(tone(n_channels), "WAV", subtype), ".wav")
    assert (recording.sample_rate_hz, recording.container, recording.samples.dtype) == (RATE_HZ, "wav", np.float32)
    assert recording.samples.shape == tone(n_channels).shape
    assert np.abs(recording.samples - tone(n_channels)).max() <= step


def test_flac_is_lossless() -> None:
    samples = np.rint(tone(2) * 32768).astype(np.int16)
    recording = audio.decode(encoded(samples, "FLAC", "PCM_16"), ".flac")
    assert recording.container == "flac"
    assert np.array_equal(recording.samples, samples / np.float32(32768))


@pytest.mark.parametrize(("container", "subtype"), [("OGG", "VORBIS"), ("OGG", "OPUS"), ("MP3", "MPEG_LAYER_III")])
def test_compressed_recordings_sound_as_they_were(container: str, subtype: str) -> None:
    recording = audio.decode(encoded(tone(), container, subtype), f".{container.lower()}")
    assert recording.sample_rate_hz == RATE_HZ
    assert abs(len(recording.samples) - len(tone())) < 0.1 * RATE_HZ
    assert strongest_hz(recording) == pytest.approx(220, abs=4)


@pytest.mark.parametrize(("container", "suffix"), [("mp4", ".m4a"), ("adts", ".aac")])
def test_what_libsndfile_does_not_know_is_read_by_ffmpeg(container: str, suffix: str) -> None:
    recording = audio.decode(encoded_by_ffmpeg(tone(), container, "aac"), suffix)
    assert recording.sample_rate_hz == RATE_HZ and recording.samples.shape[1] == 1
    assert abs(len(recording.samples) - len(tone())) < 0.15 * RATE_HZ
    assert strongest_hz(recording) == pytest.approx(220, abs=4)


def test_m4a_keeps_its_channels() -> None:
    stream = io.BytesIO()
    with av.open(stream, "w", format="mp4") as output:
        track = output.add_stream("aac", rate=RATE_HZ, layout="stereo")
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(tone(2).T), format="fltp", layout="stereo")
        frame.sample_rate = RATE_HZ
        for packet in (*track.encode(frame), *track.encode(None)):
            output.mux(packet)
    samples = audio.decode(stream.getvalue(), ".m4a").samples
    assert samples.shape[1] == 2
    assert [strongest_hz(audio.Recording(samples[:, [channel]], RATE_HZ, "")) for channel in range(2)] == pytest.approx(
        [220, 440], abs=4
    )


def strongest_hz(recording: audio.Recording) -> float:
    samples = recording.samples[:, 0]
    return float(
        np.abs(np.fft.rfft(samples * np.hanning(len(samples)))).argmax() * recording.sample_rate_hz / len(samples)
    )


def test_real_g722_prompts_are_16_khz_speech() -> None:
    path = RECORDINGS / "allison" / "conf-full.g722"
    recording = audio.decode(path.read_bytes(), ".g722")
    assert recording.sample_rate_hz == 16000
    assert recording.samples.shape == (2 * path.stat().st_size, 1)
    assert 0.05 < np.abs(recording.samples).max() <= 1.0


def test_the_suffix_may_be_wrong_where_the_file_has_a_header() -> None:
    assert audio.decode(encoded(tone(), "FLAC"), ".wav").container == "flac"
    assert audio.decode(encoded(tone(), "WAV"), ".MP3").container == "wav"


def test_bytes_are_hashed_as_they_were_read(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    path.write_bytes(encoded(tone(), "WAV"))
    data = audio.read_bytes(path)
    assert data == path.read_bytes()
    assert audio.hash_file(path) == (hashlib.sha256(data).hexdigest(), xxh3_128_hexdigest(data))


@pytest.mark.parametrize(("content", "reason"), [(None, "unreadable_audio"), (b"", "empty_audio")])
def test_a_missing_or_empty_file_is_rejected_for_the_moment(tmp_path: Path, content: bytes | None, reason: str) -> None:
    path = tmp_path / "a.wav"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(RowRejected) as caught:
        audio.read_bytes(path)
    assert (caught.value.reason, caught.value.lasting) == (reason, False)
    assert str(path) in caught.value.detail


def test_a_text_file_with_an_audio_suffix_is_damaged() -> None:
    for suffix in (".wav", ".mp3", ".m4a", ".ogg", ".flac"):
        assert rejected(b"This is not a recording.\n" * 50, suffix) == "damaged_audio"


def test_a_header_without_samples_is_empty() -> None:
    assert rejected(encoded(tone()[:0], "WAV"), ".wav") == "empty_audio"


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_samples_that_are_not_finite_are_damage(value: float) -> None:
    samples = tone()
    samples[100] = value
    assert rejected(encoded(samples, "WAV", "FLOAT"), ".wav") == "damaged_audio"


@pytest.mark.parametrize(
    ("container", "suffix", "share"),
    [
        ("WAV", ".wav", 0.5),
        ("WAV", ".wav", 0.002),
        ("FLAC", ".flac", 0.5),
        ("FLAC", ".flac", 0.01),
        ("OGG", ".ogg", 0.02),
    ],
)
def test_a_recording_cut_off_in_the_middle_is_rejected(container: str, suffix: str, share: float) -> None:
    whole = encoded(tone(seconds=2.0), container)
    assert rejected(whole[: int(share * len(whole))], suffix) == "damaged_audio"


def test_an_m4a_cut_off_in_the_middle_is_rejected() -> None:
    whole = encoded_by_ffmpeg(tone(seconds=2.0), "mp4", "aac")
    assert rejected(whole[: len(whole) // 2], ".m4a") == "damaged_audio"


def test_a_wav_that_was_streamed_with_an_unknown_length_is_read() -> None:
    data = bytearray(encoded(tone(), "WAV", "PCM_16"))
    data[4:8] = data[40:44] = struct.pack("<I", 0xFFFFFFFF)
    assert data[36:40] == b"data"
    assert len(audio.decode(bytes(data), ".wav").samples) == len(tone())


@pytest.mark.parametrize(("container", "suffix"), [("WAV", ".wav"), ("OGG", ".ogg"), ("g722", ".g722")])
def test_what_is_longer_than_asked_for_is_not_decoded_to_its_end(container: str, suffix: str) -> None:
    data = bytes(8000 * 3600) if container == "g722" else encoded(tone(seconds=3.0), container)
    with pytest.raises(RowRejected) as caught:
        audio.decode(data, suffix, max_seconds=2.0)
    assert caught.value.reason == "too_long" and "more than corpus.max_seconds = 2" in caught.value.detail
    if container != "g722":
        assert len(audio.decode(data, suffix, max_seconds=3.0).samples) == len(tone(seconds=3.0))


@pytest.mark.parametrize(("container", "suffix"), [("WAV", ".wav"), ("FLAC", ".flac"), ("OGG", ".ogg")])
def test_a_cut_off_recording_is_damaged_however_long_it_may_be(container: str, suffix: str) -> None:
    whole = encoded(tone(seconds=2.0), container)
    with pytest.raises(RowRejected) as caught:
        audio.decode(whole[: len(whole) // 50], suffix, max_seconds=40.0)
    assert caught.value.reason == "damaged_audio"


@pytest.mark.parametrize("chunk", ["fmt ", "LIST", "data"])
@pytest.mark.parametrize("size", [0, 1, 3, 15, 17, 40, 31999, 32001, 2**24, 2**31 - 1, 2**31, 2**32 - 2, 2**32 - 1])
def test_a_chunk_of_a_wrong_size_is_read_or_rejected_and_never_an_unexpected_error(chunk: str, size: int) -> None:
    stream = io.BytesIO()
    soundfile.write(stream, np.sin(np.arange(16000) / 20), 16000, format="WAV", subtype="PCM_16")
    good = stream.getvalue()
    data = bytearray(good[:36] + b"LIST" + struct.pack("<I", 4) + b"INFO" + good[36:])
    at = data.index(chunk.encode()) + 4
    data[at : at + 4] = struct.pack("<I", size)
    data[4:8] = struct.pack("<I", len(data) - 8)
    try:
        assert 0 < len(audio.decode(bytes(data), ".wav", max_seconds=600).samples) <= 16000
    except RowRejected as error:
        assert error.reason in ("damaged_audio", "empty_audio"), error
