"""How long does a client wait for the first sound of a long text?

CPU time until the first samples: sentences sent as they are spoken against all of them in one file, with the networks
of the laptop preset, everything loaded before.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

from bench.harness.common import OURS, REFERENCE, Result, cost_result, interleave, use_one_thread
from bench.harness.speech import Clip
from bench.harness.untrained_voice import write_untrained_voice
from model.bert.encoder import use_reproducible_kernels

SECONDS = 10.0
TARGET = 10.0
N_CHARACTERS = 1800  # about two minutes of speech


def long_text(clips: Sequence[Clip]) -> str:
    """Return enough real sentences for a long text."""
    text = ""
    for clip in clips:
        if clip.text.isascii() and clip.text[-1:].isalpha() and len(text) < N_CHARACTERS:
            text += f"{clip.text.capitalize()}. "
    return text.strip()


def run(clips: Sequence[Clip], scratch: Path) -> list[Result]:
    """Compare the CPU time to the first samples as a stream and as a file."""
    use_reproducible_kernels()  # before torch is imported, as the service does
    from model.inference.voice import Voice
    from pipeline.serve.narrator import Limits, Narrator, SpeakRequest

    use_one_thread()
    narrator = Narrator(
        Voice(write_untrained_voice(scratch / "voice", style={"noise_scale": 0.0, "sdp_ratio": 0.0})), Limits()
    )
    request = SpeakRequest(text=long_text(clips))

    async def first_sound() -> object:
        return await anext(narrator.speak(await narrator.pieces(request), request))

    async def all_sounds() -> int:
        return sum([len(pcm) async for pcm in narrator.speak(await narrator.pieces(request), request)])

    timings = interleave(
        {OURS: lambda: asyncio.run(first_sound()), REFERENCE: lambda: asyncio.run(all_sounds())}, SECONDS, 1
    )
    seconds = asyncio.run(all_sounds()) / narrator.voice.spectrogram.sample_rate_hz
    note = (
        f"{len(request.text)} characters, {seconds:.0f} s of speech at {seconds / timings.medians[REFERENCE]:.0f} "
        f"× real time, "
        "networks of the laptop preset"
    )
    return [
        cost_result("serve", timings, unit="CPU ms to the first sound", unit_seconds=1e-3, target=TARGET, note=note)
    ]
