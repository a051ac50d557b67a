"""Validation: the same numbers however many ranks share the set."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

from model.text.symbols import SymbolTable
from model.training.trainer import Trainer
from stages.train import validation
from stages.train.manifest_source import ManifestSource, read_split
from stages.train.samples import write_samples
from stages.train.validation import Validator
from tests.small_corpus import SmallCorpus, folder_bytes
from tests.stages.train.program import folders, tiny_params


@pytest.fixture(scope="module")
def validator(small_corpus: SmallCorpus) -> Validator:
    params = tiny_params(aligner__steps=0, model__frame_prior_layers=0)
    table, facts = read_split(small_corpus.split)
    symbols = SymbolTable()
    model, discriminator = params.networks(facts, symbols)
    trainer = Trainer(model, discriminator, params.optimisation, facts.spectrogram, torch.device("cpu"))
    # The training set, for its size.
    return Validator(trainer, ManifestSource(folders(small_corpus), table, facts, "train", symbols, False), facts, None)


@pytest.mark.parametrize("n_ranks", [2, 3])
def test_shared_by_any_number_of_ranks_the_values_are_the_same_bits(
    validator: Validator, monkeypatch: pytest.MonkeyPatch, n_ranks: int
) -> None:
    alone = validator.values(0, 1)
    shares: list[dict[int, dict[str, float]]] = []
    monkeypatch.setattr(validation, "gather", lambda own: shares.append(own) or [own])
    for rank in range(n_ranks):
        validator.values(rank, n_ranks)
    assert sorted(index for share in shares for index in share) == list(range(8)) and all(shares)
    monkeypatch.setattr(validation, "gather", lambda own: shares)
    assert validator.values(0, n_ranks) == alone == validator.values(1, n_ranks)
    assert set(alone) == {"mel", "kl", "duration", "mcd"} and all(math.isfinite(value) for value in alone.values())


def test_neither_validation_nor_samples_disturb_random_numbers_and_samples_are_the_same_bytes_each_time(
    validator: Validator, tmp_path: Path
) -> None:
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    folders_written = []
    for name in ("a", "b"):
        folder = tmp_path / name
        folder.mkdir()
        write_samples(folder, validator, 2)
        torch.rand(5)
        folders_written.append(folder_bytes(folder))
        torch.manual_seed(7)
    validator.values(0, 4)
    write_samples(tmp_path / "a", validator, 1)
    assert torch.equal(torch.rand(3), expected)
    assert folders_written[0] == folders_written[1] and len(folders_written[0]) == 6
