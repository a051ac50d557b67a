"""Tokens of a text with their character offsets, from the tokenizer in a model folder.

A BERT's `tokenizer.json` is read by the tokenizers package itself, because importing transformers takes seconds. All
other tokenizers come from transformers.
"""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol


class EncoderError(ValueError):
    """Encoder that is missing or unusable; the message names the remedy."""


@dataclass(frozen=True)
class Tokens:
    """Tokens of a text: ids including the opening and closing special tokens, and their character spans in the text."""

    ids: tuple[int, ...]
    offsets: tuple[tuple[int, int], ...]


class Tokenizer(Protocol):
    """Converter of texts to tokens, untruncated; a text's tokens do not depend on other texts."""

    def __call__(self, texts: Sequence[str]) -> list[Tokens]: ...


class WordPieceTokenizer:
    """The BERT tokenizer that a folder's `tokenizer.json` describes."""

    def __init__(self, folder: Path) -> None:
        from tokenizers import Tokenizer as FastTokenizer

        self._tokenizer = FastTokenizer.from_file(str(folder / "tokenizer.json"))
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()

    def __call__(self, texts: Sequence[str]) -> list[Tokens]:
        """Tokenise texts, untruncated."""
        encoded = self._tokenizer.encode_batch(list(texts))
        return [Tokens(tuple(text.ids), tuple(text.offsets)) for text in encoded]


def is_word_piece_folder(folder: Path) -> bool:
    """Return whether transformers builds from the folder exactly the tokenizer that its `tokenizer.json` describes.

    transformers takes only the vocabulary from that file. The rest comes from the class that `tokenizer_config.json`
    names, and from its settings there.
    """
    try:
        file = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
        settings = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    if settings.get("tokenizer_class") not in ("BertTokenizer", "BertTokenizerFast"):
        return False
    built = {
        "model": {
            "type": "WordPiece",
            "unk_token": "[UNK]",
            "continuing_subword_prefix": "##",
            "max_input_chars_per_word": 100,
            "vocab": file.get("model", {}).get("vocab"),
        },
        "normalizer": {
            "type": "BertNormalizer",
            "clean_text": True,
            "handle_chinese_chars": settings.get("tokenize_chinese_chars", True),
            "strip_accents": settings.get("strip_accents"),
            "lowercase": settings.get("do_lower_case", True),
        },
        "pre_tokenizer": {"type": "BertPreTokenizer"},
    }
    return bool(file.get("post_processor")) and all(file.get(part) == built[part] for part in built)


class TransformersTokenizer:
    """A tokenizer of transformers. Where it reports no offsets, its tokens are searched for in the text."""

    def __init__(self, folder: Path) -> None:
        from transformers import AutoTokenizer

        try:
            self._tokenizer: Any = AutoTokenizer.from_pretrained(folder, use_fast=True, local_files_only=True)
        except ImportError as error:
            raise EncoderError(
                f"{folder}: its tokenizer needs a package that is not installed ({' '.join(str(error).split())})"
            ) from None
        except (OSError, ValueError) as error:
            raise EncoderError(f"{folder}: no usable tokenizer ({str(error).splitlines()[0]})") from None
        # transformers returns such a tokenizer for a folder that has none.
        if len(self._tokenizer) <= len(set(self._tokenizer.all_special_tokens)):
            raise EncoderError(f"{folder}: no usable tokenizer (it has no vocabulary)")

    def __call__(self, texts: Sequence[str]) -> list[Tokens]:
        """Tokenise texts, untruncated."""
        if not self._tokenizer.is_fast:
            return [self._one_by_pieces(text) for text in texts]
        encoded = self._tokenizer(list(texts), return_offsets_mapping=True, verbose=False)
        return [
            Tokens(tuple(ids), tuple((start, end) for start, end in offsets))
            for ids, offsets in zip(encoded["input_ids"], encoded["offset_mapping"], strict=True)
        ]

    def _one_by_pieces(self, text: str) -> Tokens:
        pieces: list[str] = self._tokenizer.tokenize(text)
        piece_ids: list[int] = self._tokenizer.convert_tokens_to_ids(pieces)
        ids = self._tokenizer.build_inputs_with_special_tokens(piece_ids)
        if len(ids) != len(pieces) + 2:
            raise EncoderError(
                f"{len(ids) - len(pieces)} special tokens around a text; expected one before and one after it"
            )
        return Tokens(tuple(ids), ((0, 0), *find_pieces(text, pieces, self._tokenizer.unk_token), (0, 0)))


def find_pieces(text: str, pieces: Sequence[str], unknown: str) -> list[tuple[int, int]]:
    """Return the character span [start, end) of each token of a text, in order ("##" marks a token inside a word).

    Tokens are searched for in the text after NFKC and lower-casing. One that is `unknown`, or is not found, covers the
    characters up to the next one that is found.
    """
    folded, sources = _fold(text)
    spans: list[tuple[int, int] | None] = []
    position = 0
    for piece in pieces:
        spelling = _fold(piece.removeprefix("##") if piece != "##" else piece)[0]
        start = folded.find(spelling, position) if piece != unknown and spelling else -1
        if start < 0:
            spans.append(None)
            continue
        spans.append((sources[start], sources[start + len(spelling) - 1] + 1))
        position = start + len(spelling)
    return _fill_gaps(spans, len(text))


def _fold(text: str) -> tuple[str, list[int]]:
    """Return the text in NFKC per character and lower case, without white space, and each character's source index."""
    folded: list[str] = []
    sources: list[int] = []
    for index, character in enumerate(text):
        for part in unicodedata.normalize("NFKC", character).lower():
            if not part.isspace():
                folded.append(part)
                sources.append(index)
    return "".join(folded), sources


def _fill_gaps(spans: Sequence[tuple[int, int] | None], n_characters: int) -> list[tuple[int, int]]:
    """Fill each run of missing spans: the first gets all characters between the neighbours, the others none."""
    filled: list[tuple[int, int]] = []
    for index, span in enumerate(spans):
        if span is not None:
            filled.append(span)
            continue
        start = filled[-1][1] if filled else 0
        following = next((later[0] for later in spans[index:] if later is not None), n_characters)
        filled.append((start, max(start, following)))
    return filled
