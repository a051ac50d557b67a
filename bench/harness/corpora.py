"""A training corpus in two layouts: our shards with a manifest, and a file per utterance and kind with a text list."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import soundfile
import torch
from torch import Tensor

from bench.harness.shard_files import write_named_shards
from bench.harness.speech import Clip
from model.audio.settings import SpectrogramSettings
from model.audio.spectrogram import linear_spectrogram
from model.bert.spans import phones_to_tokens
from model.text.errors import TextError
from model.text.registry import get_front_end
from model.text.symbols import PAD, SymbolTable
from stages.common import manifests
from stages.train.manifest_source import CorpusFacts, DataFolders, ManifestSource

LANGUAGE = "EN"
SPEAKER = "speaker"
SUBSET = "train"


@dataclass(frozen=True)
class TokenFeatures:
    """A text's word pieces: character spans, and features (tokens, C) fp16."""

    offsets: Sequence[tuple[int, int]]
    values: npt.NDArray[np.float16]


Encode = Callable[[Sequence[str]], Sequence[TokenFeatures]]


@dataclass(frozen=True)
class Utterance:
    """The content of one utterance in both layouts."""

    name: str
    text: str
    pcm: npt.NDArray[np.int16]
    linear: npt.NDArray[np.float32]
    phones: tuple[str, ...]
    tones: tuple[int, ...]
    word2ph: tuple[int, ...]
    phone_tokens: list[int]
    features: npt.NDArray[np.float16]


@dataclass(frozen=True)
class PerFileCorpus:
    """A list of `wav|speaker|language|text|phones|tones|word2ph` lines; each wav has `.spec.pt` and `.bert.pt` beside
    it.
    """

    lines: list[str]

    @property
    def spectrogram_paths(self) -> list[Path]:
        """Return the paths of the cached spectrograms."""
        return [Path(line.split("|")[0]).with_suffix(".spec.pt") for line in self.lines]


def load_tensor(path: Path) -> Tensor:
    """Return a cached tensor, read as the usual loader does."""
    tensor: Tensor = torch.load(path, weights_only=False)
    return tensor


def prepare(clips: Sequence[Clip], settings: SpectrogramSettings, encode: Encode) -> list[Utterance]:
    """Return what the data stages compute of clips, in the order in which a manifest lists them."""
    front_end = get_front_end(LANGUAGE)
    ordered, texts = [], []
    for clip in sorted(clips, key=lambda clip: clip.name):
        with suppress(TextError):  # an unreadable text is a reject
            texts.append(front_end.normalise(clip.text))
            ordered.append(clip)
    utterances = []
    for clip, text, features in zip(ordered, texts, encode(texts), strict=True):
        sequence = front_end.to_phones(text)
        pcm = clip.at_rate(settings.sample_rate_hz)
        utterances.append(
            Utterance(
                clip.name.replace("/", "-"),
                text,
                pcm,
                linear_spectrogram(pcm, settings),
                sequence.phones,
                sequence.tones,
                sequence.word2ph,
                phones_to_tokens(sequence.word_spans, sequence.word2ph, features.offsets),
                features.values,
            )
        )
    return utterances


def write_sharded(
    utterances: Sequence[Utterance], folder: Path, settings: SpectrogramSettings, *, cached: bool
) -> ManifestSource:
    """Write shards of PCM, spectrograms and features, and return training's source over them."""
    by_name = {utterance.name: utterance for utterance in utterances}
    folders = DataFolders(folder, folder / "resample", folder / "spectrogram", folder / "bert")
    pcm = write_named_shards(folders.resample, by_name, lambda name: by_name[name].pcm.tobytes())
    spectrograms = write_named_shards(
        folders.spectrogram, by_name, lambda name: by_name[name].linear.astype(np.float16).tobytes()
    )
    bert = write_named_shards(folders.bert, by_name, lambda name: by_name[name].features.tobytes())
    rows = [_manifest_row(by_name[name], pcm[name], spectrograms[name], bert[name]) for name in sorted(by_name)]
    facts = CorpusFacts(settings, cached, {LANGUAGE: utterances[0].features.shape[1]}, {}, (SPEAKER,), "")
    return ManifestSource(
        folders, manifests.table_from_rows(rows, manifests.SPLIT), facts, SUBSET, SymbolTable(), add_blank=True
    )


def _manifest_row(
    utterance: Utterance, pcm: tuple[int, int], spectrogram: tuple[int, int], bert: tuple[int, int]
) -> dict[str, Any]:
    return {
        "utterance_id": utterance.name,
        "subset": SUBSET,
        "speaker": SPEAKER,
        "language": LANGUAGE,
        "synthetic": False,
        "text": utterance.text,
        "phones": utterance.phones,
        "tones": utterance.tones,
        "pcm_shard": pcm[0],
        "pcm_offset_bytes": pcm[1],
        "n_samples": len(utterance.pcm),
        "spectrogram_shard": spectrogram[0],
        "spectrogram_offset_bytes": spectrogram[1],
        "n_frames": len(utterance.linear),
        "phone_tokens": utterance.phone_tokens,
        "bert_spans": [
            {
                "language": LANGUAGE,
                "n_phones": len(utterance.phone_tokens),
                "shard": bert[0],
                "offset_bytes": bert[1],
                "n_tokens": utterance.features.shape[0],
                "n_channels": utterance.features.shape[1],
            }
        ],
    }


def write_per_file(utterances: Sequence[Utterance], folder: Path, settings: SpectrogramSettings) -> PerFileCorpus:
    """Write a WAV, a float32 spectrogram (F, T) and float32 features (C, P) for every utterance."""
    folder.mkdir()
    lines = []
    for utterance in utterances:
        path = folder / f"{utterance.name}.wav"
        soundfile.write(path, utterance.pcm, settings.sample_rate_hz, subtype="PCM_16")
        torch.save(torch.from_numpy(np.ascontiguousarray(utterance.linear.T)), path.with_suffix(".spec.pt"))
        expanded = utterance.features[with_blanks(utterance.phone_tokens)].astype(np.float32)
        torch.save(torch.from_numpy(np.ascontiguousarray(expanded.T)), path.with_suffix(".bert.pt"))
        phones = " ".join((PAD, *utterance.phones, PAD))
        tones = " ".join(map(str, (0, *utterance.tones, 0)))
        word2ph = " ".join(map(str, (1, *utterance.word2ph, 1)))
        lines.append("|".join((str(path), SPEAKER, LANGUAGE, utterance.text, phones, tones, word2ph)))
    return PerFileCorpus(lines)


def with_blanks(indices: Sequence[int]) -> list[int]:
    """Return token indices for P phones with blanks around each, 2P + 1: a blank belongs to the phone before it, the
    first to the first.
    """
    return [indices[0], *(index for index in indices for _ in range(2))]
