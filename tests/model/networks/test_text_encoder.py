"""Transformer encoder and decoder, text encoder."""

from dataclasses import replace

import pytest
import torch

from model.networks.text_encoder import TextEncoder


def test_absent_language_counts_as_zero_features(small_config):
    encoder = TextEncoder(small_config(bert_channels={"ZH": 6, "JP": 5})).eval()
    for projection in encoder.bert_projections.values():
        torch.nn.init.normal_(projection.weight)
        torch.nn.init.normal_(projection.bias)
    ids, speaker, features = torch.randint(0, 4, (2, 7)), torch.randn(2, 8, 1), torch.randn(2, 6, 7)
    absent, zeros = (
        encoder(ids, torch.tensor([7, 4]), ids, ids % 3, bert, speaker).hidden
        for bert in ({"ZH": features}, {"ZH": features, "JP": torch.zeros(2, 5, 7)})
    )
    torch.testing.assert_close(absent, zeros)


def test_language_without_projection_is_refused(small_config):
    encoder = TextEncoder(small_config(bert_channels={}))
    ids = torch.zeros(1, 3, dtype=torch.long)
    with pytest.raises(ValueError, match="no projection for BERT features of JP; the model has none"):
        encoder(ids, torch.tensor([3]), ids, ids, {"JP": torch.zeros(1, 768, 3)}, torch.zeros(1, 8, 1))


def test_padding_does_not_change_a_phones_encoding(small_config):
    encoder = TextEncoder(small_config()).eval()
    ids, speaker = torch.randint(0, 4, (1, 9)), torch.randn(1, 8, 1)
    padded = encoder(ids, torch.tensor([6]), ids, ids % 3, {}, speaker)
    short = encoder(ids[:, :6], torch.tensor([6]), ids[:, :6], ids[:, :6] % 3, {}, speaker)
    torch.testing.assert_close(padded.prior_mean[..., :6], short.prior_mean)
    assert padded.hidden[..., 6:].abs().sum() == 0


@pytest.mark.parametrize("layer_index", [-1, 0, 2])
def test_speaker_joins_only_where_configured(small_config, layer_index):
    encoder = TextEncoder(replace(small_config(), speaker_layer_index=layer_index)).eval()
    ids = torch.randint(0, 4, (1, 5))
    hidden = [
        encoder(ids, torch.tensor([5]), ids, ids % 3, {}, torch.full((1, 8, 1), value)).hidden for value in (0.0, 1.0)
    ]
    assert torch.equal(*hidden) == (layer_index == -1)
