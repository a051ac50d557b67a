"""ONNX graphs of voices: the same speech as torch for every decoder and length, the same bytes every time, and clear
refusals.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import onnx
import pyarrow.compute as pc
import pytest
import torch

from model.checkpoints.checkpoint import CheckpointError, checkpoint_sha256
from model.inference.export_onnx import export_onnx, main
from model.inference.onnx_voice import SPEECH_FILE, TEXT_FILE, VOICE_FILE, OnnxVoice
from model.inference.voice import SpeakingStyle, Synthesis, Voice
from stages.common import manifests
from tests.model.random_voices import write_random_voice
from tests.small_corpus import ROOT

LENGTHS = (3, 12, 70)
MIN_SNR_DB = 40
# Of full scale. A source-filter decoder sums the pitch up to a phase, in which rounding adds up with the length.
TOLERANCE = {"source_filter": 2e-3, "istft": 2e-5, "hifigan": 2e-5}


@pytest.fixture(
    scope="module",
    params=["source_filter", *(pytest.param(name, marks=pytest.mark.slow) for name in ("hifigan", "istft"))],
)
def exported(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path, Path]:
    """A decoder's name, a voice with it, and its graphs."""
    folder = tmp_path_factory.mktemp(request.param)
    voice = write_random_voice(folder / "voice", request.param)
    export_onnx(voice, folder / "onnx")
    return request.param, voice, folder / "onnx"


def spoken(voice: Voice | OnnxVoice, n_phones: int, style: SpeakingStyle, speaker: str | None = None) -> Synthesis:
    """Speak made-up ids with made-up text features."""
    numbers = np.random.default_rng(n_phones)
    ids = [
        numbers.integers(0, size, n_phones).tolist()
        for size in (voice.config.n_symbols, voice.config.n_tones, voice.config.n_languages)
    ]
    features = torch.from_numpy(numbers.standard_normal((1, 6, n_phones), np.float32))
    return voice._synthesise(ids, {"EN": features}, voice._speaker_ids(speaker), style)


def test_the_graphs_speak_as_torch_does_at_any_length(exported: tuple[str, Path, Path]) -> None:
    kind, folder, graphs = exported
    ours, theirs = Voice(folder), OnnxVoice(graphs)
    style = SpeakingStyle(noise_scale=0.5, sdp_ratio=0.3, length_scale=3.0)
    for n_phones in LENGTHS:
        expected, found = spoken(ours, n_phones, style), spoken(theirs, n_phones, style)
        assert (
            np.array_equal(expected.durations_frames, found.durations_frames)
            and expected.durations_frames.sum() > n_phones
        )
        assert len(found.samples) == found.durations_frames.sum() * ours.config.hop_samples
        assert np.abs(expected.samples).max() > 0.01, "silence would compare well"
        assert np.abs(expected.samples - found.samples).max() < TOLERANCE[kind]


def test_every_input_counts(exported: tuple[str, Path, Path]) -> None:
    _, _, graphs = exported
    voice = OnnxVoice(graphs)
    plain = spoken(voice, 12, SpeakingStyle(length_scale=3.0))
    assert (
        spoken(voice, 12, SpeakingStyle(length_scale=6.0)).durations_frames.sum() > 1.5 * plain.durations_frames.sum()
    )
    same_durations = SpeakingStyle(length_scale=3.0, noise_scale=0.0)
    changed = [spoken(voice, 12, same_durations)]
    if len(voice.speakers) > 1:
        changed.append(spoken(voice, 12, SpeakingStyle(length_scale=3.0), voice.speakers[1]))
    if voice.config.use_sdp:
        changed.append(spoken(voice, 12, SpeakingStyle(length_scale=3.0, sdp_ratio=1.0)))
    assert all(
        len(other.samples) != len(plain.samples) or np.abs(other.samples - plain.samples).max() > 1e-3
        for other in changed
    )


def test_the_graphs_name_their_voice_and_nothing_of_the_machine_that_made_them(
    exported: tuple[str, Path, Path],
) -> None:
    _, folder, graphs = exported
    for name in (TEXT_FILE, SPEECH_FILE):
        content = (graphs / name).read_bytes()
        facts = {entry.key: entry.value for entry in onnx.load(graphs / name).metadata_props}
        assert facts["voice_sha256"] == checkpoint_sha256(folder) and facts["sample_rate_hz"] == "16000"
        assert json.loads(facts["speakers"]) == Voice(folder).metadata["speakers"]
        assert str(Path(__file__).parents[3]).encode() not in content and b"site-packages" not in content


def test_graphs_of_two_voices_do_not_mix(tmp_path: Path, exported: tuple[str, Path, Path]) -> None:
    _, _, graphs = exported
    mixed = Path(shutil.copytree(graphs, tmp_path / "mixed"))
    described = json.loads((mixed / VOICE_FILE).read_text(encoding="utf-8"))
    (mixed / VOICE_FILE).write_text(json.dumps({**described, "voice_sha256": "0" * 64}), encoding="utf-8")
    with pytest.raises(CheckpointError, match=r"text.onnx: belongs to another voice than voice.json"):
        OnnxVoice(mixed)
    (mixed / TEXT_FILE).write_bytes(b"nothing")
    with pytest.raises(CheckpointError, match=r"text.onnx: not a graph that onnxruntime can read"):
        OnnxVoice(mixed)


@pytest.mark.slow
def test_the_same_voice_gives_the_same_bytes(exported: tuple[str, Path, Path], tmp_path: Path) -> None:
    _, folder, graphs = exported
    again = export_onnx(folder, tmp_path / "again")
    assert [path.read_bytes() for path in again] == [(graphs / path.name).read_bytes() for path in again]


def test_a_voice_that_listens_to_its_speaker_has_no_graphs(tmp_path: Path) -> None:
    voice = write_random_voice(tmp_path / "voice", "istft", n_speakers=0, use_reference_encoder=True)
    with pytest.raises(SystemExit) as caught:
        main(["--voice", str(voice), "--out", str(tmp_path / "onnx")])
    message = str(caught.value)
    assert message.startswith("error: ") and "use_reference_encoder" in message
    assert len(message.splitlines()) == 1 and not (tmp_path / "onnx").exists()


def test_an_export_overwrites_nothing(tmp_path: Path) -> None:
    voice = write_random_voice(tmp_path / "voice", "istft")
    (tmp_path / "onnx").mkdir()
    (tmp_path / "onnx" / "mine").touch()
    with pytest.raises(CheckpointError, match="is not empty"):
        export_onnx(voice, tmp_path / "onnx")


@pytest.mark.slow
def test_the_trained_voice_speaks_its_test_utterances_as_torch_does(tmp_path: Path) -> None:
    folder = ROOT / "voice"
    if not folder.is_dir():
        pytest.skip("no trained voice here; `make run` makes one")
    export_onnx(folder, tmp_path / "onnx")
    ours, theirs = Voice(folder), OnnxVoice(tmp_path / "onnx")
    rows = manifests.read_manifest(
        ROOT / "data/split/split.parquet", manifests.SPLIT, ["utterance_id", "subset", "speaker", "language", "text"]
    )
    for row in rows.filter(pc.equal(rows.column("subset"), "test")).to_pylist():
        expected, found = (
            voice.say(row["text"], language=row["language"], speaker=row["speaker"]) for voice in (ours, theirs)
        )
        assert np.array_equal(expected.durations_frames, found.durations_frames)
        noise = np.square(expected.samples - found.samples).sum()
        assert 10 * np.log10(np.square(expected.samples).sum() / noise) > MIN_SNR_DB, row["utterance_id"]
