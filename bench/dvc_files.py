"""Do shards make DVC itself cheaper than three files a clip?

CPU time of `dvc add`, `checkout` and `status` in repositories of their own, with links to the cache. The reference has
a WAV, a float32 spectrogram and float32 features on phones for every clip, as the original does; ours are the shards
that the data stages write: PCM, spectrograms in fp16 and features in fp16 on tokens. Both hold several takes of each
clip, whose samples are rotated. Features are random numbers, one vector a token, as DVC only looks at bytes. DVC's own
start is most of the cost of our status, so that the ratio grows with the corpus.
"""

from __future__ import annotations

import shutil
import statistics
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
from scipy.io import wavfile

from bench.harness.common import Result, cut_in_blocks
from bench.harness.corpora import TokenFeatures, load_tensor, prepare, write_per_file
from bench.harness.encoder import ENCODER
from bench.harness.project_clone import Cost, ProjectClone
from bench.harness.shard_files import write_named_shards
from bench.harness.speech import CORPUS_RATE_HZ, Clip
from model.audio.settings import SpectrogramSettings
from model.bert.encoder import load_tokenizer

SETTINGS = SpectrogramSettings(
    CORPUS_RATE_HZ, n_fft=1024, hop_samples=256, win_samples=1024, n_mels=80, mel_fmin_hz=0.0, mel_fmax_hz=None
)
TAKES = 4  # of each clip, for about 13,000: the size of common corpora of one speaker
BLOCK_TAKES = 500  # in memory at a time
N_CHANNELS = 384
OPERATIONS = ("add", "checkout", "status")
START = "start"  # of a dvc command that does nothing, part of every operation
ROUNDS = 3
TARGET = 2.5


def takes(clips: Sequence[Clip]) -> list[Clip]:
    """Return every take of the clips: no two are equal."""
    return [Clip(f"{clip.name}-{take}", clip.text, np.roll(clip.pcm, take)) for clip in clips for take in range(TAKES)]


def made_up_features(rng: np.random.Generator, texts: Sequence[str]) -> list[TokenFeatures]:
    """Return random features for the tokens of texts."""
    return [
        TokenFeatures(tokens.offsets, rng.standard_normal((len(tokens.ids), N_CHANNELS), np.float32).astype(np.float16))
        for tokens in load_tokenizer(ENCODER)(texts)
    ]


def write_both(clips: Sequence[Clip], per_file: Path, sharded: Path) -> None:
    """Write every take to three files, a folder for each block of them, and to shards, a folder for each kind."""
    per_file.mkdir()
    encode = partial(made_up_features, np.random.default_rng(0))
    wavs, features = {}, {}
    for number, block in enumerate(cut_in_blocks(takes(clips), BLOCK_TAKES)):
        utterances, folder = prepare(block, SETTINGS, encode), per_file / f"{number:02d}"
        write_per_file(utterances, folder, SETTINGS)
        wavs.update({utterance.name: folder / f"{utterance.name}.wav" for utterance in utterances})
        features.update({utterance.name: utterance.features.tobytes() for utterance in utterances})
    write_named_shards(sharded / "resample", wavs, lambda name: wavfile.read(wavs[name])[1].tobytes())
    write_named_shards(
        sharded / "spectrogram", wavs, lambda name: _stored_spectrogram(wavs[name].with_suffix(".spec.pt"))
    )
    write_named_shards(sharded / "bert", wavs, features.__getitem__)


def _stored_spectrogram(path: Path) -> bytes:
    return load_tensor(path).t().contiguous().to(torch.float16).numpy().tobytes()


def operations(repository: ProjectClone) -> Iterator[tuple[str, Cost]]:
    """Yield the cost of DVC's start, of `dvc add data` with an empty cache, of its checkout and of its status."""
    root = repository.root
    yield START, repository.run("dvc", "config", "cache.type")
    yield "add", repository.run("dvc", "add", "-q", "data")
    shutil.rmtree(root / "data")
    yield "checkout", repository.run("dvc", "checkout", "-q")
    yield "status", repository.run("dvc", "status", "-q")
    shutil.rmtree(root / "data")
    shutil.rmtree(root / ".dvc" / "cache")
    (root / "data.dvc").unlink()


def run(clips: Sequence[Clip], scratch: Path) -> list[Result]:
    """Measure the three operations together; the ratio is that of the operation with the smallest gain."""
    sides = {name: ProjectClone(scratch / name) for name in ("ours", "reference")}
    originals = {name: scratch / f"{name}-data" for name in sides}
    write_both(clips, originals["reference"], originals["ours"])
    for repository in sides.values():
        repository.root.mkdir()
        repository.run("dvc", "init", "-q", "--no-scm")
        repository.run("dvc", "config", "cache.type", "reflink,hardlink,copy")
    costs: dict[tuple[str, str], list[Cost]] = {
        (side, operation): [] for side in sides for operation in (START, *OPERATIONS)
    }
    for _ in range(ROUNDS):
        for side, repository in sides.items():
            # Without modification times: DVC recognises hashed files by time and inode.
            shutil.copytree(originals[side], repository.root / "data", copy_function=shutil.copyfile)
            for operation, cost in operations(repository):
                costs[side, operation].append(cost)
    cpu = {key: statistics.median(cost.cpu_seconds for cost in found) for key, found in costs.items()}
    wall = {key: statistics.median(cost.wall_seconds for cost in found) for key, found in costs.items()}
    ratios = {operation: cpu["reference", operation] / cpu["ours", operation] for operation in OPERATIONS}
    listed = "; ".join(
        f"{operation} {ratios[operation]:.2f} × CPU ({cpu['ours', operation]:.1f} and "
        f"{cpu['reference', operation]:.1f} s), "
        f"{wall['reference', operation] / wall['ours', operation]:.2f} × wall"
        for operation in OPERATIONS
    )
    sizes = {
        side: [path.stat().st_size for path in folder.rglob("*") if path.is_file()]
        for side, folder in originals.items()
    }
    note = (
        f"{TAKES} takes of {len(clips)} clips: {sum(sizes['ours']) / 1e6:.0f} MB in {len(sizes['ours'])} shards and "
        f"{sum(sizes['reference']) / 1e6:.0f} MB in {len(sizes['reference'])} files: {listed}; "
        f"{cpu['ours', START]:.1f} s of each is DVC's own start"
    )
    return [
        Result(
            name="dvc_files",
            ours=sum(cpu["ours", operation] for operation in OPERATIONS),
            reference=sum(cpu["reference", operation] for operation in OPERATIONS),
            ratio=min(ratios.values()),
            target=TARGET,
            unit="CPU s",
            rounds=ROUNDS,
            note=note,
        )
    ]
