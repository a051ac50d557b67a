"""The train stage as a program in a folder of its own, to be watched, killed and run again."""

from __future__ import annotations

import json
import multiprocessing
import os
import resource
import runpy
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

import yaml

from pipeline.params.presets import load_preset
from stages.common.command import from_mapping
from stages.train.manifest_source import DataFolders
from stages.train.settings import TrainParams
from tests.small_corpus import ROOT, SmallCorpus, folder_bytes

FORK_SERVER = multiprocessing.get_context("forkserver")
# What every run imports, at its start or when it first needs it.
FORK_SERVER.set_forkserver_preload(
    ["stages.train.stage", "torch._dynamo", "librosa.sequence", "tests.stages.train.program"]
)
INPUTS = ("split", "resample", "spectrogram", "bert")
TINY_MODEL = {
    "inter_channels": 16,
    "hidden_channels": 16,
    "filter_channels": 32,
    "n_layers": 1,
    "n_flows": 2,
    "flow_layers": 1,
    "posterior_layers": 1,
    "duration_channels": 16,
    "istft_channels": 16,
    "istft_layers": 1,
    "istft_filter_channels": 32,
    "segment_frames": 16,
}


def smoke_values() -> dict[str, Any]:
    """Return the smoke preset's train section, with samples, several kept checkpoints and their average."""
    values: dict[str, Any] = json.loads(json.dumps(load_preset("smoke", ROOT / "presets").values["train"]))
    return {
        **values,
        "samples": {"every": 10, "utterances": 1},
        "keep": {"last": 2, "best": 1, "by": "mel", "average": 2},
        "voice": "last",
    }


def tiny_values(**changes: Any) -> dict[str, Any]:
    """Return a train section far smaller than the smoke preset's; dotted names change nested values."""
    values = smoke_values()
    values["model"].update(TINY_MODEL)
    values["optimisation"].update(steps=24, batch_size=2, warmup_steps=2, adversarial_start_step=6)
    values["aligner"].update(steps=3, batch_size=2, channels=16)
    values["samples"].update(every=12)
    values["keep"].update(average=0)
    values.update(checkpoint_every=4, log_every=3, validate_every=6, ranks=1)
    for name, value in changes.items():
        section, _, inner = name.rpartition("__")
        (values[section] if section else values)[inner] = value
    return values


def tiny_params(**changes: Any) -> TrainParams:
    """Return `tiny_values` as the stage gets them."""
    return from_mapping(TrainParams, tiny_values(**changes), where="train")


def folders(corpus: SmallCorpus) -> DataFolders:
    """Return the folders that training reads."""
    return DataFolders(*(getattr(corpus, name) for name in INPUTS))


@dataclass(frozen=True)
class Watched:
    """A running program and the file that takes what it says."""

    process: subprocess.Popen[bytes] | ForkServerProcess
    log: Path

    @property
    def status(self) -> int | None:
        """The exit status, negative for a signal; None while it runs."""
        return self.process.poll() if isinstance(self.process, subprocess.Popen) else self.process.exitcode

    def lines(self) -> list[str]:
        """Return what was said so far."""
        return self.log.read_text(encoding="utf-8", errors="replace").splitlines()

    def wait_for(self, is_there: Callable[[], bool], seconds: float = 120.0) -> bool:
        """Return whether something came to be true before the program ended."""
        deadline = time.monotonic() + seconds
        while not is_there():
            if self.status is not None or time.monotonic() > deadline:
                return is_there()
            time.sleep(0.001)
        return True

    def says(self, text: str) -> bool:
        """Wait for a line with `text`."""
        return self.wait_for(lambda: any(text in line for line in self.lines()))

    def kill(self) -> None:
        """End the program without warning and wait until it is gone."""
        if isinstance(self.process, subprocess.Popen):
            os.killpg(self.process.pid, signal.SIGKILL)  # with the ranks that it started
        else:
            self.process.kill()
        self._wait(20)

    def finish(self, seconds: float = 300.0) -> str:
        """Wait for the end and return all that was said."""
        self._wait(seconds)
        return "\n".join(self.lines())

    def _wait(self, seconds: float) -> None:
        if isinstance(self.process, subprocess.Popen):
            self.process.wait(seconds)
        else:
            self.process.join(seconds)


def limit_files(n_bytes: int | None) -> None:
    """Let this process write no file of more than so many bytes: to it the disk is full."""
    if n_bytes is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, n_bytes))


def _serve(
    folder: str, log: str, arguments: list[str], environment: dict[str, str], file_limit_bytes: int | None
) -> None:
    """Become `python -m stages.train` in a process that has its imports behind it."""
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    os.chdir(folder)
    limit_files(file_limit_bytes)
    os.environ.update(environment)
    sys.argv = ["stages.train", *arguments]
    warnings.simplefilter("ignore", RuntimeWarning)  # the module is imported already: that is the point
    runpy.run_module("stages.train", run_name="__main__", alter_sys=True)


@dataclass(frozen=True)
class Program:
    """`python -m stages.train` in a folder of its own."""

    folder: Path
    corpus: SmallCorpus

    def start(
        self,
        values: dict[str, Any] | None = None,
        *,
        forked: bool = False,
        launcher: Sequence[str] = ("-m",),
        file_limit_bytes: int | None = None,
        **changes: Any,
    ) -> Watched:
        """Start the program with a train section, or the tiny one with changes.

        `forked` spares it the seconds of its imports: it is then a child of a process that has done them.
        """
        self.folder.mkdir(exist_ok=True)
        section = tiny_values(**changes) if values is None else values
        (self.folder / "params.yaml").write_text(yaml.safe_dump({"train": section}), encoding="utf-8")
        paths = {**{name: getattr(self.corpus, name) for name in INPUTS}, "voice": "voice", "report": "report"}
        flags = [text for name, path in paths.items() for text in (f"--{name}", str(path))]
        environment = {"VOICE_WORK_DIR": "work", "VOICE_LOG_LEVEL": "DEBUG"}
        log = self.folder / "log"
        log.write_bytes(b"")
        if forked:
            process = FORK_SERVER.Process(
                target=_serve, args=(str(self.folder), str(log), flags, environment, file_limit_bytes)
            )
            process.start()
            return Watched(process, log)
        command = [sys.executable, *launcher, "stages.train", *flags]
        with log.open("wb") as stream:
            return Watched(
                subprocess.Popen(
                    command,
                    cwd=self.folder,
                    env={**os.environ, **environment, "PYTHONPATH": str(ROOT)},
                    stdout=stream,
                    stderr=stream,
                    start_new_session=True,
                ),
                log,
            )

    def run(self, values: dict[str, Any] | None = None, **options: Any) -> str:
        """Run the program to its end, which must be a good one, and return its output."""
        watched = self.start(values, **options)
        output = watched.finish()
        assert watched.status == 0, output
        return output

    def work(self) -> Path:
        """Return the work folder of the only run."""
        (work,) = self.folder.glob("work/train/*")
        return work

    def states(self) -> dict[str, bytes]:
        """Return the saved states, name → bytes."""
        return {path.name: path.read_bytes() for path in sorted(self.folder.glob("work/train/*/state-*.pt"))}

    def outputs(self) -> dict[str, bytes]:
        """Return every file of the voice and the report."""
        return {
            f"{name}/{path}": content
            for name in ("voice", "report")
            for path, content in folder_bytes(self.folder / name).items()
        }
