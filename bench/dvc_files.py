"""What DVC itself costs: add, checkout and status of a corpus in our shards, and of the same bytes in three files a clip.

The usual layout keeps the waveform, its spectrogram and its text's features of each utterance in files of their own. Here both
sides hold two takes of each clip, a byte apart: its PCM, its magnitudes in fp16 and, for features, as many bytes as 384 channels of
a token every four letters take. DVC looks at bytes, not at what they mean. Both run real `dvc` programs in repositories of their own,
with links to the cache.
"""

from __future__ import annotations

import shutil
import statistics
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from bench.common import Result
from bench.project_clone import Cost, ProjectClone
from bench.shard_files import write_named_shards
from bench.speech import CORPUS_RATE_HZ, Clip
from model.spectrogram import SpectrogramSettings, half_spectrogram

SETTINGS = SpectrogramSettings(CORPUS_RATE_HZ, n_fft=1024, hop_samples=256, win_samples=1024, n_mels=80, mel_fmin_hz=0.0, mel_fmax_hz=None)
KINDS = ("wav", "spec", "bert")
TAKES = 2  # of each clip, so that there are as many files as a corpus of a few hours has
LETTERS_PER_TOKEN, BYTES_PER_TOKEN = 4, 768
OPERATIONS = ("add", "checkout", "status")
START = "start"  # of a dvc program that has nothing to do, which all of them pay
ROUNDS = 3
TARGET = 2.5


def pieces(clip: Clip) -> dict[str, bytes]:
    """Return the bytes of each kind that are kept of a clip."""
    magnitudes = half_spectrogram(clip.pcm, SETTINGS).tobytes()
    n_tokens = 2 + len(clip.text) // LETTERS_PER_TOKEN
    features = np.resize(np.frombuffer(magnitudes, np.uint8), n_tokens * BYTES_PER_TOKEN).tobytes()
    return {"wav": clip.pcm.tobytes(), "spec": magnitudes, "bert": features}


def write_both(clips: Sequence[Clip], per_file: Path, sharded: Path) -> None:
    """Write the pieces of every take to files of their own, and the same bytes to shards, a folder for each kind."""
    names = []
    for clip in clips:
        kept = pieces(clip)
        for take in range(TAKES):
            names.append(f"{clip.name}-{take}")
            for kind, content in kept.items():
                path = per_file / f"{names[-1]}.{kind}"
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content + bytes([take]))
    for kind in KINDS:
        write_named_shards(sharded / kind, names, lambda name, kind=kind: (per_file / f"{name}.{kind}").read_bytes())


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
    size = sum(path.stat().st_size for path in originals["ours"].rglob("*.bin"))
    n_files = {side: sum(path.is_file() for path in folder.rglob("*")) for side, folder in originals.items()}
    layouts = f"{size / 1e6:.0f} MB in {n_files['ours']} shards and in {n_files['reference']} files"
    note = f"{layouts}: {listed}; {cpu['ours', START]:.1f} s of each is DVC's own start"
    return Result(name="dvc_files", ours=sum(cpu["ours", operation] for operation in OPERATIONS),
                  reference=sum(cpu["reference", operation] for operation in OPERATIONS), ratio=min(ratios.values()), limit_share=None,
                  target=TARGET, unit="CPU s", rounds=ROUNDS, note=note)  # fmt: skip
