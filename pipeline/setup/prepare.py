"""What `make setup` does beyond installing: recordings and text encoders of params.yaml are there, or a line says how
to get them.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from model.bert.encoder import EncoderSource
from model.bert.tokenizers import EncoderError
from model.settings import ConfigError
from pipeline.processes.environment import run_module

READY_MADE = {  # recordings → the program that fetches or makes them
    "data/recordings/asterisk-en": "pipeline.corpora.asterisk",
    "data/recordings/trilingual": "pipeline.corpora.trilingual",
}


def fetch_encoders(encoders: Mapping[str, Any], languages: Sequence[str]) -> None:
    """Find the corpus languages' encoders, from the hub where params.yaml says so; raises EncoderError with the way to
    get one.
    """
    for language in sorted(set(encoders) & set(languages)):
        source = EncoderSource.from_dict(encoders[language], where=f"params.yaml: bert.encoders.{language}")
        if source.kind == "hub":
            source.locate()


def main() -> int:
    """Fetch the encoders; make the ready-made recordings that params.yaml asks for where they are missing; check that
    one's own exist.
    """
    params = yaml.safe_load(Path("params.yaml").read_text(encoding="utf-8"))
    corpus = params["corpus"]
    try:
        fetch_encoders(params["bert"]["encoders"], corpus["languages"])
    except (ConfigError, EncoderError) as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    if (program := READY_MADE.get(corpus["recordings"])) is not None:
        return run_module(program, "--out", corpus["recordings"])
    for name in ("recordings", "transcripts"):
        if not Path(corpus[name]).exists():
            sys.stderr.write(f"error: {corpus[name]}: does not exist; set corpus.{name} in params.yaml\n")
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
