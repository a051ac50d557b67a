"""Fetch the recordings and text encoders that params.yaml names, or say how to get them (part of `make setup`)."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from model.bert.encoder import EncoderSource
from model.bert.tokenizers import EncoderError
from model.printable import error_line
from model.settings import ConfigError
from pipeline.processes.environment import run_module

READY_MADE = {  # recordings → module that fetches or creates them
    "data/recordings/asterisk-en": "pipeline.corpora.asterisk",
    "data/recordings/trilingual": "pipeline.corpora.trilingual",
}


def fetch_encoders(encoders: Mapping[str, Any], languages: Sequence[str]) -> None:
    """Fetch the encoders of the corpus' languages that are models of a hub; raises EncoderError with the remedy."""
    for language in sorted(set(encoders) & set(languages)):
        source = EncoderSource.from_dict(encoders[language], where=f"params.yaml: bert.encoders.{language}")
        if source.kind == "hub":
            source.locate()


def main() -> int:
    """Fetch the encoders and ready-made recordings; check that the user's own recordings exist."""
    params = yaml.safe_load(Path("params.yaml").read_text(encoding="utf-8"))
    corpus = params["corpus"]
    try:
        fetch_encoders(params["bert"]["encoders"], corpus["languages"])
    except (ConfigError, EncoderError) as error:
        sys.stderr.write(f"{error_line(error)}\n")
        return 1
    if (program := READY_MADE.get(corpus["recordings"])) is not None:
        return run_module(program, "--out", corpus["recordings"])
    for name in ("recordings", "transcripts"):
        if not Path(corpus[name]).exists():
            problem = f"{corpus[name]}: does not exist; set corpus.{name} in params.yaml"
            sys.stderr.write(f"{error_line(problem)}\n")
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
