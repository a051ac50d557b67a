"""A run with the source-filter decoder: pitch tracked once, bit-identical resumption, resynthesis by the voice."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from model.inference.voice import SpeakingStyle, Voice
from model.text.symbols import SymbolTable
from stages.train.manifest_source import ManifestSource, read_split
from tests.small_corpus import SmallCorpus
from tests.stages.train.program import Program, folders, tiny_values


def values() -> dict[str, object]:
    section = tiny_values(
        optimisation__steps=12,
        optimisation__decode_start_step=4,
        optimisation__adversarial_start_step=6,
        optimisation__adversarial_every=1,
        optimisation__decoder_alone_start_step=8,
        optimisation__decode_prior_share=0.5,
        optimisation__decode_prior_noise=0.3,
        samples__every=0,
    )
    section["model"].update(decoder="source_filter", inter_channels=82)
    return section


@pytest.fixture(scope="module")
def finished(small_corpus: SmallCorpus, tmp_path_factory: pytest.TempPathFactory) -> Program:
    program = Program(tmp_path_factory.mktemp("source_filter"), small_corpus)
    program.run(values(), forked=True)
    return program


def test_a_resumed_run_makes_the_same_bytes(finished: Program, small_corpus: SmallCorpus, tmp_path: Path) -> None:
    program = Program(tmp_path / "killed", small_corpus)
    watched = program.start(values(), forked=True)
    assert watched.says("step 4: saved")
    watched.kill()
    pitch = (program.work() / "pitch.npz").stat().st_mtime_ns
    assert "resuming from step" in program.run(values(), forked=True)
    assert (program.work() / "pitch.npz").stat().st_mtime_ns == pitch
    assert program.outputs() == finished.outputs()


@pytest.mark.slow
def test_a_truncated_pitch_file_is_tracked_again(finished: Program, small_corpus: SmallCorpus, tmp_path: Path) -> None:
    program = Program(tmp_path / "damaged", small_corpus)
    watched = program.start(values(), forked=True)
    assert watched.says("step 4: saved")
    watched.kill()
    path = program.work() / "pitch.npz"
    path.write_bytes(path.read_bytes()[:-100])
    assert "tracking the pitch again" in program.run(values(), forked=True)
    assert program.outputs() == finished.outputs()


def test_the_voice_speaks_and_resynthesises(finished: Program, small_corpus: SmallCorpus) -> None:
    voice = Voice(finished.folder / "voice")
    assert voice.style == SpeakingStyle(noise_scale=0.3, sdp_ratio=0.0), "latents as the decoder learnt them"
    table, facts = read_split(small_corpus.split)
    pcm = ManifestSource(folders(small_corpus), table, facts, "train", SymbolTable(), False).pcm(0)
    again = voice.resynthesise(pcm)
    n_samples = min(len(again), len(pcm))
    level = [
        10 * np.log10(np.mean(np.square(each[:n_samples].astype(np.float64))) + 1e-12) for each in (pcm / 32768, again)
    ]
    assert abs(level[0] - level[1]) < 3  # dB: it is a vocoder, hardly trained as it is
    speech = voice.say("Call again.", language="EN")
    assert np.isfinite(speech.samples).all() and np.abs(speech.samples).max() > 0.01
