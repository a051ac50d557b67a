"""A test utterance in three versions: recording, resynthesis and synthesis."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from stages.metrics.noise import speech_shaped_noise

FloatArray = npt.NDArray[np.float32]
IntArray = npt.NDArray[np.integer]

RECORDING, RESYNTHESIS, SYNTHESIS = "recording", "resynthesis", "synthesis"
VERSIONS = (RECORDING, RESYNTHESIS, SYNTHESIS)
NOISE = "noise"  # speech-shaped noise, the metrics' floor
MEASURED = (*VERSIONS, NOISE)


@dataclass(frozen=True)
class Rendition:
    """One held-out utterance with its waveforms and alignment.

    Legend: S samples of each waveform, at `sample_rate_hz`, full scale ±1; P phones. A frame is `hop_samples` long. The
    resynthesis is the decoder's output for the recording's own spectrogram, so the two are aligned in time; the
    synthesis is spoken from the text. `recording_durations_frames` is None if the recording could not be aligned.
    `recording_is_synthetic` marks recordings of a machine's speech.
    """

    utterance_id: str
    speaker: str
    language: str  # "EN", "ZH" or "JP"
    text: str
    sample_rate_hz: int
    recording: FloatArray
    resynthesis: FloatArray
    synthesis: FloatArray
    phones: tuple[str, ...]
    synthesis_durations_frames: IntArray
    recording_durations_frames: IntArray | None
    hop_samples: int
    synthesis_cpu_seconds: float
    synthesis_wall_seconds: float
    recording_is_synthetic: bool = False

    def __post_init__(self) -> None:
        for version in VERSIONS:
            if self.waveform(version).ndim != 1:
                shape = self.waveform(version).shape
                raise ValueError(f"{self.utterance_id}: the {version} has shape {shape}, one dimension is expected")
        for name in ("synthesis_durations_frames", "recording_durations_frames"):
            durations = getattr(self, name)
            if durations is not None and len(durations) != len(self.phones):
                raise ValueError(f"{self.utterance_id}: {len(durations)} {name} for {len(self.phones)} phones")

    def waveform(self, version: str) -> FloatArray:
        """Return the waveform (S,) of one of MEASURED."""
        if version == NOISE:
            return speech_shaped_noise(self.recording, self.sample_rate_hz, self.utterance_id)
        waveforms = {RECORDING: self.recording, RESYNTHESIS: self.resynthesis, SYNTHESIS: self.synthesis}
        if version not in waveforms:
            raise ValueError(f"unknown version {version!r}; valid: {', '.join(MEASURED)}")
        return waveforms[version]

    def seconds(self, version: str) -> float:
        """Return the length in seconds of one of MEASURED."""
        return len(self.waveform(RECORDING if version == NOISE else version)) / self.sample_rate_hz

    @property
    def frame_seconds(self) -> float:
        """Return the length of one frame of the durations."""
        return self.hop_samples / self.sample_rate_hz
