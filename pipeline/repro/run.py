"""The main job: every stage whose inputs changed, then the summary."""

from __future__ import annotations

import argparse
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from model.printable import printable
from pipeline.params import presets
from pipeline.processes.environment import child_environment, dvc_command
from pipeline.repro import summary
from pipeline.setup import prepare


def main(argv: Sequence[str] | None = None) -> int:
    """Run `dvc repro`, with further arguments passed on to it, and print the summary."""
    parser = argparse.ArgumentParser(
        prog="voice-factory run",
        usage="%(prog)s [--preset NAME] [arguments of dvc repro, such as a stage's name]",
        description="Run every stage whose inputs changed, then print the summary.",
        allow_abbrev=False,
    )
    parser.add_argument("--preset", choices=presets.preset_names(), help="write this preset into params.yaml first")
    options, arguments = parser.parse_known_args(argv)
    if options.preset:
        presets.switch_preset(options.preset)
        if status := prepare.main():
            return status
    signal.signal(signal.SIGINT, lambda *_: None)  # Ctrl-C reaches DVC as well, which then ends in its own time
    status = subprocess.run(dvc_command("repro", *arguments), env=child_environment()).returncode
    if status == 0:
        sys.stdout.write(printable(summary.text_summary(Path())) + "\n")
    return status


if __name__ == "__main__":
    sys.exit(main())
