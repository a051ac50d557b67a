"""Serve a trained voice: a page to type and listen at http://HOST:PORT/, and POST /speak for programs."""

from __future__ import annotations

import argparse
import ipaddress
import logging
import socket
import sys
from collections.abc import Sequence
from pathlib import Path

from model.bert.encoder import use_reproducible_kernels
from model.bert.tokenizers import EncoderError
from model.printable import error_line
from model.text.errors import TextError
from stages.common.command import configure_logging

LOOPBACK_NAMES = ("localhost", "127.0.0.1", "::1")
MAX_CONNECTIONS = 64
SHUTDOWN_SECONDS = 3

logger = logging.getLogger(__name__)


def build_parser() -> argparse.ArgumentParser:
    """Return the command line's parser."""
    parser = argparse.ArgumentParser(
        prog="voice-factory serve-voice", description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--voice", type=Path, default=Path("voice"), help="folder of a trained voice")
    parser.add_argument(
        "--host",
        default="127.0.0.1",
        help="address to listen on; other than loopback addresses let other machines use the voice",
    )
    parser.add_argument("--port", type=int, default=8500, help="port to listen on")
    parser.add_argument(
        "--allow-host", action="append", default=[], metavar="NAME", help="additional host name that clients may use"
    )
    parser.add_argument("--max-characters", type=int, default=5000, help="longest text of one request")
    parser.add_argument("--max-requests", type=int, default=4, help="maximum concurrent requests; further ones get 503")
    parser.add_argument("--max-seconds", type=float, default=120.0, help="timeout of one request")
    parser.add_argument("--device", default="cpu", help="cpu, cuda, …")
    return parser


def is_loopback(host: str) -> bool:
    """Return whether a host is reachable from this machine only."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def main(argv: Sequence[str] | None = None) -> int:
    """Load and warm up the voice, then serve until interrupted; return the exit status, an error being one line."""
    arguments = build_parser().parse_args(argv)
    if not arguments.voice.is_dir():
        return _fail(f"{arguments.voice}: no voice there; train one with `make run`, or pass --voice FOLDER")
    use_reproducible_kernels()  # before torch is imported: text features are bit-identical to training
    import torch
    import uvicorn

    from model.checkpoints.checkpoint import CheckpointError
    from model.inference.voice import Voice
    from pipeline.serve.app import create_app
    from pipeline.serve.narrator import Limits, Narrator

    configure_logging()
    torch.set_num_threads(1)  # as in the evaluation
    try:
        limits = Limits(arguments.max_characters, arguments.max_requests, arguments.max_seconds)
        narrator = Narrator(Voice(arguments.voice, arguments.device), limits)
        narrator.warm_up()
    except (CheckpointError, EncoderError, TextError, ValueError, OSError) as error:
        return _fail(error)
    names = [*LOOPBACK_NAMES, arguments.host, *arguments.allow_host]
    if not is_loopback(arguments.host):
        names.append(socket.gethostname())
        logger.warning(
            "%s is reachable from other machines, without authentication or encryption; accepted host names: %s",
            arguments.host,
            ", ".join(names),
        )
    uvicorn.run(
        create_app(narrator, names),
        host=arguments.host,
        port=arguments.port,
        http="h11",
        log_config=None,
        server_header=False,
        limit_concurrency=MAX_CONNECTIONS,
        timeout_graceful_shutdown=SHUTDOWN_SECONDS,
    )
    return 0


def _fail(message: object) -> int:
    sys.stderr.write(f"{error_line(message)}\n")
    return 1


if __name__ == "__main__":
    sys.exit(main())
