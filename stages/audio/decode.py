"""Reading recordings: any common format to float samples, from bytes that were hashed as they were read."""

from __future__ import annotations

import hashlib
import io
import math
import os
import wave
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from xxhash import xxh3_128, xxh3_128_hexdigest

from stages.common.errors import RowRejected

SUFFIXES = (".wav", ".flac", ".ogg", ".opus", ".mp3", ".m4a", ".aac", ".g722", ".aiff", ".aif", ".webm")
INT16_SCALE = 32768.0
HASHED_AT_ONCE = 1 << 20  # bytes
_HEADERLESS = {".g722": "g722"}


@dataclass(frozen=True)
class Recording:
    """Decoded audio: samples (S, channels) float32 in [-1, 1], sample rate and container format."""

    samples: np.ndarray
    sample_rate_hz: int
    container: str


def to_mono(samples: np.ndarray) -> np.ndarray:
    """Return the mean (S,) of the channels of float samples (S, C)."""
    return samples.mean(axis=1, dtype=np.float64).astype(np.float32) if samples.shape[1] > 1 else samples[:, 0]


def read_bytes(path: Path | str) -> bytes:
    """Return a file's bytes; it is opened read-only. Raises RowRejected if unreadable or empty."""
    with _opened(path) as stream:
        return stream.read()


@dataclass(frozen=True)
class HashedFile:
    """Recording's file and its XXH3 (hex) at the time of the corpus stage."""

    path: str
    xxh3: str

    def read(self) -> bytes:
        """Return its bytes; raises RowRejected("changed_audio") if they have changed, or as `read_bytes` does."""
        data = read_bytes(self.path)
        if xxh3_128_hexdigest(data) != self.xxh3:
            raise RowRejected(
                "changed_audio",
                f"{self.path} is not what the corpus stage hashed; run `dvc repro` again",
                lasting=False,
            )
        return data


def hash_file(path: Path) -> tuple[str, str]:
    """Return a file's SHA-256, its identity, and its XXH3, for fast change detection; both hex.

    Raises RowRejected if unreadable or empty.
    """
    identity, check = hashlib.sha256(), xxh3_128()
    with _opened(path) as stream:
        while piece := stream.read(HASHED_AT_ONCE):
            identity.update(piece)
            check.update(piece)
    return identity.hexdigest(), check.hexdigest()


@contextmanager
def _opened(path: Path | str) -> Iterator[BufferedReader]:
    try:
        with open(path, "rb") as stream:
            if not os.fstat(stream.fileno()).st_size:
                raise RowRejected("empty_audio", f"{path}: the file is empty", lasting=False)
            yield stream
    except OSError as error:
        raise RowRejected("unreadable_audio", f"{path}: {error.strerror or error}", lasting=False) from None


def decode(data: bytes, suffix: str, max_seconds: float = math.inf) -> Recording:
    """Decode a recording's bytes; `suffix` (".wav", …) only helps with formats that have no header.

    libsndfile reads WAV, FLAC, Ogg, MP3 and AIFF; other formats go to FFmpeg through PyAV. Raises
    RowRejected("damaged_audio") when neither can, or when samples are not finite; "too_long" above `max_seconds`,
    before hours of sound fill the memory.
    """
    _check_riff_length(data)
    recording = None
    if suffix.lower() not in _HEADERLESS:
        recording = _decode_pcm16_wav(data, max_seconds) or _decode_sndfile(data, max_seconds)
    if recording is None:
        recording = _decode_ffmpeg(data, suffix.lower(), max_seconds)
    if recording.samples.shape[0] == 0:
        raise RowRejected("empty_audio", "the file holds no samples")
    if not np.isfinite(recording.samples).all():
        raise RowRejected("damaged_audio", "the file holds samples that are not finite numbers")
    return recording


def _decode_pcm16_wav(data: bytes, max_seconds: float) -> Recording | None:
    """Decode 16-bit WAV, the most common format, four times as fast as libsndfile with equal samples; else None."""
    try:
        with wave.open(io.BytesIO(data)) as stream:
            rate, n_channels, n_frames = stream.getframerate(), stream.getnchannels(), stream.getnframes()
            if stream.getsampwidth() != 2 or not rate or 2 * n_channels * n_frames > len(data):
                return None
            _check_seconds(n_frames, rate, max_seconds)
            pcm = stream.readframes(n_frames)
    except (wave.Error, EOFError, RuntimeError):  # RuntimeError: a chunk that ends beyond the file
        return None
    if len(pcm) != 2 * n_channels * n_frames:
        return None
    return Recording(np.frombuffer(pcm, "<i2").reshape(-1, n_channels) * np.float32(1 / INT16_SCALE), rate, "wav")


def _check_riff_length(data: bytes) -> None:
    """Reject a WAV shorter than its header declares; decoders would return a shorter clip."""
    if data[:4] != b"RIFF" or data[8:12] != b"WAVE":
        return
    declared = int.from_bytes(data[4:8], "little")
    # Streams write 0 or the maximum; a pad byte may be missing.
    if declared not in (0, 0xFFFFFFFF) and declared + 8 > len(data) + 1:
        raise RowRejected(
            "damaged_audio", f"truncated: the header declares {declared + 8} bytes, the file has {len(data)}"
        )


def _check_seconds(n_samples: int, sample_rate_hz: int, max_seconds: float) -> None:
    if n_samples > max_seconds * sample_rate_hz:
        raise RowRejected(
            "too_long", f"at least {n_samples / sample_rate_hz:.2f} s, more than corpus.max_seconds = {max_seconds:g}"
        )


def _decode_sndfile(data: bytes, max_seconds: float) -> Recording | None:
    import soundfile

    try:
        with soundfile.SoundFile(io.BytesIO(data)) as stream:
            _check_seconds(stream.frames, stream.samplerate, max_seconds)
            return Recording(_read_samples(stream), stream.samplerate, stream.format.lower())
    except (soundfile.SoundFileError, RuntimeError):
        return None


def _read_samples(stream: Any) -> npt.NDArray[np.float32]:
    if stream.subtype == "PCM_16":  # the same numbers as below, in a quarter of the time
        samples: npt.NDArray[np.float32] = stream.read(dtype="int16", always_2d=True) * np.float32(1 / INT16_SCALE)
    else:
        samples = stream.read(dtype="float32", always_2d=True)
    return samples


def _decode_ffmpeg(data: bytes, suffix: str, max_seconds: float) -> Recording:
    import av

    pieces: list[np.ndarray] = []
    rate, name, n_samples = 0, "", 0
    try:
        with av.open(io.BytesIO(data), mode="r", format=_HEADERLESS.get(suffix)) as container:
            name = container.format.name
            resampler = av.AudioResampler(format="fltp")
            for frame in container.decode(audio=0):
                rate = frame.sample_rate
                pieces.extend(piece.to_ndarray() for piece in resampler.resample(frame))
                n_samples += frame.samples
                _check_seconds(n_samples, rate, max_seconds)
    except (av.FFmpegError, IndexError, ValueError) as error:
        raise RowRejected("damaged_audio", f"no decoder could read it ({error})") from None
    if not pieces:
        raise RowRejected("empty_audio", "the file holds no samples")
    return Recording(np.concatenate(pieces, axis=1).T.astype(np.float32), rate, name)
