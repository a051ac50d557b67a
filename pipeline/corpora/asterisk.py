"""The default corpus: the English Asterisk core prompts, recordings of one speaker, from Debian packages.

The packages are downloaded with apt and unpacked into the project's data folder; nothing is installed system-wide.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import logging
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from pipeline.corpora.debian import download, unpack
from stages.common.command import configure_logging, run_command
from stages.common.files import output_folder

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class PromptSet:
    """The prompts of one language: its code in Debian, the speaker, and the folder of the recordings."""

    code: str
    speaker: str
    folder: str

    @property
    def packages(self) -> list[str]:
        """Names of the packages with recordings and transcripts."""
        return [f"asterisk-core-sounds-{self.code}-g722", f"asterisk-core-sounds-{self.code}"]

    @property
    def sounds(self) -> Path:
        """Path of the recordings in the packages."""
        return Path("usr/share/asterisk/sounds") / self.folder

    @property
    def transcripts(self) -> Path:
        """Path of the transcripts in the packages."""
        return Path(f"usr/share/doc/asterisk-core-sounds-{self.code}/core-sounds-{self.code}.txt.gz")

    @property
    def copyright(self) -> Path:
        """Path of the licence of the recordings in the packages."""
        return Path(f"usr/share/doc/asterisk-core-sounds-{self.code}-g722/copyright")


ENGLISH = PromptSet("en", "allison", "en_US_f_Allison")
SPEAKER = ENGLISH.speaker


def read_prompts(path: Path) -> dict[str, str]:
    """Return prompt name → transcript from the package's list of ``name: text`` lines."""
    prompts = {}
    with gzip.open(path, "rt", encoding="utf-8-sig", errors="strict") as stream:
        for line in stream:
            name, colon, text = line.strip().partition(":")
            if colon and not name.startswith(";"):
                prompts[name.strip()] = text.strip()
    return prompts


def copy_prompts(prompts: PromptSet, root: Path, out: Path) -> dict[str, str]:
    """Copy unpacked recordings to ``SPEAKER/NAME.g722`` below `out` and return prompt name → transcript."""
    shutil.copytree(root / prompts.sounds, out / prompts.speaker)
    return read_prompts(root / prompts.transcripts)


def fetch(out: Path) -> int:
    """Write ``allison/NAME.g722`` and transcripts.csv into `out` and return the number of recordings."""
    with tempfile.TemporaryDirectory(prefix="asterisk-") as scratch, output_folder(out) as temporary:
        root = unpack(download(ENGLISH.packages, Path(scratch)), Path(scratch))
        texts = copy_prompts(ENGLISH, root, temporary)
        shutil.copyfile(root / ENGLISH.copyright, temporary / "COPYRIGHT")
        with (temporary / "transcripts.csv").open("w", encoding="utf-8", newline="") as stream:
            writer = csv.writer(stream, lineterminator="\n")
            writer.writerow(["audio", "speaker", "language", "text"])
            for name, text in sorted(texts.items()):
                writer.writerow([f"{SPEAKER}/{name}.g722", SPEAKER, "EN", text])
        return len(list((temporary / SPEAKER).rglob("*.g722")))


def main() -> None:
    """Fetch the default corpus unless it exists."""
    parser = argparse.ArgumentParser(prog="python -m pipeline.corpora.asterisk", description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("data/recordings/asterisk-en"), metavar="PATH")
    out = parser.parse_args().out
    configure_logging()
    if (out / "transcripts.csv").is_file():
        return
    run_command(lambda: logger.info("%d recordings in %s", fetch(out), out), "recordings")


if __name__ == "__main__":
    main()
