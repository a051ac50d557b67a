"""Data files for `dvc plots`: one figure per column, one utterance per line."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from stages.evaluate.scoring import PREFIXES
from stages.metrics.rendition import RECORDING, RESYNTHESIS, SYNTHESIS

UTTERANCE_COLUMNS = (
    "utterance_id",
    "speaker",
    "language",
    "synthetic",
    "words",
    "recording_seconds",
    "synthesis_seconds",
    "wer",
    "cer",
    "mos",
    "mcd_db",
    "f0_rmse_cents",
    "voicing_error",
    "duration_error",
    "phone_duration_error_ms",
    "resynthesis_mcd_db",
    "recording_cer",
    "resynthesis_cer",
    "recording_mos",
    "resynthesis_mos",
)
HISTOGRAMS = ("mcd_db", "cer")
N_BINS = 12


def write_plots(folder: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write utterances.csv (scatter), versions.csv (a line per utterance and version) and NAME_histogram.csv.

    There is a histogram for each of HISTOGRAMS. A figure that is not known is an empty cell.
    """
    folder.mkdir(parents=True, exist_ok=True)
    _write(
        folder / "utterances.csv",
        UTTERANCE_COLUMNS,
        ([row[name] for name in UTTERANCE_COLUMNS] for row in rows),
    )
    _write(
        folder / "versions.csv",
        ("utterance_id", "version", "wer", "cer", "mos"),
        (
            [row["utterance_id"], version, *(row[PREFIXES[version] + name] for name in ("wer", "cer", "mos"))]
            for row in rows
            for version in (RECORDING, RESYNTHESIS, SYNTHESIS)
        ),
    )
    for name in HISTOGRAMS:
        values = [row[name] for row in rows if math.isfinite(row[name])]
        counts, edges = np.histogram(values, bins=N_BINS) if values else (np.array([], dtype=int), np.array([0.0]))
        middles = (edges[:-1] + edges[1:]) / 2
        _write(
            folder / f"{name}_histogram.csv",
            (name, "utterances"),
            zip(middles.tolist(), counts.tolist(), strict=True),
        )


def _write(path: Path, header: Sequence[str], lines: Any) -> None:
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(header)
        writer.writerows([_cell(value) for value in line] for line in lines)


def _cell(value: Any) -> Any:
    if isinstance(value, float):
        return f"{value:.6g}" if math.isfinite(value) else ""
    return value
