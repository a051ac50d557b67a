"""Handmade clean_text manifests, and the features that the BERT stage computes for them."""

from __future__ import annotations

import random
from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from stages.common import manifests
from stages.rows.shards import ShardReader

CHARACTERS = {
    "ZH": "今天天气很好我们去公园吧重庆的火锅辣你能吃吗请在星期二之前交报告银行里有谁知道他什么时候回来",
    "JP": "今日はとても良い天気ですね東京タワーに行きたい"
    "コンピューターが動かない明日の会議は三時からラーメンを食べましょう",
}
_WORDS = "the weather is fine today please leave a message after tone nobody knows how much wood doctors sell"
ENGLISH = _WORDS.split()


def cleaned(utterance_id: str, parts: Sequence[tuple[str, str, int]]) -> dict[str, Any]:
    """Return a clean_text row of (language, word, times): two phones a word."""
    words = [(language, word) for language, word, times in parts for _ in range(times)]
    ends = list(accumulate(len(word) for _, word in words))
    return {
        "utterance_id": utterance_id,
        "language": parts[0][0],
        "normalised": "".join(word for _, word in words),
        "words": [word.strip() for _, word in words],
        "word_starts": [end - len(word) for end, (_, word) in zip(ends, words, strict=True)],
        "word_ends": [end - len(word) + len(word.rstrip()) for end, (_, word) in zip(ends, words, strict=True)],
        "word_languages": [language for language, _ in words],
        "phones": ["a"] * (2 * len(words)),
        "tones": [0] * (2 * len(words)),
        "word2ph": [2] * len(words),
        "note": "",
    }


def made_up_sentence(language: str, random_source: random.Random) -> str:
    """Return 3 to 40 characters, or up to 20 words, of the language in random order."""
    length = random_source.randint(3, 40)
    if language in CHARACTERS:
        return "".join(random_source.choices(CHARACTERS[language], k=length))
    return " ".join(random_source.choices(ENGLISH, k=length // 2 + 1))


def made_up_rows(languages: Sequence[str], count: int) -> list[dict[str, Any]]:
    """Return `count` clean_text rows of one sentence each, cycling through the languages."""
    random_source = random.Random(0)
    spoken = [languages[index % len(languages)] for index in range(count)]
    return [
        cleaned(f"u{index:04d}", [(language, made_up_sentence(language, random_source), 1)])
        for index, language in enumerate(spoken)
    ]


def write_texts(rows: Sequence[dict[str, Any]], folder: str = "text") -> Path:
    """Write a clean_text manifest."""
    Path(folder).mkdir(exist_ok=True)
    manifests.write_manifest(
        Path(folder) / "clean_text.parquet", manifests.table_from_rows(rows, manifests.CLEAN_TEXT, {"lexicon": {}})
    )
    return Path(folder)


def spans_of(out: Path) -> dict[str, list[npt.NDArray[np.float16]]]:
    """Return utterance id → features (tokens, channels) of each of its spans that has any."""
    with ShardReader(out) as reader:
        return {
            row["utterance_id"]: [
                reader.read_array(
                    span["shard"], span["offset_bytes"], (span["n_tokens"], span["n_channels"]), "float16"
                )
                for span in row["spans"]
                if span["n_tokens"]
            ]
            for row in manifests.read_manifest(out / "bert.parquet", manifests.BERT).to_pylist()
        }
