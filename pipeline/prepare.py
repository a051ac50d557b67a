"""What `make setup` does beyond installing: the recordings of params.yaml are there, or a line says how to get them."""

from __future__ import annotations

import sys
from pathlib import Path

import yaml

from pipeline.environment import run_module

DEFAULT_RECORDINGS = "data/recordings/asterisk-en"


def main() -> int:
    """Fetch the default recordings if params.yaml asks for them and they are missing; check that one's own exist."""
    corpus = yaml.safe_load(Path("params.yaml").read_text(encoding="utf-8"))["corpus"]
    if corpus["recordings"] == DEFAULT_RECORDINGS:
        return run_module("stages.corpora.asterisk", "--out", DEFAULT_RECORDINGS)
    for name in ("recordings", "transcripts"):
        if not Path(corpus[name]).exists():
            sys.stderr.write(f"error: {corpus[name]}: does not exist; set corpus.{name} in params.yaml\n")
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
