"""Train stage: from the split corpus to a voice, in one process, several local ranks, or ranks of torchrun."""

from __future__ import annotations

import dataclasses
import datetime
import errno
import hashlib
import logging
import os
import signal
import tempfile
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import multiprocessing

from stages.common.code_graph import code_version
from stages.common.command import MACHINE_ERRORS, configure_logging
from stages.common.errors import PipelineError
from stages.common.files import content_key, output_folder, work_root
from stages.train.loop import TrainingRun
from stages.train.manifest_source import DataFolders
from stages.train.settings import TrainParams, TrainPaths
from stages.train.state import from_first_rank

logger = logging.getLogger(__name__)

# The other ranks wait while rank 0 trains the aligner. If a rank dies, its launcher ends the others.
RANK_TIMEOUT = datetime.timedelta(hours=6)
DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def training_device(local_rank: int) -> torch.device:
    """Return the device VOICE_DEVICE, or else this rank's GPU, or else the CPU."""
    device = os.environ.get("VOICE_DEVICE") or ("cuda" if torch.cuda.is_available() else "cpu")
    if device == "cuda":
        if local_rank >= torch.cuda.device_count():
            raise PipelineError(f"rank {local_rank} has no GPU ({torch.cuda.device_count()} here); lower train.ranks")
        torch.cuda.set_device(local_rank)
        return torch.device("cuda", local_rank)
    return torch.device(device)


def fingerprint(params: TrainParams, data: DataFolders, n_ranks: int) -> dict[str, Any]:
    """Return everything that the trained weights depend on; manifests stand for the shards that they describe.

    The choice of the voice among the kept weights is not part of it: another choice only writes the outputs again.
    """
    settings = dataclasses.asdict(params)
    del settings["voice"]
    manifests = {
        name: hashlib.sha256((folder / f"{name}.parquet").read_bytes()).hexdigest()
        for name, folder in dataclasses.asdict(data).items()
    }
    return {
        "params": settings,
        "data": manifests,
        "code": code_version("stages.train.stage"),
        "torch": torch.__version__,
        "cpu": torch.backends.cpu.get_cpu_capability(),
        "n_ranks": n_ranks,
    }


def _train_rank(
    local_rank: int,
    params: TrainParams,
    paths: TrainPaths,
    lineage: dict[str, Any],
    n_ranks: int,
    rendezvous: str | None,
) -> None:
    """Run one rank; `rendezvous` is the local ranks' rendezvous file, None for a single rank or under torchrun."""
    torch.set_num_threads(params.threads_per_rank)
    device = training_device(local_rank)
    rank = local_rank
    if n_ranks > 1:
        backend = "nccl" if device.type == "cuda" else "gloo"
        if rendezvous is None:
            dist.init_process_group(backend, timeout=RANK_TIMEOUT)
            rank = dist.get_rank()
        else:
            dist.init_process_group(
                backend, init_method=f"file://{rendezvous}", rank=rank, world_size=n_ranks, timeout=RANK_TIMEOUT
            )
    # Nodes with other CPUs would compute another fingerprint.
    paths = dataclasses.replace(paths, work=paths.work.parent / from_first_rank(paths.work.name))
    try:
        TrainingRun(params, paths, lineage, rank=rank, n_ranks=n_ranks, device=device).run()
    except OSError as error:
        if error.errno not in MACHINE_ERRORS:
            raise
        full = error.errno in DISK_FULL
        remedy = "free some space and run again: it resumes from the last saved state"
        raise PipelineError(
            f"{error.filename or paths.work}: {error.strerror}; {remedy if full else MACHINE_ERRORS[error.errno]}"
        ) from None
    finally:
        if dist.is_initialized():
            dist.destroy_process_group()


def main(
    split: Path, resample: Path, spectrogram: Path, bert: Path, voice: Path, report: Path, params: TrainParams
) -> None:
    """Train a voice.

    Reads the split manifest and the shards of resample, spectrogram and bert; writes the voice (safetensors and JSON,
    with kept checkpoints below it) and a report (DVCLive metrics and plots, samples, the table of checkpoints). A
    killed run resumes from its own last saved state. Under `torchrun --nproc-per-node N -m stages.train …` every
    process is a rank.
    """
    under_torchrun = "RANK" in os.environ
    n_ranks = int(os.environ["WORLD_SIZE"]) if under_torchrun else params.ranks
    data = DataFolders(split, resample, spectrogram, bert)
    lineage = fingerprint(params, data, n_ranks)
    work = (work_root() / "train" / content_key(lineage)[:24]).absolute()
    if under_torchrun and os.environ["RANK"] != "0":  # rank 0 alone writes outputs
        _train_rank(
            int(os.environ["LOCAL_RANK"]), params, TrainPaths(data, voice, report, work), lineage, n_ranks, None
        )
        return
    work.mkdir(parents=True, exist_ok=True)
    logger.info("train: resumable state in %s", work)
    with output_folder(voice) as new_voice, output_folder(report) as new_report:
        paths = TrainPaths(data, new_voice, new_report, work)
        if under_torchrun or n_ranks == 1:
            _train_rank(int(os.environ["LOCAL_RANK"]) if under_torchrun else 0, params, paths, lineage, n_ranks, None)
        else:
            _spawn_ranks(params, paths, lineage, n_ranks)


def _spawn_ranks(params: TrainParams, paths: TrainPaths, lineage: dict[str, Any], n_ranks: int) -> None:
    """Run local ranks in separate processes; the first PipelineError of a rank is raised here."""
    with tempfile.TemporaryDirectory(prefix="ranks-") as folder:
        try:
            multiprocessing.spawn(_spawned_rank, (params, paths, lineage, n_ranks, folder), nprocs=n_ranks)
        except (multiprocessing.ProcessExitedException, multiprocessing.ProcessRaisedException):
            message = Path(folder) / "error"
            if message.is_file():
                raise PipelineError(message.read_text(encoding="utf-8")) from None
            raise


def _spawned_rank(
    rank: int, params: TrainParams, paths: TrainPaths, lineage: dict[str, Any], n_ranks: int, folder: str
) -> None:
    # torch has the kernel send SIGINT when the parent dies. In a script's background job SIGINT is ignored, and ranks
    # would survive as orphans.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    configure_logging()
    try:
        _train_rank(rank, params, paths, lineage, n_ranks, str(Path(folder) / "rendezvous"))
    except PipelineError as error:
        (Path(folder) / "error").write_text(str(error), encoding="utf-8")
        raise
