"""How long does the evaluation of 100 utterances take?

Wall time with one worker a core, from text to the listening page; once with nothing measured before, and once more with
stored results for the recordings (reference), as for the next voice on the same test set. The networks of the laptop
preset speak real texts; as they are untrained, other real clips stand in for the synthesis, so that every sound is new.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from pathlib import Path

from bench.harness.common import Result
from bench.harness.speech import Clip, sample
from bench.harness.untrained_voice import write_untrained_voice
from model.bert.encoder import use_reproducible_kernels

N_UTTERANCES = 100
RATE_HZ = 16000
TARGET_SECONDS = 300.0


def run(clips: Sequence[Clip], scratch: Path) -> list[Result]:
    """Measure two evaluations one after the other."""
    use_reproducible_kernels()
    import numpy as np
    import torch

    from model.inference.voice import Voice
    from stages.evaluate.scoring import ScoringSettings, score
    from stages.evaluate.stage import write_report
    from stages.metrics.perceptual import PerceptualEvaluator, Sound
    from stages.metrics.rendition import Rendition
    from stages.rows.machine_settings import worker_count

    torch.set_num_threads(1)
    style = {"noise_scale": 0.0, "sdp_ratio": 0.0}
    voice = Voice(write_untrained_voice(scratch / "voice", style=style, step=0, source_note="nobody"))
    latin = [clip for clip in clips if clip.text.isascii()]
    chosen = sample(latin, 2 * N_UTTERANCES + 10)
    spoken, others, known = chosen[:N_UTTERANCES], chosen[N_UTTERANCES : 2 * N_UTTERANCES], chosen[2 * N_UTTERANCES :]
    waveforms = {clip.name: (clip.at_rate(RATE_HZ) / 32768.0).astype(np.float32) for clip in chosen}
    speakers = {"nobody": [Sound(waveforms[clip.name], RATE_HZ, None) for clip in known]}

    def evaluate(name: str, gain: float) -> float:
        started = time.perf_counter()
        renditions = []
        for clip, other in zip(spoken, others, strict=True):
            speech = voice.say(clip.text, language="EN")
            renditions.append(
                Rendition(
                    clip.name,
                    "nobody",
                    "EN",
                    clip.text,
                    RATE_HZ,
                    recording=waveforms[clip.name],
                    resynthesis=gain * 0.9 * waveforms[clip.name],
                    synthesis=gain * waveforms[other.name],
                    phones=speech.phones,
                    synthesis_durations_frames=speech.durations_frames,
                    recording_durations_frames=None,
                    hop_samples=voice.spectrogram.hop_samples,
                    synthesis_cpu_seconds=speech.cpu_seconds,
                    synthesis_wall_seconds=speech.wall_seconds,
                )
            )
        hearing = PerceptualEvaluator(scratch / "whisper", ("mos", "speaker_similarity"), threads=worker_count())
        rows, _ = score(renditions, hearing, speakers, ScoringSettings(threads=worker_count(), show_progress=False))
        report = scratch / name
        report.mkdir()
        write_report(report, renditions, rows, {}, voice)
        return time.perf_counter() - started

    os.environ["VOICE_ROW_STORE"] = str(scratch / "rows")
    voice.say("Hello.", language="EN")
    first, again = evaluate("first", 1.0), evaluate("again", 0.8)
    seconds = sum(len(waveforms[clip.name]) for clip in spoken) / RATE_HZ
    note = (
        f"{N_UTTERANCES} real clips, {seconds:.0f} s of speech, {worker_count()} workers; reference: the same "
        f"recordings, another voice"
    )
    return [
        Result(
            name="evaluate",
            ours=first,
            reference=again,
            target=TARGET_SECONDS,
            target_of="ours_at_most",
            unit="s of wall time",
            note=note,
        )
    ]
