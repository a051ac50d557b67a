"""Warm start: what is carried over by shape, what by name, and what the report says."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from model.checkpoints.checkpoint import CheckpointError, load_checkpoint, save_checkpoint
from model.checkpoints.transfer import (
    LANGUAGE_TABLE,
    SPEAKER_TABLE,
    SYMBOL_TABLE,
    TONE_TABLE,
    TransferReport,
    Vocabulary,
    transfer,
)
from model.config import DiscriminatorConfig, ModelConfig
from model.synthesizer import Synthesizer
from model.text.symbols import SymbolTable
from model.training.discriminators import DurationDiscriminator, MultiPeriodDiscriminator

BASE_TABLE = SymbolTable(symbols=("_", "a", "b", "c"), tones={"ZH": (0, 1), "JP": (2, 2)}, languages=("ZH", "JP"))
NEW_TABLE = SymbolTable(
    symbols=("_", "c", "x", "a"), tones={"EN": (0,), "JP": (1, 2), "ZH": (3, 4)}, languages=("EN", "JP", "ZH")
)
BASE_SPEAKERS = ("anna", "ben")
NARROW = DiscriminatorConfig(periods=(2,), channels=2, max_channels=8)

Build = Callable[..., ModelConfig]


def random_network(config: ModelConfig) -> Synthesizer:
    """A network without two equal numbers, so that a mix-up shows."""
    network = Synthesizer(config)
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter)
    return network


def sizes(table: SymbolTable, speakers: tuple[str, ...]) -> dict[str, Any]:
    return {
        "n_symbols": len(table.symbols),
        "n_tones": table.tone_count,
        "n_languages": len(table.languages),
        "n_speakers": len(speakers),
        "bert_channels": {"ZH": 6, "JP": 5},
    }


@pytest.fixture
def base(tmp_path: Path, small_config: Build) -> Path:
    network = random_network(small_config(**sizes(BASE_TABLE, BASE_SPEAKERS)))
    save_checkpoint(
        tmp_path / "base",
        tensors={"synthesizer": network.state_dict(), "discriminator": MultiPeriodDiscriminator(NARROW).state_dict()},
        metadata={
            "model": network.config.to_dict(),
            "symbols": BASE_TABLE.to_dict(),
            "speakers": list(BASE_SPEAKERS),
            "encoders": {"ZH": {"kind": "folder", "name": "some-bert"}},
        },
    )
    return tmp_path / "base"


def base_weights(base: Path) -> dict[str, Tensor]:
    return load_checkpoint(base).tensors["synthesizer"]


def carried(
    base: Path, network: Synthesizer, table: SymbolTable = BASE_TABLE, speakers: tuple[str, ...] = BASE_SPEAKERS
) -> TransferReport:
    return transfer(base, network, Vocabulary(table, speakers))


def test_an_equal_network_takes_every_weight(base: Path, small_config: Build) -> None:
    network = random_network(small_config(**sizes(BASE_TABLE, BASE_SPEAKERS)))
    report = carried(base, network)
    old = base_weights(base)
    assert all(torch.equal(value, old[key]) for key, value in network.state_dict().items())
    assert sum(len(part.transferred) for part in report.parts.values()) == len(network.state_dict())
    assert not any(part.fresh or part.partly for part in report.parts.values())


def test_rows_of_tables_follow_their_names(base: Path, small_config: Build) -> None:
    speakers = ("ben", "carla")
    network = random_network(small_config(**sizes(NEW_TABLE, speakers)))
    before = {key: value.clone() for key, value in network.state_dict().items()}
    report = carried(base, network, NEW_TABLE, speakers)
    old, new = base_weights(base), network.state_dict()
    assert torch.equal(new[SYMBOL_TABLE][[0, 1, 3]], old[SYMBOL_TABLE][[0, 3, 1]])
    assert torch.equal(new[SYMBOL_TABLE][2], before[SYMBOL_TABLE][2]), "a symbol that the base lacks stays as it was"
    assert torch.equal(new[TONE_TABLE][1:], old[TONE_TABLE][[2, 2, 0, 1]]), (
        "both pitches start from the one tone of Japanese"
    )
    assert torch.equal(new[TONE_TABLE][0], before[TONE_TABLE][0])
    assert torch.equal(new[LANGUAGE_TABLE][1:], old[LANGUAGE_TABLE][[1, 0]])
    assert torch.equal(new[SPEAKER_TABLE][0], old[SPEAKER_TABLE][1])
    torch.testing.assert_close(new[SPEAKER_TABLE][1], old[SPEAKER_TABLE].mean(0))
    rows = report.parts["text_encoder"].partly
    assert rows[SYMBOL_TABLE] == {"carried over": ["_", "c", "a"], "new": ["x"]}
    assert rows[TONE_TABLE]["new"] == ["EN 0"]
    assert rows[LANGUAGE_TABLE] == {"carried over": ["JP", "ZH"], "new": ["EN"]}
    assert list(report.parts["speaker_embedding"].partly[SPEAKER_TABLE].values()) == [["ben"], ["carla"]]


def test_tones_that_share_an_id_start_from_their_mean(base: Path, small_config: Build) -> None:
    table = SymbolTable(symbols=BASE_TABLE.symbols, tones={"ZH": (0, 0), "JP": (1, 1)}, languages=("ZH", "JP"))
    network = random_network(small_config(**sizes(table, BASE_SPEAKERS)))
    carried(base, network, table)
    old = base_weights(base)[TONE_TABLE]
    torch.testing.assert_close(network.state_dict()[TONE_TABLE], torch.stack([old[:2].mean(0), old[2]]))


def test_only_named_speakers_make_the_mean(tmp_path: Path, small_config: Build) -> None:
    network = random_network(small_config(**{**sizes(BASE_TABLE, BASE_SPEAKERS), "n_speakers": 9}))
    save_checkpoint(
        tmp_path,
        tensors={"synthesizer": network.state_dict()},
        metadata={"model": network.config.to_dict(), "symbols": BASE_TABLE.to_dict(), "speakers": list(BASE_SPEAKERS)},
    )
    new = random_network(small_config(**sizes(BASE_TABLE, ("carla",))))
    carried(tmp_path, new, speakers=("carla",))
    torch.testing.assert_close(new.state_dict()[SPEAKER_TABLE][0], network.state_dict()[SPEAKER_TABLE][:2].mean(0))


def test_another_segment_length_transfers_everything_with_a_note(base: Path, small_config: Build) -> None:
    network = random_network(small_config(**sizes(BASE_TABLE, BASE_SPEAKERS), segment_frames=9))
    report = carried(base, network)
    old = base_weights(base)
    assert all(torch.equal(value, old[key]) for key, value in network.state_dict().items())
    assert "segments of 9 frames instead of 6: no weight depends on it" in report.notes
    assert "some-bert" in str(report)


def test_what_does_not_fit_keeps_its_own_initialisation_and_is_listed(base: Path, small_config: Build) -> None:
    changes = {
        **sizes(BASE_TABLE, BASE_SPEAKERS),
        "bert_channels": {"JP": 5, "EN": 3},
        "n_layers": 4,
        "istft_channels": 12,
    }
    network = random_network(small_config(**changes))
    before = {key: value.clone() for key, value in network.state_dict().items()}
    report = carried(base, network)
    old, text = base_weights(base), report.parts["text_encoder"]
    touched = {key for key, value in network.state_dict().items() if not torch.equal(value, before[key])}
    assert touched == {name for part in report.parts.values() for name in part.transferred}
    assert torch.equal(
        network.state_dict()["text_encoder.bert_projections.JP.weight"], old["text_encoder.bert_projections.JP.weight"]
    )
    assert {"text_encoder.bert_projections.EN.weight", "text_encoder.encoder.attentions.3.query.weight"} <= set(
        text.fresh
    )
    assert text.unused == ["text_encoder.bert_projections.ZH.bias", "text_encoder.bert_projections.ZH.weight"]
    assert "decoder.embed.weight" in report.parts["decoder"].fresh
    total = sum(len(part.transferred) + len(part.partly) + len(part.fresh) for part in report.parts.values())
    assert total == len(network.state_dict())
    assert "text_encoder: " in str(report)
    assert "2 unused in the base" in str(report)


@pytest.mark.parametrize(
    ("part", "changes"),
    [
        (
            "decoder",
            {
                "decoder": "hifigan",
                "upsample_rates": (4, 2),
                "upsample_kernel_sizes": (8, 4),
                "upsample_initial_channels": 16,
            },
        ),
        ("flow", {"flow": "residual"}),
    ],
)
def test_a_part_of_another_kind_is_not_transferred_despite_equal_names_and_shapes(
    base: Path, small_config: Build, part: str, changes: dict[str, Any]
) -> None:
    network = random_network(small_config(**sizes(BASE_TABLE, BASE_SPEAKERS), **changes))
    before = {key: value.clone() for key, value in network.state_dict().items()}
    report = carried(base, network)
    after = {key: value for key, value in network.state_dict().items() if key.startswith(f"{part}.")}
    assert all(torch.equal(value, before[key]) for key, value in after.items())
    assert set(after) & set(base_weights(base)), "some are called alike"
    assert report.parts[part].fresh == list(after)
    assert set(report.parts[part].unused) == {key for key in base_weights(base) if key.startswith(f"{part}.")}
    assert any(note.startswith(f"{part} is ") for note in report.notes)


def test_length_and_direction_of_a_weight_are_transferred_together(base: Path) -> None:
    wider = MultiPeriodDiscriminator(replace(NARROW, periods=(2, 3)))
    with torch.no_grad():
        conv = wider.discriminators[1].convs[1]
        conv.parametrizations.weight.original1 = torch.nn.Parameter(torch.randn(8, 2, 7, 1))
    before = conv.parametrizations.weight.original0.clone()
    network = Synthesizer(ModelConfig.from_dict(load_checkpoint(base).metadata["model"]))
    report = transfer(base, network, Vocabulary(BASE_TABLE, BASE_SPEAKERS), discriminator=wider)
    part = report.parts["discriminator"]
    assert torch.equal(conv.parametrizations.weight.original0, before)
    assert "discriminators.1.convs.1.parametrizations.weight.original0" in part.fresh
    assert "discriminators.1.convs.0.parametrizations.weight.original0" in part.transferred
    assert "discriminators.2.conv_post.bias" in part.fresh


def test_discriminators_of_only_one_side_are_reported(base: Path, small_config: Build) -> None:
    network = random_network(small_config(**sizes(BASE_TABLE, BASE_SPEAKERS)))
    judge = DurationDiscriminator(in_channels=16, filter_channels=8)
    report = transfer(base, network, Vocabulary(BASE_TABLE, BASE_SPEAKERS), duration_discriminator=judge)
    assert len(report.parts["discriminator"].unused) == len(MultiPeriodDiscriminator(NARROW).state_dict())
    assert len(report.parts["duration_discriminator"].fresh) == len(judge.state_dict())


def test_the_report_is_plain_json(base: Path, small_config: Build) -> None:
    report = carried(
        base, random_network(small_config(**sizes(NEW_TABLE, ("ben", "carla")))), NEW_TABLE, ("ben", "carla")
    )
    told = json.loads(json.dumps(report.to_dict()))
    assert told["parts"]["flow"]["transferred"] > 0
    assert told["parts"]["text_encoder"]["partly"][SYMBOL_TABLE]["new"] == ["x"]


def test_training_continues_from_transferred_weights(base: Path, small_config: Build) -> None:
    network = random_network(small_config(**sizes(BASE_TABLE, BASE_SPEAKERS)))
    optimizer = torch.optim.SGD(network.parameters(), lr=1.0)
    carried(base, network)
    before = network.state_dict()[SYMBOL_TABLE].clone()
    network.text_encoder.symbol_embedding.weight.grad = torch.ones_like(before)
    optimizer.step()
    assert torch.equal(network.state_dict()[SYMBOL_TABLE], before - 1)


@pytest.mark.parametrize("metadata", [{}, {"symbols": {}, "speakers": []}])
def test_a_checkpoint_that_is_no_voice_is_named(tmp_path: Path, small_config: Build, metadata: dict[str, Any]) -> None:
    network = Synthesizer(small_config())
    save_checkpoint(tmp_path, tensors={"synthesizer": network.state_dict()}, metadata=metadata)
    with pytest.raises(CheckpointError, match=r": not a voice \(.*give the folder of a trained or imported one"):
        carried(tmp_path, network)
