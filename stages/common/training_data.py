"""Utterances for training and evaluation, read from the split manifest and the stages' shards."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from model.bert_pieces import BertPiece, bert_piece
from model.dataset import Utterance
from model.spectrogram import SpectrogramSettings, linear_spectrogram
from model.text.symbols import SymbolTable, encode_phones
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
        speakers=tuple(sorted(set(table.column("speaker").to_pylist()))), source_note=facts["corpus"]["source_note"],
        lexicon=facts["clean_text"]["lexicon"],
    )  # fmt: skip


def _sizes(table: pa.Table) -> set[tuple[str, int]]:
    """Return every (language, channels) that spans with features have."""
    spans = pa.Table.from_struct_array(pc.list_flatten(table.column("bert_spans")))
    pairs = spans.group_by(["language", "n_channels"]).aggregate([]).to_pylist()
    return {(pair["language"], pair["n_channels"]) for pair in pairs if pair["n_channels"]}


class ManifestSource:
    """Random access to the utterances of one subset; satisfies `model.dataset.UtteranceSource`."""

    def __init__(
        self, folders: DataFolders, table: pa.Table, facts: CorpusFacts, subset: str, symbols: SymbolTable, add_blank: bool
    ) -> None:
        self.table = table.filter(pc.equal(table.column("subset"), subset)).combine_chunks()
        self.facts = facts
        self.symbols = symbols
        self.add_blank = add_blank
        self.pitch: Sequence[npt.NDArray[np.float32]] | None = None  # of every utterance (2, T), for models that read it
        self._speaker_ids = {name: index for index, name in enumerate(facts.speakers)}
        self._pcm = ShardReader(folders.resample)
        self._spectrogram = ShardReader(folders.spectrogram)
        self._bert = ShardReader(folders.bert)

    def __len__(self) -> int:
        return int(self.table.num_rows)

    @property
    def n_frames(self) -> npt.NDArray[np.int64]:
        """Frames per utterance (N,)."""
        return self.table.column("n_frames").to_numpy().astype(np.int64)

    def row(self, index: int) -> dict[str, Any]:
        """Return the manifest row of an utterance."""
        return {name: self.table.column(name)[index].as_py() for name in self.table.schema.names}

    def pcm(self, index: int) -> npt.NDArray[np.int16]:
        """Read the samples (S,) of one utterance."""
        return self._samples(self.row(index))

    def load(self, index: int) -> Utterance:
        """Read one utterance from the shards."""
        row = self.row(index)
        # Each phone's language is its span's; the pads at both ends belong to spans but are of the utterance's language.
        languages = [span["language"] for span in row["bert_spans"] for _ in range(span["n_phones"])][1:-1]
        text = encode_phones(row["phones"], row["tones"], languages, row["language"], self.symbols, self.add_blank)
        pcm = self._samples(row)
        return Utterance(
            phone_ids=np.array(text.phone_ids), tone_ids=np.array(text.tone_ids), language_ids=np.array(text.language_ids),
            bert=tuple(self._bert_pieces(row)), linear=self._linear(row, pcm), pcm=pcm, speaker_id=self._speaker_ids[row["speaker"]],
            pitch=None if self.pitch is None else self.pitch[index],
        )  # fmt: skip

    def _samples(self, row: Mapping[str, Any]) -> npt.NDArray[np.int16]:
        return self._pcm.read_array(row["pcm_shard"], row["pcm_offset_bytes"], (row["n_samples"],), "int16")

    def _linear(self, row: Mapping[str, Any], pcm: npt.NDArray[np.int16]) -> npt.NDArray[np.float16]:
        settings = self.facts.spectrogram
        if self.facts.spectrogram_cached:
            shape = (row["n_frames"], settings.n_frequencies)
            return self._spectrogram.read_array(row["spectrogram_shard"], row["spectrogram_offset_bytes"], shape, "float16")
        return linear_spectrogram(pcm, settings).astype(np.float16)  # rounded as the cache is: the same numbers

    def _bert_pieces(self, row: Mapping[str, Any]) -> Iterator[BertPiece]:
        first_phone = 0
        for span in row["bert_spans"]:
            end_phone = first_phone + span["n_phones"]
            if span["n_tokens"]:
                features = self._bert.read_array(span["shard"], span["offset_bytes"], (span["n_tokens"], span["n_channels"]), "float16")
                yield bert_piece(span["language"], first_phone, row["phone_tokens"][first_phone:end_phone], features, self.add_blank)
            first_phone = end_phone
