"""Utterances for training and evaluation, read from the split manifest and the stages' shards."""

from __future__ import annotations

import bisect
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from model.bert_pieces import BertPiece, bert_piece
from model.dataset import Room, Utterance, fill_samples
from model.spectrogram import SpectrogramSettings, half_spectrogram
from model.text.symbols import PAD, SymbolTable, encode_phones
from stages.common import manifests
from stages.common.errors import StageError
from stages.common.shards import ShardReader


@dataclass(frozen=True)
class DataFolders:
    """Output folders of the stages that training reads."""

    split: Path
    resample: Path
    spectrogram: Path
    bert: Path


@dataclass(frozen=True)
class CorpusFacts:
    """What the manifests say about the whole corpus."""

    spectrogram: SpectrogramSettings
    spectrogram_cached: bool
    bert_channels: dict[str, int]
    encoders: dict[str, Any]
    speakers: tuple[str, ...]
    source_note: str
    lexicon: dict[str, dict[str, str]] = field(default_factory=dict)  # language → word → reading


def read_split(folder: Path) -> tuple[pa.Table, CorpusFacts]:
    """Return the split manifest and the facts about the corpus; speakers are numbered in alphabetical order."""
    table = manifests.read_manifest(folder / "split.parquet", manifests.SPLIT)
    facts = manifests.metadata_of(table)
    sizes: dict[str, int] = {}
    for language, size in sorted(_sizes(table)):
        if sizes.setdefault(language, size) != size:
            raise StageError(None, folder / "split.parquet", f"{language} has BERT features of {sizes[language]} and {size} channels")
    return table, CorpusFacts(
        spectrogram=SpectrogramSettings(**facts["spectrogram"]["settings"]),
        spectrogram_cached=facts["spectrogram"]["source"] == "cache",
        bert_channels=sizes, encoders=facts["bert"]["encoders"],
        speakers=tuple(sorted(pc.unique(table.column("speaker")).to_pylist())), source_note=facts["corpus"]["source_note"],
        lexicon=facts["clean_text"]["lexicon"],
    )  # fmt: skip


def _sizes(table: pa.Table) -> set[tuple[str, int]]:
    """Return every (language, channels) that spans with features have."""
    spans = pa.Table.from_struct_array(pc.list_flatten(table.column("bert_spans")))
    pairs = spans.group_by(["language", "n_channels"]).aggregate([]).to_pylist()
    return {(pair["language"], pair["n_channels"]) for pair in pairs if pair["n_channels"]}


class _Chunk:
    """The columns of one record batch as NumPy arrays, views where they can be: an object per field and utterance, as Arrow
    gives them, takes longer than reading the utterance. Symbols, languages and speakers are ids, -1 where there is none."""

    def __init__(self, batch: pa.RecordBatch, symbols: SymbolTable, speakers: Sequence[str]) -> None:
        self._batch = batch
        self._symbols = symbols
        self._speakers = speakers

    @cached_property
    def pcm_places(self) -> list[npt.NDArray[Any]]:
        return [self._batch.column(name).to_numpy() for name in ("pcm_shard", "pcm_offset_bytes", "n_samples")]

    @cached_property
    def spectrogram_places(self) -> list[npt.NDArray[Any]]:
        return [self._batch.column(name).to_numpy() for name in ("spectrogram_shard", "spectrogram_offset_bytes")]

    @cached_property
    def speaker_ids(self) -> npt.NDArray[np.int32]:
        return _ids(self._batch.column("speaker"), self._speakers)

    @cached_property
    def text(self) -> _Lists:
        """Return phone, tone and language ids of every phone, pads included (3, phones), -1 where the table has none."""
        phones, symbols, spans = self._batch.column("phones"), self._symbols, self._batch.column("bert_spans").flatten()
        offsets = phones.offsets.to_numpy()
        offsets = offsets - offsets[0] + 2 * np.arange(len(offsets), dtype=offsets.dtype)
        text = np.empty((3, int(offsets[-1])), dtype=np.int16)
        inner = np.ones(text.shape[1], dtype=bool)
        first, last = offsets[:-1], offsets[1:] - 1
        inner[first] = inner[last] = False
        text[0, first] = text[0, last] = symbols.symbol_id(PAD)
        text[0, inner] = _ids(phones.flatten(), symbols.symbols)
        # Each phone's language is its span's; the pads at both ends belong to spans but are of the utterance's language.
        text[2] = np.repeat(_ids(spans.field("language"), symbols.languages), spans.field("n_phones").to_numpy())
        text[2, first] = text[2, last] = _ids(self._batch.column("language"), symbols.languages)
        n_tones = max(map(len, symbols.tones.values()))
        tone_ids = np.full((len(symbols.languages), n_tones + 1), -1, dtype=np.int16)  # a column more, for tones that no language has
        for language_id, language in enumerate(symbols.languages):
            tone_ids[language_id, : len(symbols.tones[language])] = symbols.tones[language]
        tones = np.zeros(text.shape[1], dtype=np.int16)
        tones[inner] = np.clip(self._batch.column("tones").flatten().to_numpy(), -1, n_tones)
        text[1] = tone_ids[text[2], tones]
        return _Lists(offsets, text)

    @cached_property
    def phone_tokens(self) -> _Lists:
        column = self._batch.column("phone_tokens")
        return _Lists(column.offsets.to_numpy(), column.values.to_numpy())

    @cached_property
    def spans(self) -> _Lists:
        """Return language id, n_phones, shard, offset_bytes, n_tokens and n_channels of every span (6, spans)."""
        column = self._batch.column("bert_spans")
        numbers = [column.values.field(name).to_numpy() for name in ("n_phones", "shard", "offset_bytes", "n_tokens", "n_channels")]
        languages = _ids(column.values.field("language"), self._symbols.languages)
        return _Lists(column.offsets.to_numpy(), np.stack([languages, *numbers], dtype=np.int64))


class _Lists:
    """A list column: row → its values (…, L)."""

    def __init__(self, offsets: npt.NDArray[np.int32], values: npt.NDArray[Any]) -> None:
        self._offsets = offsets
        self._values = values

    def __getitem__(self, row: int) -> npt.NDArray[Any]:
        return self._values[..., self._offsets[row] : self._offsets[row + 1]]


def _ids(values: pa.Array, known: Sequence[str]) -> npt.NDArray[np.int32]:
    """Return the place of every string in `known`, -1 for those that are not there."""
    ids: npt.NDArray[np.int32] = pc.fill_null(pc.index_in(values, value_set=pa.array(known, pa.string())), -1).to_numpy()
    return ids


class ManifestSource:
    """Random access to the utterances of one subset; satisfies `model.dataset.UtteranceSource`.

    It holds the table that it was given, uncopied, and which of the rows are the subset's.
    """

    def __init__(
        self, folders: DataFolders, table: pa.Table, facts: CorpusFacts, subset: str, symbols: SymbolTable, add_blank: bool
    ) -> None:
        self.facts = facts
        self.symbols = symbols
        self.add_blank = add_blank
        self.pitch: Sequence[npt.NDArray[np.float32]] | None = None  # of every utterance (2, T), for models that read it
        self._table = table
        self._rows = np.flatnonzero(pc.equal(table.column("subset"), subset).to_numpy())
        self._n_frames: npt.NDArray[np.int64] = table.column("n_frames").to_numpy()[self._rows].astype(np.int64)
        with_pads = pc.list_value_length(table.column("phones")).to_numpy()[self._rows].astype(np.int64) + 2
        self._n_phones: npt.NDArray[np.int64] = 2 * with_pads + 1 if add_blank else with_pads
        batches = table.to_batches()
        self._chunks = [_Chunk(batch, symbols, facts.speakers) for batch in batches]
        self._chunk_starts = list(itertools.accumulate((batch.num_rows for batch in batches), initial=0))
        self._pcm = ShardReader(folders.resample)
        self._spectrogram = ShardReader(folders.spectrogram)
        self._bert = ShardReader(folders.bert)

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def n_frames(self) -> npt.NDArray[np.int64]:
        """Frames per utterance (N,)."""
        return self._n_frames

    @property
    def n_phones(self) -> npt.NDArray[np.int64]:
        """Phones per utterance (N,), with pads and blanks."""
        return self._n_phones

    @property
    def n_frequencies(self) -> int:
        """Values of a frame."""
        return self.facts.spectrogram.n_frequencies

    def row(self, index: int) -> dict[str, Any]:
        """Return the manifest row of an utterance."""
        row: dict[str, Any] = self._table.slice(int(self._rows[index]), 1).to_pylist()[0]
        return row

    def pcm(self, index: int) -> npt.NDArray[np.int16]:
        """Read the samples (S,) of one utterance."""
        return self._samples(*self._place(index))

    def load(self, index: int, room: Room | None = None) -> Utterance:
        """Read one utterance from the shards, its frames and samples straight into `room` if there is one."""
        chunk, row = self._place(index)
        if room is None:
            room = Room(np.empty((self._n_frames[index], self.n_frequencies), np.float16), np.empty(int(chunk.pcm_places[2][row]), np.int16))
        if self.facts.spectrogram_cached:
            self._read_samples(chunk, row, room.pcm)
            shard, offset_bytes = (int(values[row]) for values in chunk.spectrogram_places)
            self._spectrogram.read_into(room.linear, shard, offset_bytes)
        else:
            pcm = self._samples(chunk, row)  # all of them: frames reach beyond the last whole hop
            fill_samples(room.pcm, pcm)
            half_spectrogram(pcm, self.facts.spectrogram, room.linear)
        phone_ids, tone_ids, language_ids = self._text(index, chunk.text[row])
        return Utterance(
            phone_ids=phone_ids, tone_ids=tone_ids, language_ids=language_ids, bert=tuple(self._bert_pieces(chunk, row)),
            linear=room.linear, pcm=room.pcm, speaker_id=int(chunk.speaker_ids[row]), pitch=None if self.pitch is None else self.pitch[index],
        )  # fmt: skip

    def _place(self, index: int) -> tuple[_Chunk, int]:
        row = int(self._rows[index])
        number = bisect.bisect_right(self._chunk_starts, row) - 1
        return self._chunks[number], row - self._chunk_starts[number]

    def _text(self, index: int, text: npt.NDArray[np.int16]) -> npt.NDArray[np.int64]:
        """Return phone, tone and language ids (3, P) as `encode_phones` does; raises TextError as it does."""
        if text.min() < 0:
            self._refuse(index)
        if not self.add_blank:
            return text.astype(np.int64)
        spaced = np.zeros((3, 2 * text.shape[1] + 1), dtype=np.int64)
        spaced[:, 1::2] = text
        return spaced

    def _refuse(self, index: int) -> None:
        """Raise the TextError of a phone, tone or language that the symbol table does not have."""
        row = self.row(index)
        languages = [span["language"] for span in row["bert_spans"] for _ in range(span["n_phones"])][1:-1]
        encode_phones(row["phones"], row["tones"], languages, row["language"], self.symbols, self.add_blank)

    def _samples(self, chunk: _Chunk, row: int) -> npt.NDArray[np.int16]:
        pcm = np.empty(int(chunk.pcm_places[2][row]), dtype=np.int16)
        self._read_samples(chunk, row, pcm)
        return pcm

    def _read_samples(self, chunk: _Chunk, row: int, room: npt.NDArray[np.int16]) -> None:
        shard, offset_bytes, n_samples = (int(values[row]) for values in chunk.pcm_places)
        self._pcm.read_into(room[:n_samples], shard, offset_bytes)
        room[n_samples:] = 0

    def _bert_pieces(self, chunk: _Chunk, row: int) -> Iterator[BertPiece]:
        first_phone, phone_tokens = 0, chunk.phone_tokens[row]
        for language_id, n_phones, shard, offset_bytes, n_tokens, n_channels in chunk.spans[row].T.tolist():
            end_phone = first_phone + n_phones
            if n_tokens:
                features = self._bert.read_array(shard, offset_bytes, (n_tokens, n_channels), "float16")
                yield bert_piece(self.symbols.languages[language_id], first_phone, phone_tokens[first_phone:end_phone], features, self.add_blank)
            first_phone = end_phone
