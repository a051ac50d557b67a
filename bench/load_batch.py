"""Cached spectrograms or computed ones: what does a training batch cost either way?

CPU time of batches of 24 real clips at 44.1 kHz, 2048/512, warm, up to what the loader hands to the device:
spectrograms read from shards (`load_batch`) and computed from PCM (`load_batch_on_the_fly`), both beside a loader that
opens a WAV and two cached tensors for each utterance; and the disk space that the cache takes (`spectrogram_bytes`).
The limit is a bare read of the batch's PCM and cached spectrograms into allocated memory.
"""

from __future__ import annotations

import copy
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from scipy.io import wavfile
from torch import Tensor

from bench.harness.common import (
    LIMIT,
    OURS,
    REFERENCE,
    Result,
    Timings,
    cost_result,
    cut_in_blocks,
    interleave_blocks,
    use_one_thread,
)
from bench.harness.corpora import (
    PerFileCorpus,
    TokenFeatures,
    load_tensor,
    prepare,
    write_per_file,
    write_sharded,
)
from bench.harness.encoder import ENCODER
from bench.harness.speech import CORPUS_RATE_HZ, Clip
from model.audio.settings import SpectrogramSettings
from model.bert.encoder import BertEncoder, load_tokenizer
from model.text.symbols import SymbolTable
from model.training.dataset import BatchDataset
from model.training.sampler import BatchSampler

SETTINGS = SpectrogramSettings(sample_rate_hz=44100, n_fft=2048, hop_samples=512, win_samples=2048, n_mels=128)
BATCH_SIZE, MAX_BATCH_FRAMES = 24, 24_000
BLOCK_CLIPS = 20 * BATCH_SIZE
LOAD_BATCH_TARGET, BYTES_TARGET = 10.0, 2.0
COMPUTED, WIDENED = "computed", "widened"
CPU = torch.device("cpu")
SLOTS_BETWEEN_BLANKS = 2  # every phone is followed by a blank


class PerFileLoader:
    """Batches the usual way: a list of text lines, and three files opened, read and parsed for each utterance."""

    def __init__(self, corpus: PerFileCorpus) -> None:
        self.rows = [line.split("|") for line in corpus.lines]
        table = SymbolTable()
        self._symbol_ids = {symbol: index for index, symbol in enumerate(table.symbols)}
        self._tone_starts = {language: ids[0] for language, ids in table.tones.items()}
        self._language_ids = {language: index for index, language in enumerate(table.languages)}

    def item(self, index: int) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
        """Return phone, tone and language ids (P,), BERT features (C, P), spectrogram (F, T) and waveform (S,) of an
        utterance.
        """
        path, _, language, _, phones, tones, word2ph = self.rows[index]
        symbol_ids = [self._symbol_ids[phone] for phone in phones.split(" ")]
        tone_ids = [int(tone) + self._tone_starts[language] for tone in tones.split(" ")]
        language_ids = [self._language_ids[language]] * len(symbol_ids)
        phone_row, tone_row, language_row = (
            torch.LongTensor(self._with_blanks(ids)) for ids in (symbol_ids, tone_ids, language_ids)
        )
        counts = [SLOTS_BETWEEN_BLANKS * int(count) for count in word2ph.split(" ")]
        counts[0] += 1
        bert = load_tensor(Path(path).with_suffix(".bert.pt"))
        if bert.shape[1] != sum(counts):
            raise ValueError(f"{path}: features for {bert.shape[1]} phones, text has {sum(counts)}")
        _, samples = wavfile.read(path)
        waveform = torch.FloatTensor(samples.astype(np.float32)) / 32768.0
        spectrogram = load_tensor(Path(path).with_suffix(".spec.pt"))
        return phone_row, tone_row, language_row, bert, spectrogram, waveform

    def batch(self, indices: Sequence[int]) -> dict[str, Tensor]:
        """Return zero tensors of the batch's largest sizes, filled row by row in the order of decreasing length."""
        items = [self.item(index) for index in indices]
        order = sorted(range(len(items)), key=lambda row: -items[row][4].shape[1])
        n_phones, n_frames, n_samples = (max(item[part].shape[-1] for item in items) for part in (0, 4, 5))
        ids = [torch.zeros(len(items), n_phones, dtype=torch.long) for _ in range(3)]
        bert = torch.zeros(len(items), items[0][3].shape[0], n_phones)
        linear = torch.zeros(len(items), items[0][4].shape[0], n_frames)
        waveform = torch.zeros(len(items), n_samples)
        for row, source in enumerate(order):
            item = items[source]
            for plane in range(3):
                ids[plane][row, : len(item[plane])] = item[plane]
            bert[row, :, : item[3].shape[1]] = item[3]
            linear[row, :, : item[4].shape[1]] = item[4]
            waveform[row, : len(item[5])] = item[5]
        return {
            "indices": torch.tensor([indices[row] for row in order]),
            "phone_ids": ids[0],
            "tone_ids": ids[1],
            "language_ids": ids[2],
            "phone_lengths": torch.tensor([len(items[row][0]) for row in order]),
            "bert": bert,
            "linear": linear,
            "frame_lengths": torch.tensor([items[row][4].shape[1] for row in order]),
            "waveform": waveform,
        }

    @staticmethod
    def _with_blanks(ids: Sequence[int]) -> list[int]:
        spaced = [0] * (2 * len(ids) + 1)
        spaced[1::2] = ids
        return spaced


def encode_with_bert(texts: Sequence[str]) -> list[TokenFeatures]:
    """Return features of the default English encoder."""
    encoder = BertEncoder(ENCODER)
    return [TokenFeatures(tokens.offsets, encoder.encode([tokens.ids])[0]) for tokens in load_tokenizer(ENCODER)(texts)]


class LoaderBlock:
    """Both loaders over the same clips, and an epoch's batches."""

    def __init__(self, clips: Sequence[Clip], folder: Path) -> None:
        utterances = prepare(clips, SETTINGS, encode_with_bert)
        source = write_sharded(utterances, folder / "shards", SETTINGS, cached=True)
        computing = copy.copy(source)
        computing.facts = replace(source.facts, spectrogram_cached=False)
        self.loader = PerFileLoader(write_per_file(utterances, folder / "files", SETTINGS))
        self.n_frames = source.n_frames
        self.batches = list(BatchSampler(source.n_frames, BATCH_SIZE, MAX_BATCH_FRAMES, seed=0).epoch(0))
        self.cached, self.computed = (
            BatchDataset(each, self.batches, each.facts.bert_channels, SETTINGS.hop_samples)
            for each in (source, computing)
        )
        self.n_batches = len(utterances) / BATCH_SIZE
        self.cache_bytes = _bytes(folder / "shards" / "spectrogram" / "shards", "*")
        self.reference_cache_bytes = _bytes(folder / "files", "*.spec.pt")
        self._buffer = memoryview(bytearray(max(map(self._read_bytes, self.batches))))
        path = folder / "limit.bin"
        path.write_bytes(bytes(self._buffer))
        self._descriptor = os.open(path, os.O_RDONLY)

    def ours(self, *, cached: bool, widened: bool) -> None:
        """Load every batch and free it before the next."""
        dataset = self.cached if cached else self.computed
        for position in range(len(dataset)):
            if widened:
                dataset[position].to(CPU)
            else:
                dataset[position]  # a variable would keep it until the next is loaded

    def reference(self) -> None:
        """Load every batch from files."""
        for batch in self.batches:
            self.loader.batch(batch)

    def limit(self) -> None:
        """Read as many bytes as every batch's PCM and spectrograms have into allocated memory."""
        for batch in self.batches:
            os.preadv(self._descriptor, [self._buffer[: self._read_bytes(batch)]], 0)

    def _read_bytes(self, batch: Sequence[int]) -> int:
        return int(self.n_frames[batch].sum()) * 2 * (SETTINGS.n_frequencies + SETTINGS.hop_samples)


def _loader_blocks(blocks: Sequence[Sequence[Clip]], folder: Path) -> Iterator[LoaderBlock]:
    for block in blocks:
        with tempfile.TemporaryDirectory(dir=folder) as own:
            yield LoaderBlock(block, Path(own))


def _bytes(folder: Path, pattern: str) -> int:
    return sum(path.stat().st_size for path in folder.rglob(pattern) if path.is_file())


def run(clips: Sequence[Clip], scratch: Path) -> list[Result]:
    """Compare batches of cached and of computed spectrograms with the usual loader's, and their disk space."""
    use_one_thread()
    cut = cut_in_blocks(clips, BLOCK_CLIPS)
    n_bytes, n_reference_bytes = 0, 0

    def counted() -> Iterator[LoaderBlock]:
        nonlocal n_bytes, n_reference_bytes
        for block in _loader_blocks(cut, scratch):
            n_bytes += block.cache_bytes
            n_reference_bytes += block.reference_cache_bytes
            yield block

    sides: dict[str, Callable[[LoaderBlock], object]] = {
        OURS: partial(LoaderBlock.ours, cached=True, widened=False),
        WIDENED: partial(LoaderBlock.ours, cached=True, widened=True),
        COMPUTED: partial(LoaderBlock.ours, cached=False, widened=False),
        REFERENCE: LoaderBlock.reference,
        LIMIT: LoaderBlock.limit,
    }
    timings = interleave_blocks(sides, counted(), len(cut), lambda block: block.n_batches)
    return [*_batch_results(timings, clips), _bytes_result(n_bytes, n_reference_bytes, clips)]


def _batch_results(timings: Timings, clips: Sequence[Clip]) -> list[Result]:
    medians = timings.medians
    seconds = sum(len(clip.pcm) for clip in clips) / CORPUS_RATE_HZ / len(clips)
    widened = f"{1e3 * medians[WIDENED]:.1f} ms, {medians[REFERENCE] / medians[WIDENED]:.1f} ×"
    note = f"{len(clips)} clips of {seconds:.1f} s on average; the reference reads cached spectrograms"
    unit = f"ms a batch of {BATCH_SIZE}"
    computed = Timings({**medians, OURS: medians[COMPUTED]}, timings.rounds)
    return [
        cost_result(
            "load_batch",
            timings,
            unit=unit,
            unit_seconds=1e-3,
            target=LOAD_BATCH_TARGET,
            note=f"{note}; widened to float32 on this CPU, as the reference's are: {widened}",
        ),
        cost_result("load_batch_on_the_fly", computed, unit=unit, unit_seconds=1e-3, note=note),
    ]


def _bytes_result(n_bytes: int, n_reference_bytes: int, clips: Sequence[Clip]) -> Result:
    hours = sum(len(clip.pcm) for clip in clips) / CORPUS_RATE_HZ / 3600
    pcm_bytes = 2 * SETTINGS.sample_rate_hz * 3600
    return Result(
        name="spectrogram_bytes",
        ours=n_bytes / hours / 1e6,
        reference=n_reference_bytes / hours / 1e6,
        ratio=n_reference_bytes / n_bytes,
        target=BYTES_TARGET,
        unit="MB an hour",
        note=f"{n_bytes / len(clips) / 1e6:.2f} MB a clip; PCM, which training reads either way: "
        f"{pcm_bytes / 1e6:.0f} MB an hour",
    )
