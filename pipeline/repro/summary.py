"""Summary of a run on one screen: utterances kept and rejected, speech, training steps, metrics, pages."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.parquet as pq

from model.printable import printable
from stages.evaluate.checkpoints import TABLE, read_checkpoints
from stages.reporting.markdown import table

ROW_STAGES = ("corpus", "resample", "clean_text", "spectrogram", "bert", "split")
SUBSETS = ("train", "validation", "test")
REPORT = Path("reports/evaluate/index.html")
CHECKPOINTS = Path("reports/evaluate") / TABLE
CARD = Path("reports/card/card.html")
METRICS = {
    "cer": "character error rate (Whisper base)",
    "wer": "word error rate",
    "mos": "DistillMOS, 1 to 5",
    "speaker_similarity": "speaker similarity, cosine",
    "mcd_db": "mel-cepstral distortion, dB",
    "f0_rmse_cents": "F0 error, cents",
    "voicing_error": "voicing error, share of frames",
    "duration_error": "length error, relative",
    "real_time_factor": "real-time factor",
    "peak_memory_mib": "memory while speaking, MiB",
}


def utterance_counts(root: Path) -> pd.DataFrame:
    """Return a row per stage with outputs: `stage`, `kept`, `rejected`, and the rejections by reason in `why`."""
    rows = []
    for name in ROW_STAGES:
        manifest, rejects = root / "data" / name / f"{name}.parquet", root / "data" / name / "rejects.parquet"
        if manifest.is_file() and rejects.is_file():
            reasons = pd.read_parquet(rejects, columns=["reason"])["reason"].value_counts()
            why = ", ".join(f"{reason} {count}" for reason, count in reasons.items())
            rows.append((name, pq.read_metadata(manifest).num_rows, reasons.sum(), why or "-"))
    return pd.DataFrame(rows, columns=["stage", "kept", "rejected", "why"])


def minutes_of_speech(root: Path) -> dict[str, float]:
    """Return minutes of audio per subset."""
    path = root / "data" / "split" / "split.parquet"
    if not path.is_file():
        return {}
    facts = json.loads((pq.read_schema(path).metadata or {})[b"voice"])
    utterances = pq.read_table(path, columns=["subset", "n_samples"]).to_pandas()
    minutes = utterances.groupby("subset")["n_samples"].sum() / facts["resample"]["sample_rate_hz"] / 60
    return {subset: float(minutes[subset]) for subset in SUBSETS if subset in minutes}


def text_summary(root: Path) -> str:
    """Return the summary for a terminal."""
    lines = ["", "utterances     kept  rejected  why"]
    for count in utterance_counts(root).itertuples():
        lines.append(f"  {count.stage:<12} {count.kept:>5}  {count.rejected:>8}  {count.why}")
    if minutes := minutes_of_speech(root):
        shares = ", ".join(f"{subset} {value:.1f}" for subset, value in minutes.items())
        lines += ["", f"speech         {sum(minutes.values()):.1f} minutes ({shares})"]
    if voice := _json(root / "voice/metadata.json").get("metadata"):
        lines.append(f"training       {voice['step']} steps; {voice['source_note']}")
    if metrics := {**_json(root / "metrics.json"), **_json(root / "speed.json")}:
        lines += ["", _metrics_text(metrics)]
    if (root / CHECKPOINTS).is_file():
        lines += ["", _checkpoints_text(root / CHECKPOINTS)]
    if (root / REPORT).is_file():
        lines += ["", f"listen         {(root / REPORT).resolve()}", 'speak          make say TEXT="…"']
    if (root / CARD).is_file():
        lines.append(f"voice card     {(root / CARD).resolve()}")
    return "\n".join(lines)


def _json(path: Path) -> dict[str, Any]:
    return dict(json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else {}


def _metrics_text(metrics: Mapping[str, Any]) -> str:
    title = f"{int(metrics.get('n_utterances', 0))} held-out utterances"
    rows = {
        name: {"voice": metrics[key], "recordings": metrics.get(f"recording_{key}")}
        for key, name in METRICS.items()
        if key in metrics
    }
    figures = pd.DataFrame.from_dict(rows, orient="index", dtype=float).rename_axis(columns=title)
    return str(figures.to_string(float_format="{:.3f}".format, na_rep=""))


def _checkpoints_text(path: Path) -> str:
    """Return the kept checkpoints with the metrics that `voice-factory choose` takes."""
    checkpoints = read_checkpoints(path).set_index(["step", "folder"])
    figures = checkpoints[["cer", "mos"]].apply(pd.to_numeric).rename_axis(index=[None, None])
    title = f"kept checkpoints on {checkpoints['n_utterances'].iloc[0]} validation utterances (make choose)"
    return f"{title}\n{figures.to_string(float_format='{:.3f}'.format, na_rep='')}"


def markdown_summary(root: Path) -> str:
    """Return the summary as Markdown, for a Prefect artifact."""
    metrics = [
        (name, f"{value:.4g}")
        for name, value in sorted(_json(root / "metrics.json").items())
        if isinstance(value, int | float)
    ]
    counts = utterance_counts(root)
    return "\n\n".join(
        [
            "## Utterances",
            table(list(counts.columns), counts.to_numpy().tolist()),
            "## Metrics",
            table(["metric", "value"], metrics),
        ]
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Print the summary."""
    parser = argparse.ArgumentParser(prog="voice-factory summary", description="Print the results of the last run.")
    parser.add_argument("--root", type=Path, default=Path("."), help="project folder (default: .)")
    sys.stdout.write(printable(text_summary(parser.parse_args(argv).root)) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
