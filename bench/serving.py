"""Time to the first sound of a long text: each sentence sent when it is spoken, against all of them in one file."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from bench.common import OURS, REFERENCE, Result, cost_result, interleave, use_one_thread
from bench.speech import Clip
from model.bert import use_reproducible_kernels
from pipeline.presets import load

SECONDS = 10.0
TARGET = 10.0
N_CHARACTERS = 1800  # about two minutes of speech
LENGTH_SCALE = 3.0  # an untrained voice gives every phone a frame or two: this makes them as long as real ones


def write_voice(folder: Path) -> Path:
    """Save an untrained voice of the laptop preset's shape: it costs what a trained one does."""
    from model.checkpoint import save_checkpoint
    from model.config import PITCH_ROWS, ModelConfig
    from model.spectrogram import SpectrogramSettings
    from model.synthesizer import Synthesizer
    from model.text.symbols import SymbolTable

    preset: dict[str, Any] = load("laptop")
    settings = SpectrogramSettings(sample_rate_hz=preset["resample"]["sample_rate_hz"], **preset["spectrogram"])
    symbols = SymbolTable()
    config = ModelConfig.from_dict({
        **preset["train"]["model"], "n_symbols": len(symbols.symbols), "n_tones": symbols.tone_count, "n_languages": len(symbols.languages),
        "n_speakers": 0, "bert_channels": {"EN": 384}, "spectrogram_channels": settings.n_mels + PITCH_ROWS,
        "sample_rate_hz": settings.sample_rate_hz, "hop_samples": settings.hop_samples,
    })  # fmt: skip
    metadata = {
        "model": config.to_dict(), "spectrogram": asdict(settings), "posterior_input": "mel", "symbols": symbols.to_dict(), "add_blank": False,
        "speakers": ["nobody"], "encoders": {"EN": dict(preset["bert"]["encoders"]["EN"])}, "lexicon": {},
        "style": {"noise_scale": 0.0, "sdp_ratio": 0.0, "length_scale": LENGTH_SCALE},
    }  # fmt: skip
    save_checkpoint(folder, tensors={"synthesizer": Synthesizer(config).state_dict()}, metadata=metadata)
    return folder


def long_text(clips: Sequence[Clip]) -> str:
    """Return real sentences, one after the other, until they are long enough."""
    text = ""
    for clip in clips:
        if clip.text.isascii() and clip.text[-1:].isalpha() and len(text) < N_CHARACTERS:
            text += f"{clip.text.capitalize()}. "
    return text.strip()


def serve(clips: Sequence[Clip], folder: Path) -> Result:
    """Compare CPU milliseconds from a text to its first samples, as stream and as file; front end, encoder and networks are loaded before."""
    use_reproducible_kernels()  # before torch is imported, as the service does
    from model.voice import Voice
    from pipeline.serve.narrator import Limits, Narrator, SpeakRequest

    use_one_thread()
    narrator = Narrator(Voice(write_voice(folder / "voice")), Limits())
    request = SpeakRequest(text=long_text(clips))

    async def first_sound() -> object:
        return await anext(narrator.speak(await narrator.pieces(request), request))

    async def all_sounds() -> int:
        return sum([len(pcm) async for pcm in narrator.speak(await narrator.pieces(request), request)])

    timings = interleave({OURS: lambda: asyncio.run(first_sound()), REFERENCE: lambda: asyncio.run(all_sounds())}, SECONDS, 1)
    seconds = asyncio.run(all_sounds()) / narrator.voice.spectrogram.sample_rate_hz
    note = (f"{len(request.text)} characters, {seconds:.0f} s of speech at {seconds / timings.medians[REFERENCE]:.0f} × real time, "
            "networks of the laptop preset")  # fmt: skip
    return cost_result("serve", timings, unit="CPU ms to the first sound", unit_seconds=1e-3, target=TARGET, note=note)
