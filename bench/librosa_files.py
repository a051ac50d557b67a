"""Resampling as people do it: `python -m bench.librosa_files FOLDER OUT FILTER` takes every WAV file through librosa to 44.1 kHz."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path

import soundfile

SAMPLE_RATE_HZ = 44100


def resample_files(sources: Iterable[Path], out: Path, sample_rate_hz: int, filter_name: str) -> None:
    """Load every file at a rate, with one of librosa's filters, and write it as 16-bit PCM under its own name into `out`."""
    import librosa

    for source in sources:
        samples, _ = librosa.load(source, sr=sample_rate_hz, res_type=filter_name)
        soundfile.write(out / source.name, samples, sample_rate_hz, subtype="PCM_16")


if __name__ == "__main__":
    folder, out = Path(sys.argv[1]), Path(sys.argv[2])
    out.mkdir()
    resample_files(sorted(folder.glob("*.wav")), out, SAMPLE_RATE_HZ, sys.argv[3])
