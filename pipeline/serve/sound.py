"""Encode samples as WAV streams of unknown length and as files."""

from __future__ import annotations

import io
import struct

import numpy as np
import numpy.typing as npt
import soundfile

Pcm = npt.NDArray[np.int16]

MEDIA_TYPES = {"wav": "audio/wav", "flac": "audio/flac"}
UNKNOWN_LENGTH = 0xFFFFFFFF


def to_pcm(samples: npt.NDArray[np.float32], pause_seconds: float, sample_rate_hz: int) -> Pcm:
    """Return samples (S,) in -1 to 1 as 16-bit samples, followed by silence."""
    pcm = np.rint(np.clip(samples, -1.0, 1.0) * 32767).astype("<i2")
    return np.concatenate([pcm, np.zeros(round(pause_seconds * sample_rate_hz), "<i2")])


def wav_stream_header(sample_rate_hz: int) -> bytes:
    """Return the 44-byte header of 16-bit mono audio of unknown length; players read to the end.

    Source: Multimedia Programming Interface and Data Specifications 1.0 (IBM and Microsoft, 1991), chapter 3.
    """
    layout = struct.pack("<HHIIHH", 1, 1, sample_rate_hz, 2 * sample_rate_hz, 2, 16)
    length = struct.pack("<I", UNKNOWN_LENGTH)
    return b"RIFF" + length + b"WAVEfmt " + struct.pack("<I", len(layout)) + layout + b"data" + length


def to_file(pcm: Pcm, sample_rate_hz: int, file_format: str) -> bytes:
    """Return 16-bit samples (S,) as the bytes of a wav or flac file."""
    buffer = io.BytesIO()
    soundfile.write(buffer, pcm, sample_rate_hz, subtype="PCM_16", format=file_format.upper())
    return buffer.getvalue()
