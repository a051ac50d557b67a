"""Reading recordings: any common format to float samples, from bytes that were hashed as they were read."""

from __future__ import annotations

import hashlib
import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from stages.common.errors import RowRejected

SUFFIXES = (".wav", ".flac", ".ogg", ".opus", ".mp3", ".m4a", ".aac", ".g722", ".aiff", ".aif", ".webm")
_HEADERLESS = {".g722": "g722"}


@dataclass(frozen=True)
class Recording:
    """Decoded audio: samples (S, channels) float32 in [-1, 1], its rate and the container it came in."""

    samples: np.ndarray
    sample_rate_hz: int
    container: str


def read_bytes(path: Path) -> tuple[bytes, str]:
    """Return a file's bytes and their sha256 (hex); the file is opened read-only. Raises RowRejected if unreadable."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise RowRejected("unreadable_audio", f"{path}: {error.strerror or error}", lasting=False) from None
    if not data:
        raise RowRejected("empty_audio", f"{path}: the file is empty", lasting=False)
    return data, hashlib.sha256(data).hexdigest()


def decode(data: bytes, suffix: str) -> Recording:
    """Decode a recording's bytes; `suffix` (".wav", …) only helps with formats that have no header.

    libsndfile reads WAV, FLAC, Ogg, MP3 and AIFF; what it does not know goes to FFmpeg through PyAV. Raises
    RowRejected("damaged_audio") when neither can, or when the samples are not finite numbers.
    """
    _check_riff_length(data)
    recording = _decode_sndfile(data) if suffix.lower() not in _HEADERLESS else None
    if recording is None:
        recording = _decode_ffmpeg(data, suffix.lower())
    if recording.samples.shape[0] == 0:
        raise RowRejected("empty_audio", "the file holds no samples")
    if not np.isfinite(recording.samples).all():
        raise RowRejected("damaged_audio", "the file holds samples that are not finite numbers")
    return recording


def _check_riff_length(data: bytes) -> None:
    """Reject a WAV that ends before its header says; decoders take it for a shorter clip."""
    if data[:4] != b"RIFF" or data[8:12] != b"WAVE":
        return
    declared = int.from_bytes(data[4:8], "little")
    if declared not in (0, 0xFFFFFFFF) and declared + 8 > len(data) + 1:  # streams write 0 or the maximum; a pad byte may miss
        raise RowRejected("damaged_audio", f"truncated: the header declares {declared + 8} bytes, the file has {len(data)}")


def _decode_sndfile(data: bytes) -> Recording | None:
    import soundfile

    try:
        with soundfile.SoundFile(io.BytesIO(data)) as stream:
            return Recording(stream.read(dtype="float32", always_2d=True), stream.samplerate, stream.format.lower())
    except (soundfile.SoundFileError, RuntimeError):
        return None


def _decode_ffmpeg(data: bytes, suffix: str) -> Recording:
    import av

    pieces: list[np.ndarray] = []
    rate, name = 0, ""
    try:
        with av.open(io.BytesIO(data), mode="r", format=_HEADERLESS.get(suffix)) as container:
            name = container.format.name
            resampler = av.AudioResampler(format="fltp")
            for frame in container.decode(audio=0):
                rate = frame.sample_rate
                pieces.extend(piece.to_ndarray() for piece in resampler.resample(frame))
    except (av.FFmpegError, IndexError, ValueError) as error:
        raise RowRejected("damaged_audio", f"no decoder could read it ({error})") from None
    if not pieces:
        raise RowRejected("empty_audio", "the file holds no samples")
    return Recording(np.concatenate(pieces, axis=1).T.astype(np.float32), rate, name)
