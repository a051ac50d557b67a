"""Signal metrics of what is spoken on the way: known answers, the same for any number of ranks, and no trace in the
training.
"""

from __future__ import annotations

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from model.text.symbols import SymbolTable
from model.training.trainer import Trainer
from stages.metrics.catalogue import BY_KEY
from stages.train import spoken_metrics
from stages.train.manifest_source import ManifestSource, read_split
from stages.train.settings import SPOKEN_METRICS
from stages.train.spoken_metrics import SpokenMetrics
from stages.train.validation import Validator
from tests.small_corpus import SmallCorpus
from tests.stages.train.program import Program, folders, tiny_params

STYLE = {"noise_scale": 0.3, "sdp_ratio": 0.0}


@pytest.fixture(scope="module")
def validator(small_corpus: SmallCorpus) -> Validator:
    params = tiny_params(aligner__steps=0, model__frame_prior_layers=0)
    table, facts = read_split(small_corpus.split)
    model, discriminator = params.networks(facts, symbols := SymbolTable())
    trainer = Trainer(model, discriminator, params.optimisation, facts.spectrogram, torch.device("cpu"))
    # The training set, for its size.
    return Validator(trainer, ManifestSource(folders(small_corpus), table, facts, "train", symbols, False), facts, None)


def make(validator: Validator, utterances: int = 3) -> SpokenMetrics:
    return SpokenMetrics(validator, utterances, STYLE)


def speaks(validator: Validator, monkeypatch: pytest.MonkeyPatch, change: Any) -> None:
    """Let the voice say the recordings, changed."""
    monkeypatch.setattr(
        Validator,
        "speak",
        lambda self, batch, **_: SimpleNamespace(
            waveform=change(torch.from_numpy(validator.source.pcm(int(batch.indices[0])) / 32768.0).float())[None, None]
        ),
    )


@pytest.mark.parametrize(
    ("utterances", "indices"), [(1, [0]), (3, [0, 2, 5]), (8, list(range(8))), (100, list(range(8)))]
)
def test_utterances_are_spread_over_the_set(validator: Validator, utterances: int, indices: list[int]) -> None:
    assert make(validator, utterances).indices == indices


def test_a_voice_that_says_the_recording_is_no_distance_from_it(
    validator: Validator, monkeypatch: pytest.MonkeyPatch
) -> None:
    speaks(validator, monkeypatch, lambda waveform: waveform)
    assert make(validator).figures(0, 1) == dict.fromkeys(SPOKEN_METRICS, 0.0)


def test_silence_after_the_speech_is_an_error_of_length_alone(
    validator: Validator, monkeypatch: pytest.MonkeyPatch
) -> None:
    speaks(validator, monkeypatch, lambda waveform: torch.cat([waveform, torch.zeros(len(waveform) // 2)]))
    figures = make(validator).figures(0, 1)
    assert figures["duration_error"] == pytest.approx(0.5, abs=1e-4)
    assert figures["mcd_db"] < 1.0 and figures["f0_rmse_cents"] < 20.0


def test_a_metric_that_an_utterance_lacks_is_left_out_and_said(
    validator: Validator, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    speaks(validator, monkeypatch, torch.zeros_like)
    with caplog.at_level("INFO"):
        assert make(validator).figures(0, 1) == {"duration_error": 0.0}
    assert "cannot measure mcd_db, f0_rmse_cents, voicing_error: silent" in caplog.text


def test_shared_by_ranks_the_figures_are_the_same_bits(validator: Validator, monkeypatch: pytest.MonkeyPatch) -> None:
    metrics = make(validator)
    alone = metrics.figures(0, 1)
    assert alone == metrics.figures(0, 1)
    whole: list[dict[int, Any]] = []
    monkeypatch.setattr(spoken_metrics, "gather", lambda own: whole.append(own) or [own])
    metrics.figures(0, 1)
    shares: list[dict[int, Any]] = []
    monkeypatch.setattr(spoken_metrics, "gather", lambda own: shares.append(own) or whole)
    for rank in range(2):
        metrics.figures(rank, 2)
    assert [sorted(share) for share in shares] == [[0, 5], [2]]
    monkeypatch.setattr(spoken_metrics, "gather", lambda own: shares)
    assert metrics.figures(0, 2) == alone
    assert set(alone) <= set(BY_KEY) and all(math.isfinite(value) for value in alone.values())


def test_speaking_disturbs_no_random_numbers(validator: Validator) -> None:
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    assert make(validator, 1).figures(0, 1)
    assert torch.equal(torch.rand(3), expected)


def test_the_voice_is_the_same_bits_whether_it_is_measured_or_not(small_corpus: SmallCorpus, tmp_path: Path) -> None:
    weights = []
    for name, metrics in (("silent", {"every": 0}), ("measured", {"every": 1, "utterances": 2})):
        program = Program(tmp_path / name, small_corpus)
        program.run(
            forked=True, metrics=metrics, optimisation__steps=8, validate_every=4, samples={"every": 0, "utterances": 1}
        )
        weights.append({path: content for path, content in program.outputs().items() if path.endswith(".safetensors")})
    assert weights[0] == weights[1] and len(weights[0]) >= 3
    header = (tmp_path / "measured" / "report" / "checkpoints.csv").read_text(encoding="utf-8").splitlines()[0]
    assert {"mcd_db", "voicing_error", "duration_error"} <= set(header.split(","))  # nothing in it is voiced yet
