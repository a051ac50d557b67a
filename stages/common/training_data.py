"""Utterances for training and evaluation, read from the split manifest and the stages' shards."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from model.dataset import Utterance
from model.spectrogram import SpectrogramSettings, linear_spectrogram
from model.text.alignment import with_blanks
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


def read_split(folder: Path) -> tuple[pa.Table, CorpusFacts]:
    """Return the split manifest and the facts about the corpus; speakers are numbered in alphabetical order."""
    table = manifests.read_manifest(folder / "split.parquet", manifests.SPLIT)
    facts = manifests.metadata_of(table)
    sizes: dict[str, int] = {}
    for language, size in zip(table.column("language").to_pylist(), table.column("n_bert_channels").to_pylist(), strict=True):
        if size and sizes.setdefault(language, size) != size:
            raise StageError(None, folder / "split.parquet", f"{language} has BERT features of {sizes[language]} and {size} channels")
    return table, CorpusFacts(
        spectrogram=SpectrogramSettings(**facts["spectrogram"]["settings"]),
        spectrogram_cached=facts["spectrogram"]["source"] == "cache",
        bert_channels=sizes, encoders=facts["bert"]["encoders"],
        speakers=tuple(sorted(set(table.column("speaker").to_pylist()))), source_note=facts["corpus"]["source_note"],
    )  # fmt: skip


class ManifestSource:
    """Random access to the utterances of one subset; satisfies `model.dataset.UtteranceSource`."""

    def __init__(
        self, folders: DataFolders, table: pa.Table, facts: CorpusFacts, subset: str, symbols: SymbolTable, add_blank: bool
    ) -> None:
        self.table = table.filter(pc.equal(table.column("subset"), subset)).combine_chunks()
        self.facts = facts
        self.symbols = symbols
        self.add_blank = add_blank
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

    def load(self, index: int) -> Utterance:
        """Read one utterance from the shards."""
        row = self.row(index)
        text = encode_phones(row["phones"], row["tones"], row["language"], self.symbols, self.add_blank)
        pcm = self._pcm.read_array(row["pcm_shard"], row["pcm_offset_bytes"], (row["n_samples"],), "int16")
        features, bert_index = self._bert_features(row)
        return Utterance(
            phone_ids=np.array(text.phone_ids), tone_ids=np.array(text.tone_ids), language_ids=np.array(text.language_ids),
            bert_language=row["language"], bert_features=features, bert_index=bert_index, linear=self._linear(row, pcm),
            pcm=pcm, speaker_id=self._speaker_ids[row["speaker"]],
        )  # fmt: skip

    def _linear(self, row: Mapping[str, Any], pcm: npt.NDArray[np.int16]) -> npt.NDArray[np.float16]:
        settings = self.facts.spectrogram
        if self.facts.spectrogram_cached:
            shape = (row["n_frames"], settings.n_frequencies)
            return self._spectrogram.read_array(row["spectrogram_shard"], row["spectrogram_offset_bytes"], shape, "float16")
        return linear_spectrogram(pcm, settings).astype(np.float16)  # rounded as the cache is: the same numbers

    def _bert_features(self, row: Mapping[str, Any]) -> tuple[npt.NDArray[np.float16] | None, npt.NDArray[np.int64]]:
        if not row["n_tokens"]:
            return None, np.zeros(0, dtype=np.int64)
        shape = (row["n_tokens"], row["n_bert_channels"])
        index: Sequence[int] = with_blanks(row["phone_tokens"]) if self.add_blank else row["phone_tokens"]
        return self._bert.read_array(row["bert_shard"], row["bert_offset_bytes"], shape, "float16"), np.array(index, dtype=np.int64)
