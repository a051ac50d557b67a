"""Devices of the text encoder: those available, and the one that each worker uses."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import version

from model.bert.encoder import cpu_capability
from stages.common.errors import PipelineError
from stages.rows import machine_settings
from stages.rows.executors import engine


def available_devices(setting: str, gpu_names: Sequence[str]) -> list[str]:
    """Return the devices that workers share: `setting` itself, or for "cuda" every GPU of the same model as the first.

    Another model would give other bits. Raises PipelineError when there is no GPU.
    """
    if not setting.startswith("cuda"):
        return [setting]
    if not gpu_names:
        raise PipelineError(
            f"VOICE_DEVICE={setting}: torch sees no GPU here; set VOICE_DEVICE=cpu, or install a torch with CUDA"
        )
    if setting != "cuda":
        if setting not in [f"cuda:{index}" for index in range(len(gpu_names))]:
            raise PipelineError(f"VOICE_DEVICE={setting}: torch sees cuda:0 to cuda:{len(gpu_names) - 1} here")
        return [setting]
    return [f"cuda:{index}" for index, name in enumerate(gpu_names) if name == gpu_names[0]]


def device_of_worker(devices: Sequence[str], worker_number: int) -> str:
    """Return the device of the n-th worker process (from 1; 0 is the main process), assigned round-robin."""
    return devices[max(0, worker_number - 1) % len(devices)]


def this_workers_device(devices: Sequence[str]) -> str:
    """Return the device of the calling process."""
    import multiprocessing  # not needed where all rows are stored

    number = re.search(r"-(\d+)$", multiprocessing.current_process().name)  # SpawnProcess-3
    return device_of_worker(devices, int(number[1]) if number else 0)


def describe_machine(setting: str, kernels: str) -> tuple[list[str], list[str]]:
    """Return the devices to use, and the properties of machine and libraries on which the features' bits depend."""
    gpus = _gpu_names() if setting.startswith("cuda") else []
    devices = available_devices(setting, gpus)
    kinds = sorted({gpus[int(device.partition(":")[2])] for device in devices if device.startswith("cuda:")})
    versions = [f"{name} {version(name)}" for name in ("torch", "transformers", "tokenizers")]
    if kinds and engine() == "ray":
        devices = ["cuda"]  # Ray shows every worker only its own GPU
    return devices, [*versions, cpu_capability(), kernels, setting.partition(":")[0], *kinds]


def _gpu_names() -> list[str]:
    import torch  # imported after `use_reproducible_kernels`, and not at all on a CPU

    return [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]


@contextmanager
def one_worker_per_gpu(devices: Sequence[str]) -> Iterator[None]:
    """Set VOICE_WORKERS to the number of GPUs while this machine's GPUs are used, unless it is set already."""
    if not devices[0].startswith("cuda") or engine() == "ray" or machine_settings.setting("VOICE_WORKERS"):
        yield
        return
    os.environ["VOICE_WORKERS"] = str(len(devices))
    try:
        yield
    finally:
        del os.environ["VOICE_WORKERS"]
