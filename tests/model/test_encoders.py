"""Transformer encoder and decoder, text encoder."""

from dataclasses import replace

import pytest
import torch

from model.checkpoint import load_reference_state
from model.config import ModelConfig
from model.encoders import TextEncoder, TransformerDecoder, TransformerEncoder, TransformerShape


def shape_of(config: dict) -> TransformerShape:
    return TransformerShape(
        hidden_channels=config["hidden_channels"],
        filter_channels=config["filter_channels"],
        n_heads=config["n_heads"],
        n_layers=config["n_layers"],
        kernel_size=config["kernel_size"],
        window=config.get("window_size"),
    )


@pytest.mark.parametrize("name", ["encoder_plain", "encoder_speaker"])
def test_golden_encoder(golden, name):
    case = golden(name)
    encoder = TransformerEncoder(
        shape_of(case.config),
        speaker_channels=case.config.get("gin_channels", 0),
        speaker_layer_index=case.config.get("cond_layer_idx", -1),
    ).eval()
    load_reference_state(encoder, case.state, prefix="enc_p.encoder")
    case.check("y", encoder(case.inputs["x"], case.inputs["mask"], case.inputs.get("g")))


def test_golden_decoder(golden):
    case = golden("decoder")
    decoder = TransformerDecoder(shape_of(case.config), proximal_bias=True, proximal_init=True).eval()
    load_reference_state(decoder, case.state)
    given = case.inputs
    case.check("y", decoder(given["x"], given["mask"], given["h"], given["h_mask"]))


def golden_text_encoder(case) -> TextEncoder:
    config = case.config
    encoder = TextEncoder(
        ModelConfig(
            n_symbols=config["n_vocab"],
            n_tones=config["n_tones"],
            n_languages=config["n_languages"],
            speaker_channels=config["gin_channels"],
            inter_channels=config["out_channels"],
            hidden_channels=config["hidden_channels"],
            filter_channels=config["filter_channels"],
            n_heads=config["n_heads"],
            n_layers=config["n_layers"],
            kernel_size=config["kernel_size"],
        )
    ).eval()
    load_reference_state(encoder, case.state, prefix="enc_p")
    return encoder


def encode(encoder: TextEncoder, given: dict, bert: dict):
    return encoder(given["x"], given["x_lengths"], given["tone"], given["language"], bert, given["g"])


def test_golden_text_encoder(golden):
    case = golden("text_encoder")
    given = case.inputs
    encoding = encode(golden_text_encoder(case), given, {"ZH": given["bert"], "JP": given["ja_bert"]})
    case.check("x", encoding.hidden)
    case.check("m_p", encoding.prior_mean)
    case.check("logs_p", encoding.prior_log_std)
    case.check("mask", encoding.phone_mask)


def test_absent_language_counts_as_zero_features(golden):
    case = golden("text_encoder")
    encoder, given = golden_text_encoder(case), case.inputs
    absent = encode(encoder, given, {"ZH": given["bert"]})
    zeros = encode(encoder, given, {"ZH": given["bert"], "JP": torch.zeros_like(given["ja_bert"])})
    torch.testing.assert_close(absent.hidden, zeros.hidden)


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
        encoder(ids, torch.tensor([5]), ids, ids % 3, {}, torch.full((1, 8, 1), value)).hidden
        for value in (0.0, 1.0)
    ]
    assert torch.equal(*hidden) == (layer_index == -1)
