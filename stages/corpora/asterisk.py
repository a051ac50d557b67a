"""The default corpus: the English Asterisk core prompts, real speech of one speaker, from Debian's packages.

Fetched with apt's own client and unpacked into the project's data folder; nothing is installed system-wide.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import logging
import shutil
import tempfile
from pathlib import Path

from stages.common.files import output_folder
from stages.common.stage import configure_logging, run_command
from stages.corpora.debian import download, unpack

logger = logging.getLogger(__name__)

AUDIO_PACKAGE = "asterisk-core-sounds-en-g722"
TRANSCRIPT_PACKAGE = "asterisk-core-sounds-en"
SOUNDS = Path("usr/share/asterisk/sounds/en_US_f_Allison")
TRANSCRIPTS = Path("usr/share/doc/asterisk-core-sounds-en/core-sounds-en.txt.gz")
COPYRIGHT = Path("usr/share/doc") / AUDIO_PACKAGE / "copyright"
SPEAKER = "allison"


def read_prompts(path: Path) -> dict[str, str]:
    """Return prompt name → transcript from the package's list of lines ``name: text``."""
    prompts = {}
    with gzip.open(path, "rt", encoding="utf-8", errors="strict") as stream:
        for line in stream:
            name, colon, text = line.strip().partition(":")
            if colon and not name.startswith(";"):
                prompts[name.strip()] = text.strip()
    return prompts


def fetch(out: Path) -> int:
    """Put recordings as ``allison/NAME.g722`` and transcripts.csv into `out`; returns the number of recordings."""
    with tempfile.TemporaryDirectory(prefix="asterisk-") as scratch, output_folder(out) as temporary:
        root = unpack(download([AUDIO_PACKAGE, TRANSCRIPT_PACKAGE], Path(scratch)), Path(scratch))
        shutil.copytree(root / SOUNDS, temporary / SPEAKER)
        shutil.copyfile(root / COPYRIGHT, temporary / "COPYRIGHT")
        with (temporary / "transcripts.csv").open("w", encoding="utf-8", newline="") as stream:
            writer = csv.writer(stream, lineterminator="\n")
            writer.writerow(["audio", "speaker", "language", "text"])
            for name, text in sorted(read_prompts(root / TRANSCRIPTS).items()):
                writer.writerow([f"{SPEAKER}/{name}.g722", SPEAKER, "EN", text])
        return len(list((temporary / SPEAKER).rglob("*.g722")))


def main() -> None:
    """Fetch the default corpus unless it is there."""
    parser = argparse.ArgumentParser(prog="python -m stages.corpora.asterisk", description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("data/recordings/asterisk-en"), metavar="PATH")
    out = parser.parse_args().out
    configure_logging()
    if (out / "transcripts.csv").is_file():
        return  # nothing twice
    run_command(lambda: logger.info("%d recordings in %s", fetch(out), out), "recordings")


if __name__ == "__main__":
    main()
