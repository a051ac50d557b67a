"""Devices of the text encoder: which there are, and which one a worker uses."""

from __future__ import annotations

import multiprocessing
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import version

from stages.common.errors import PipelineError
from stages.rows import machine_settings
from stages.rows.executors import engine


def available_devices(setting: str, gpu_names: Sequence[str]) -> list[str]:
    """Return the devices that workers share: `setting` itself, or for "cuda" every GPU of the first one's kind.

    GPUs of another kind would give other bits. Raises PipelineError when there is no GPU.
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
    """Return the device of the n-th worker process, counted from 1 (0: the main process): they take turns."""
    return devices[max(0, worker_number - 1) % len(devices)]


def this_workers_device(devices: Sequence[str]) -> str:
    """Return the device of the process that asks."""
    number = re.search(r"-(\d+)$", multiprocessing.current_process().name)  # SpawnProcess-3
    return device_of_worker(devices, int(number[1]) if number else 0)


def describe_machine(setting: str, kernels: str) -> tuple[list[str], list[str]]:
    """Return the devices to use and what of this machine and its libraries the features' bits depend on."""
    import torch  # only now: the kernels had to be chosen before

    gpus = (
        [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
        if setting.startswith("cuda")
        else []
    )
    devices = available_devices(setting, gpus)
    kinds = sorted({gpus[int(device.partition(":")[2])] for device in devices if device.startswith("cuda:")})
    versions = [f"{name} {version(name)}" for name in ("torch", "transformers", "tokenizers")]
    if kinds and engine() == "ray":
        devices = ["cuda"]  # Ray shows every worker the one GPU that is its own
    return devices, [*versions, torch.backends.cpu.get_cpu_capability(), kernels, setting.partition(":")[0], *kinds]


@contextmanager
def one_worker_per_gpu(devices: Sequence[str]) -> Iterator[None]:
    """On this machine's GPUs as many workers as there are GPUs, unless VOICE_WORKERS says otherwise."""
    if not devices[0].startswith("cuda") or engine() == "ray" or machine_settings.setting("VOICE_WORKERS"):
        yield
        return
    os.environ["VOICE_WORKERS"] = str(len(devices))
    try:
        yield
    finally:
        del os.environ["VOICE_WORKERS"]
