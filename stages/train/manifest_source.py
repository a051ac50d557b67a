"""Utterances for training and evaluation, read from the split manifest and the stages' shards."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from model.audio.settings import SpectrogramSettings
from model.audio.spectrogram import half_spectrogram
from model.bert.phone_features import expand_to_phones, token_rows
from model.text.symbols import PAD, SymbolTable, encode_phones
from model.training.dataset import BatchBuffers, fill_samples
from stages.common import manifests
from stages.common.errors import StageError
from stages.rows.shards import ShardReader

_SOUND = ("pcm_shard", "pcm_offset_bytes", "n_samples", "spectrogram_shard", "spectrogram_offset_bytes", "n_frames")
_SPAN = ("n_phones", "shard", "offset_bytes", "n_tokens")
_BLOCK_ROWS = 65536  # rows whose text is copied at a time


@dataclass(frozen=True)
class DataFolders:
    """Output folders of the stages that training reads."""

    split: Path
    resample: Path
    spectrogram: Path
    bert: Path


@dataclass(frozen=True)
class CorpusFacts:
    """Facts about the whole corpus, from the manifests."""

    spectrogram: SpectrogramSettings
    spectrogram_cached: bool
    bert_channels: dict[str, int]
    encoders: dict[str, Any]
    speakers: tuple[str, ...]
    source_note: str
    lexicon: dict[str, dict[str, str]] = field(default_factory=dict)  # language → word → reading


def read_split(folder: Path) -> tuple[pa.Table, CorpusFacts]:
    """Return the split manifest and the facts about the corpus, with speakers in the order of their ids (sorted)."""
    table = manifests.read_manifest(folder / "split.parquet", manifests.SPLIT)
    facts = manifests.metadata_of(table)
    sizes: dict[str, int] = {}
    for language, size in sorted(_sizes(table)):
        if sizes.setdefault(language, size) != size:
            raise StageError(
                None, folder / "split.parquet", f"{language} has BERT features of {sizes[language]} and {size} channels"
            )
    return table, CorpusFacts(
        spectrogram=SpectrogramSettings(**facts["spectrogram"]["settings"]),
        spectrogram_cached=facts["spectrogram"]["source"] == "cache",
        bert_channels=sizes,
        encoders=facts["bert"]["encoders"],
        speakers=tuple(sorted(pc.unique(table.column("speaker")).to_pylist())),
        source_note=facts["corpus"]["source_note"],
        lexicon=facts["clean_text"]["lexicon"],
    )


def _sizes(table: pa.Table) -> set[tuple[str, int]]:
    """Return the (language, channels) pairs of spans with features."""
    spans = pa.Table.from_struct_array(pc.list_flatten(table.column("bert_spans")))
    pairs = spans.group_by(["language", "n_channels"]).aggregate([]).to_pylist()
    return {(pair["language"], pair["n_channels"]) for pair in pairs if pair["n_channels"]}


class _Lists:
    """List column: the values (…, V) of all rows, and the offsets of each row's (rows + 1,)."""

    def __init__(self, offsets: npt.NDArray[np.integer], values: npt.NDArray[Any]) -> None:
        self._offsets = offsets
        self._values = values

    def counts(self, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.integer]:
        """Return the number of values of each row."""
        return self._offsets[rows + 1] - self._offsets[rows]

    def gather(self, rows: npt.NDArray[np.int64]) -> npt.NDArray[Any]:
        """Return the concatenated values (…, L) of rows."""
        counts = self.counts(rows)
        ends = np.cumsum(counts)
        return self._values[..., np.arange(ends[-1]) + np.repeat(self._offsets[rows] - (ends - counts), counts)]


class _Columns:
    """The manifest's columns as NumPy arrays, views if possible.

    Arrow takes longer to gather a batch's rows than they take to read. Symbols, tones, languages and speakers are ids,
    -1 for unknown ones.
    """

    def __init__(self, table: pa.Table, symbols: SymbolTable, speakers: Sequence[str]) -> None:
        self._table = table
        self._symbols = symbols
        self._speakers = speakers

    @cached_property
    def sound(self) -> npt.NDArray[np.int64]:
        """Return shards, offsets and lengths of samples and frames (6, N)."""
        return np.stack([self._table.column(name).to_numpy() for name in _SOUND], dtype=np.int64)

    @cached_property
    def speaker_ids(self) -> npt.NDArray[np.int32]:
        """Return the speaker ids (N,)."""
        return _ids(_in_one_piece(self._table.column("speaker")), self._speakers)

    @cached_property
    def text(self) -> _Lists:
        """Return phone, tone and language ids of every phone, pads included (3, phones)."""
        n_phones = pc.list_value_length(self._table.column("phones")).to_numpy() + 2
        blocks = [_text_ids(block, self._symbols) for block in self._table.to_batches(_BLOCK_ROWS)]
        return _Lists(np.cumsum(np.concatenate([[0], n_phones])), np.concatenate(blocks, axis=1))

    @cached_property
    def phone_tokens(self) -> _Lists:
        """Return the token index of every phone."""
        column = _in_one_piece(self._table.column("phone_tokens"))
        return _Lists(column.offsets.to_numpy(), column.values.to_numpy())

    @cached_property
    def spans(self) -> _Lists:
        """Return language id, n_phones, shard, offset_bytes and n_tokens of every span (5, spans)."""
        column = _in_one_piece(self._table.column("bert_spans"))
        languages = _ids(column.values.field("language"), self._symbols.languages)
        return _Lists(
            column.offsets.to_numpy(),
            np.stack([languages, *(column.values.field(name).to_numpy() for name in _SPAN)], dtype=np.int64),
        )


def _in_one_piece(column: pa.ChunkedArray) -> pa.Array:
    return (
        column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()
    )  # combine_chunks copies even a single chunk


def _ids(values: pa.Array, names: Sequence[str]) -> npt.NDArray[np.int32]:
    """Return the index of every string in `names`, -1 for unknown ones."""
    ids: npt.NDArray[np.int32] = pc.fill_null(
        pc.index_in(values, value_set=pa.array(names, pa.string())), -1
    ).to_numpy()
    return ids


def _text_ids(rows: pa.RecordBatch, symbols: SymbolTable) -> npt.NDArray[np.int16]:
    """Return phone, tone and language ids of the rows' phones, pads included (3, phones)."""
    spans = rows.column("bert_spans").flatten()
    ends = np.cumsum(pc.list_value_length(rows.column("phones")).to_numpy() + 2)
    first, last = np.concatenate([[0], ends[:-1]]), ends - 1
    inner = np.ones(ends[-1], dtype=bool)
    inner[first] = inner[last] = False
    text = np.full((3, len(inner)), symbols.symbol_id(PAD), dtype=np.int16)
    text[0, inner] = _ids(rows.column("phones").flatten(), symbols.symbols)
    # A phone has its span's language; the pads at both ends belong to spans but have the utterance's language.
    text[2] = np.repeat(_ids(spans.field("language"), symbols.languages), spans.field("n_phones").to_numpy())
    text[2, first] = text[2, last] = _ids(rows.column("language"), symbols.languages)
    n_tones = max(map(len, symbols.tones.values()))
    # The last column stands for tones that no language has.
    tone_ids = np.full((len(symbols.languages), n_tones + 1), -1, dtype=np.int16)
    for language_id, language in enumerate(symbols.languages):
        tone_ids[language_id, : len(symbols.tones[language])] = symbols.tones[language]
    tones = np.zeros(len(inner), dtype=np.int16)
    tones[inner] = np.clip(rows.column("tones").flatten().to_numpy(), -1, n_tones)
    text[1] = tone_ids[text[2], tones]
    return text


class ManifestSource:
    """Random access to the utterances of one subset; satisfies `model.training.dataset.UtteranceSource`.

    It holds the given table without a copy, and the indices of the subset's rows. A batch's rows are gathered and
    processed together: one object per field and utterance takes longer than reading the utterance.
    """

    def __init__(
        self,
        folders: DataFolders,
        table: pa.Table,
        facts: CorpusFacts,
        subset: str,
        symbols: SymbolTable,
        add_blank: bool,
    ) -> None:
        self.facts = facts
        self.symbols = symbols
        self.add_blank = add_blank
        # Pitch features of every utterance (2, T), for models that need them.
        self.pitch: Sequence[npt.NDArray[np.float32]] | None = None
        self._table = table
        self._columns = _Columns(table, symbols, facts.speakers)
        self._rows = np.flatnonzero(pc.equal(table.column("subset"), subset).to_numpy())
        self._n_frames: npt.NDArray[np.int64] = table.column("n_frames").to_numpy()[self._rows].astype(np.int64)
        with_pads = pc.list_value_length(table.column("phones")).to_numpy()[self._rows].astype(np.int64) + 2
        self._n_phones: npt.NDArray[np.int64] = 2 * with_pads + 1 if add_blank else with_pads
        self._pcm = ShardReader(folders.resample)
        self._spectrogram = ShardReader(folders.spectrogram)
        self._bert = ShardReader(folders.bert)

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def n_frames(self) -> npt.NDArray[np.int64]:
        """Return the frames of each utterance (N,)."""
        return self._n_frames

    @property
    def n_phones(self) -> npt.NDArray[np.int64]:
        """Return the phones of each utterance (N,), with pads and blanks."""
        return self._n_phones

    @property
    def n_frequencies(self) -> int:
        """Return the number of values of a frame."""
        return self.facts.spectrogram.n_frequencies

    def row(self, index: int) -> dict[str, Any]:
        """Return the manifest row of an utterance."""
        row: dict[str, Any] = self._table.slice(int(self._rows[index]), 1).to_pylist()[0]
        return row

    def pcm(self, index: int) -> npt.NDArray[np.int16]:
        """Return the samples (S,) of an utterance."""
        row = self.row(index)
        return self._pcm.read_array(row["pcm_shard"], row["pcm_offset_bytes"], (row["n_samples"],), "int16")

    def load(self, indices: npt.NDArray[np.int64], buffers: BatchBuffers) -> None:
        """Read utterances from the shards into `buffers`; raises TextError for phones that the symbol table lacks."""
        rows, columns = self._rows[indices], self._columns
        text, n_phones = columns.text.gather(rows), columns.text.counts(rows)
        if text.min() < 0:
            self._refuse(indices)
        is_phone = np.arange(n_phones.max()) < n_phones[:, None]
        without_blanks = buffers.ids[:, :, 1::2] if self.add_blank else buffers.ids
        without_blanks[:, is_phone] = text
        buffers.speaker_ids[:] = columns.speaker_ids[rows]
        self._read_bert(rows, is_phone, buffers.bert)
        self._read_sound(rows, buffers)

    def _refuse(self, indices: npt.NDArray[np.int64]) -> None:
        """Raise the TextError of the first phone, tone or language that the symbol table lacks."""
        for row in map(self.row, indices):
            languages = [span["language"] for span in row["bert_spans"] for _ in range(span["n_phones"])][1:-1]
            encode_phones(row["phones"], row["tones"], languages, row["language"], self.symbols, self.add_blank)

    def _read_bert(
        self,
        rows: npt.NDArray[np.int64],
        is_phone: npt.NDArray[np.bool_],
        buffers: Mapping[str, npt.NDArray[np.float16]],
    ) -> None:
        phone_tokens, spans = self._columns.phone_tokens.gather(rows), self._columns.spans.gather(rows)
        language_ids, n_phones, _, _, n_tokens = spans
        for language, plane in buffers.items():
            own_tokens = np.where(language_ids == self.symbols.language_id(language), n_tokens, 0)
            features = np.empty((1 + own_tokens.sum(), plane.shape[2]), dtype=np.float16)
            features[0] = 0
            end = 1
            for _, _, shard, offset_bytes, count in spans[:, own_tokens > 0].T.tolist():
                start, end = end, end + count
                self._bert.read_into(features[start:end], shard, offset_bytes)
            places = np.zeros(is_phone.shape, dtype=np.int64)
            places[is_phone] = token_rows(phone_tokens, n_phones, own_tokens)
            expand_to_phones(features, places, self.add_blank, plane)

    def _read_sound(self, rows: npt.NDArray[np.int64], buffers: BatchBuffers) -> None:
        places = self._columns.sound[:, rows].T.tolist()
        for pcm, linear, (pcm_shard, pcm_offset, n_samples, shard, offset, n_frames) in zip(
            buffers.pcm, buffers.linear, places, strict=True
        ):
            if self.facts.spectrogram_cached:
                self._pcm.read_into(pcm[:n_samples], pcm_shard, pcm_offset)
                pcm[n_samples:] = 0
                self._spectrogram.read_into(linear[:n_frames], shard, offset)
            else:
                # All samples: the last frames reach beyond the last whole hop.
                samples = self._pcm.read_array(pcm_shard, pcm_offset, (n_samples,), "int16")
                fill_samples(pcm, samples)
                half_spectrogram(samples, self.facts.spectrogram, linear[:n_frames])
            linear[n_frames:] = 0
