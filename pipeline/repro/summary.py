"""What a run did, on one screen: utterances kept and rejected with reasons, speech, steps, metrics, the report."""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.compute as pc
import pyarrow.parquet as pq

from stages.evaluate.checkpoints import TABLE, read_checkpoints
from stages.reporting.markdown import table

ROW_STAGES = ("corpus", "resample", "clean_text", "spectrogram", "bert", "split")
REPORT = Path("reports/evaluate/index.html")
CHECKPOINTS = Path("reports/evaluate") / TABLE
CARD = Path("reports/card/card.html")


@dataclass(frozen=True)
class StageCount:
    """A stage's utterances: kept, rejected, and the rejects by reason."""

    name: str
    kept: int
    rejected: int
    reasons: dict[str, int]


def stage_counts(root: Path) -> list[StageCount]:
    """Return the counts of every stage whose manifest exists."""
    counts = []
    for name in ROW_STAGES:
        manifest, rejects = root / "data" / name / f"{name}.parquet", root / "data" / name / "rejects.parquet"
        if manifest.is_file() and rejects.is_file():
            reasons = Counter(pq.read_table(rejects, columns=["reason"]).column("reason").to_pylist())
            counts.append(
                StageCount(
                    name, pq.read_metadata(manifest).num_rows, sum(reasons.values()), dict(reasons.most_common())
                )
            )
    return counts


def minutes_of_speech(root: Path) -> dict[str, float]:
    """Return minutes of audio per subset."""
    path = root / "data" / "split" / "split.parquet"
    if not path.is_file():
        return {}
    table = pq.read_table(path, columns=["subset", "n_samples"])
    facts = json.loads((pq.read_schema(path).metadata or {})[b"voice"])
    rate = facts["resample"]["sample_rate_hz"]
    return {
        subset: pc.sum(table.filter(pc.equal(table.column("subset"), subset)).column("n_samples")).as_py() / rate / 60
        for subset in sorted(set(table.column("subset").to_pylist()), key=("train", "validation", "test").index)
    }


def _json(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def _voice(root: Path) -> dict[str, Any]:
    for path in (root / "voice").glob("*.json"):
        return dict(_json(path).get("metadata", {}))
    return {}


# metric, what it is, its name for the recordings themselves
HEADLINES = (
    ("cer", "character error rate (Whisper base)", "recording_cer"),
    ("wer", "word error rate", "recording_wer"),
    ("mos", "DistillMOS, 1 to 5", "recording_mos"),
    ("speaker_similarity", "speaker similarity, cosine", "recording_speaker_similarity"),
    ("mcd_db", "mel-cepstral distortion, dB", None),
    ("f0_rmse_cents", "F0 error, cents", None),
    ("voicing_error", "voicing error, share of frames", None),
    ("duration_error", "length error, relative", None),
    ("real_time_factor", "real-time factor", None),
    ("peak_memory_mib", "memory while speaking, MiB", None),
)


def text_summary(root: Path) -> str:
    """Return the summary for a terminal."""
    lines = ["", "utterances     kept  rejected  why"]
    for count in stage_counts(root):
        reasons = ", ".join(f"{reason} {number}" for reason, number in count.reasons.items()) or "-"
        lines.append(f"  {count.name:<12} {count.kept:>5}  {count.rejected:>8}  {reasons}")
    minutes = minutes_of_speech(root)
    if minutes:
        shares = ", ".join(f"{subset} {value:.1f}" for subset, value in minutes.items())
        lines += ["", f"speech         {sum(minutes.values()):.1f} minutes ({shares})"]
    voice = _voice(root)
    if voice:
        lines.append(f"training       {voice['step']} steps; {voice['source_note']}")
    metrics = {**_json(root / "metrics.json"), **_json(root / "speed.json")}
    if metrics:
        lines += ["", f"{int(metrics.get('n_utterances', 0))} held-out utterances              voice  recordings"]
        for name, title, recorded in HEADLINES:
            if name in metrics:
                beside = f"{metrics[recorded]:>10.3f}" if recorded and recorded in metrics else " " * 10
                lines.append(f"  {title:<36} {metrics[name]:>7.3f}  {beside}")
    lines += _checkpoint_lines(root)
    if (root / REPORT).is_file():
        lines += ["", f"listen         {(root / REPORT).resolve()}", 'speak          make say TEXT="…"']
    if (root / CARD).is_file():
        lines.append(f"voice card     {(root / CARD).resolve()}")
    return "\n".join(lines)


def _checkpoint_lines(root: Path) -> list[str]:
    """Return what the kept checkpoints are worth, where the evaluation measured them."""
    if not (root / CHECKPOINTS).is_file():
        return []
    rows = read_checkpoints(root / CHECKPOINTS)
    lines = ["", f"kept checkpoints on {rows[0]['n_utterances']} validation utterances (make choose)    cer     mos"]
    for row in rows:
        figures = "  ".join(f"{float(row[name]):>6.3f}" if row[name] else " " * 6 for name in ("cer", "mos"))
        lines.append(f"  {row['step']:<10} {row['folder']:<38} {figures}")
    return lines


def markdown_summary(root: Path) -> str:
    """Return the summary as Markdown, for a Prefect artifact."""
    counts = [
        (
            count.name,
            count.kept,
            count.rejected,
            ", ".join(f"{reason} {number}" for reason, number in count.reasons.items()),
        )
        for count in stage_counts(root)
    ]
    metrics = [
        (name, f"{value:.4g}")
        for name, value in sorted(_json(root / "metrics.json").items())
        if isinstance(value, int | float)
    ]
    return "\n\n".join(
        [
            "## Utterances",
            table(["stage", "kept", "rejected", "why"], counts),
            "## Metrics",
            table(["metric", "value"], metrics),
        ]
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Print the summary."""
    parser = argparse.ArgumentParser(prog="voice-factory summary", description="Print the results of the last run.")
    parser.add_argument("--root", type=Path, default=Path("."), help="the project's folder (default: here)")
    sys.stdout.write(text_summary(parser.parse_args(argv).root) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
