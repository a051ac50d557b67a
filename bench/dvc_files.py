"""What DVC itself costs: add, checkout and status of what the stages keep of a corpus, and of what is kept the usual way.

The usual way keeps a WAV, its float32 spectrogram and its text's float32 features on every phone and blank beside it, each in a file of
its own as `torch.save` writes it. The stages keep shards of PCM, fp16 spectrograms and fp16 features of tokens. Both sides hold two
takes of each clip, a byte apart; features are made up, of the right size. Both run real `dvc` programs in repositories of their own,
with links to the cache.
"""

from __future__ import annotations

import io
import shutil
import statistics
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from bench.common import Result
from bench.project_clone import Cost, ProjectClone
from bench.shard_files import write_named_shards
from bench.speech import CORPUS_RATE_HZ, Clip
from model.spectrogram import SpectrogramSettings, half_spectrogram

SETTINGS = SpectrogramSettings(CORPUS_RATE_HZ, n_fft=1024, hop_samples=256, win_samples=1024, n_mels=80, mel_fmin_hz=0.0, mel_fmax_hz=None)
KINDS = ("wav", "spec", "bert")
TAKES = 2  # of each clip, so that there are as many files as a corpus of a few hours has
FEATURES = 384  # of a token
LETTERS_PER_TOKEN = 4
SLOTS_PER_LETTER = 2  # nearly every letter is a phone, and every phone is followed by a blank
OPERATIONS = ("add", "checkout", "status")
START = "start"  # of a dvc program that has nothing to do, which all of them pay
ROUNDS = 3
TARGET = 2.5


def stored(clip: Clip) -> dict[str, npt.NDArray[Any]]:
    """Return what the stages keep of a clip, of each kind."""
    magnitudes = half_spectrogram(clip.pcm, SETTINGS)
    n_tokens = 2 + len(clip.text) // LETTERS_PER_TOKEN
    return {"wav": clip.pcm, "spec": magnitudes, "bert": np.resize(magnitudes, (n_tokens, FEATURES))}


def usual(kept: Mapping[str, npt.NDArray[Any]], n_letters: int) -> dict[str, bytes]:
    """Return what the usual way's files of the same clip hold: more, since both caches are wider and features lie on every slot."""
    slots = np.linspace(0, len(kept["bert"]) - 1, SLOTS_PER_LETTER * n_letters + 1).astype(int)
    tensors = {"spec": kept["spec"].T, "bert": kept["bert"][slots].T}
    files = {"wav": kept["wav"].tobytes()}
    for kind, values in tensors.items():
        stream = io.BytesIO()
        torch.save(torch.from_numpy(np.ascontiguousarray(values, dtype=np.float32)), stream)
        files[kind] = stream.getvalue()
    return files


def write_both(clips: Sequence[Clip], per_file: Path, sharded: Path) -> None:
    """Write every take of the clips both ways; ours in shards, a folder for each kind."""
    rows: dict[str, dict[str, bytes]] = {kind: {} for kind in KINDS}
    for clip in clips:
        kept = stored(clip)
        files = usual(kept, len(clip.text))
        for take in range(TAKES):
            name = f"{clip.name}-{take}"
            for kind in KINDS:
                rows[kind][name] = kept[kind].tobytes() + bytes([take])
                path = per_file / f"{name}.{kind}"
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(files[kind] + bytes([take]))
    for kind, own in rows.items():
        write_named_shards(sharded / kind, own, own.__getitem__)


def operations(repository: ProjectClone) -> Iterator[tuple[str, Cost]]:
    """Yield the cost of DVC's start, of adding the folder `data` to an empty cache, of its checkout where it is missing, and of its status."""
    root = repository.root
    shutil.rmtree(root / ".dvc" / "cache", ignore_errors=True)
    (root / "data.dvc").unlink(missing_ok=True)
    yield START, repository.run("dvc", "config", "cache.type")
    yield "add", repository.run("dvc", "add", "-q", "data")
    shutil.rmtree(root / "data")
    yield "checkout", repository.run("dvc", "checkout", "-q")
    yield "status", repository.run("dvc", "status", "-q")
    shutil.rmtree(root / "data")


def dvc_files(clips: list[Clip], scratch: Path) -> Result:
    """CPU seconds of the three operations together; the ratio is that of the one where we gain least."""
    sides = {name: ProjectClone(scratch / name) for name in ("ours", "reference")}
    originals = {name: scratch / f"{name}-data" for name in sides}
    write_both(clips, originals["reference"], originals["ours"])
    for repository in sides.values():
        repository.root.mkdir()
        repository.run("dvc", "init", "-q", "--no-scm")
        repository.run("dvc", "config", "cache.type", "reflink,hardlink,copy")
    costs: dict[tuple[str, str], list[Cost]] = {(side, operation): [] for side in sides for operation in (START, *OPERATIONS)}
    for _ in range(ROUNDS):
        for side, repository in sides.items():
            shutil.copytree(originals[side], repository.root / "data")  # new inodes: DVC has hashed none of them before
            for operation, cost in operations(repository):
                costs[side, operation].append(cost)
    cpu = {key: statistics.median(cost.cpu_seconds for cost in found) for key, found in costs.items()}
    wall = {key: statistics.median(cost.wall_seconds for cost in found) for key, found in costs.items()}
    ratios = {operation: cpu["reference", operation] / cpu["ours", operation] for operation in OPERATIONS}
    listed = "; ".join(
        f"{operation} {ratios[operation]:.2f} × CPU ({cpu['ours', operation]:.1f} and {cpu['reference', operation]:.1f} s), "
        f"{wall['reference', operation] / wall['ours', operation]:.2f} × wall" for operation in OPERATIONS
    )  # fmt: skip
    sizes = {side: [path.stat().st_size for path in folder.rglob("*") if path.is_file()] for side, folder in originals.items()}
    layouts = " and ".join(f"{sum(found) / 1e6:.0f} MB in {len(found)} {'shards' if side == 'ours' else 'files'}" for side, found in sizes.items())
    note = f"{layouts}: {listed}; {cpu['ours', START]:.1f} s of each is DVC's own start"
    return Result(name="dvc_files", ours=sum(cpu["ours", operation] for operation in OPERATIONS),
                  reference=sum(cpu["reference", operation] for operation in OPERATIONS), ratio=min(ratios.values()), limit_share=None,
                  target=TARGET, unit="CPU s", rounds=ROUNDS, note=note)  # fmt: skip
