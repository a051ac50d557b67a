"""Command line of every stage: paths as flags, its section of the params, logging, one-line errors."""

from __future__ import annotations

import argparse
import errno
import inspect
import logging
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import yaml

from model.printable import error_line, one_line, printable
from model.settings import ConfigError, Settings
from stages.common.errors import ParamsError, PipelineError
from stages.common.memory import keep_freed_memory

logger = logging.getLogger("stages")

_FULL = "free some space and run again: finished work is kept"
_DENIED = "change its owner or permissions, or choose another place (VOICE_WORK_DIR, VOICE_ROW_STORE)"
MACHINE_ERRORS = {
    errno.ENOSPC: _FULL,
    errno.EDQUOT: _FULL,
    errno.EFBIG: _FULL,
    errno.EROFS: "mount it for writing, or choose another place (VOICE_WORK_DIR, VOICE_ROW_STORE)",
    errno.EACCES: _DENIED,
    errno.EPERM: _DENIED,
    errno.ENAMETOOLONG: "shorten the name; most file systems allow 255 bytes",
    errno.EIO: "check the disk",
}

ParamsT = TypeVar("ParamsT", bound=Settings)


class _PrintableFormatter(logging.Formatter):
    """Format of log lines, whose messages name files, speakers and texts of other people."""

    def format(self, record: logging.LogRecord) -> str:
        escaped = logging.makeLogRecord(record.__dict__ | {"msg": one_line(record.getMessage()), "args": None})
        return printable(super().format(escaped))


def configure_logging(level: str = "INFO") -> None:
    """Send log lines with their time to the standard error stream; VOICE_LOG_LEVEL has precedence over `level`."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_PrintableFormatter("%(asctime)s %(levelname)s %(name)s: %(message)s", datefmt="%H:%M:%S"))
    logging.basicConfig(level=os.environ.get("VOICE_LOG_LEVEL", level).upper(), handlers=[handler])
    program = getattr(sys.modules["__main__"], "__spec__", None)
    if program is not None:  # of `python -m NAME`: its log lines carry its name instead of __main__
        logging.getLogger("__main__").name = program.name
    for chatty in ("numba", "matplotlib", "faster_whisper", "httpx"):
        logging.getLogger(chatty).setLevel(logging.WARNING)


def run_stage(main: Callable[..., None], params_type: type[Settings], section: str) -> None:
    """Parse the command line of a stage and run `main(paths…, params=…)`.

    Every parameter of `main` but `params` is a path and becomes a flag of the same name; `main`'s docstring is the
    help text. A PipelineError ends in one line on the error stream and exit status 1.
    """
    parser = argparse.ArgumentParser(
        prog=f"python -m stages.{section}",
        description=inspect.getdoc(main),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    names = [name for name in inspect.signature(main).parameters if name != "params"]
    for name in names:
        parser.add_argument(f"--{name.replace('_', '-')}", type=Path, required=True, metavar="PATH")
    parser.add_argument(
        "--params",
        type=Path,
        default=Path("params.yaml"),
        metavar="PATH",
        help=f"file whose section {section!r} holds the tunables (default: params.yaml)",
    )
    arguments = vars(parser.parse_args())
    configure_logging()
    keep_freed_memory()
    run_command(
        lambda: main(
            **{name: arguments[name] for name in names}, params=load_section(arguments["params"], section, params_type)
        ),
        section,
    )


def run_command(command: Callable[[], None], name: str) -> None:
    """Run `command`; log its time, turn a PipelineError into one line and exit status 1."""
    started, started_cpu = time.monotonic(), _cpu_seconds()
    try:
        command()
    except PipelineError as error:
        sys.exit(error_line(error))
    except OSError as error:
        if error.errno not in MACHINE_ERRORS:
            raise
        # Arrow names no file, and keeps the system's message at the end of a longer one.
        where = f"{error.filename}: " if error.filename else ""
        sys.exit(error_line(f"{name}: {where}{os.strerror(error.errno)}; {MACHINE_ERRORS[error.errno]}"))
    except KeyboardInterrupt:
        sys.exit(error_line(f"{name}: interrupted; finished work is kept, run it again to continue"))
    logger.info("%s finished: %.1f s, %.1f CPU s", name, time.monotonic() - started, _cpu_seconds() - started_cpu)


def _cpu_seconds() -> float:
    return sum(os.times()[:4])


def read_params(path: Path) -> dict[str, Any]:
    """Return params.yaml as a dictionary; raises ParamsError for a missing or malformed file."""
    try:
        loaded = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ParamsError(f"{path}: no such file; run from the project's folder or pass --params") from None
    except (
        yaml.YAMLError,
        ValueError,
        RecursionError,
    ) as error:  # ValueError: not UTF-8, or no such date
        raise ParamsError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(loaded, dict):
        raise ParamsError(f"{path}: expected sections of parameters, found {type(loaded).__name__}")
    return loaded


def load_section(path: Path, section: str, params_type: type[ParamsT]) -> ParamsT:
    """Return one section of params.yaml as `params_type`; every problem of the section is reported at once."""
    loaded = read_params(path)
    if section not in loaded:
        raise ParamsError(f"{path}: section {section!r} is missing; sections found: {', '.join(sorted(loaded))}")
    return from_mapping(params_type, loaded[section], where=f"{path}: {section}")


def from_mapping(params_type: type[ParamsT], values: Any, *, where: str) -> ParamsT:
    """Return `params_type` from plain YAML values; raises ParamsError with every problem, on one line after `where`."""
    try:
        return params_type.from_dict(values, where=where)
    except ConfigError as error:
        raise ParamsError(str(error)) from None
