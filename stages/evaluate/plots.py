"""Data files for `dvc plots`: one column per figure, one row per utterance."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from stages.common.files import write_csv
from stages.evaluate.scoring import PREFIXES
from stages.metrics.catalogue import ScoreRow
from stages.metrics.rendition import RECORDING, RESYNTHESIS, SYNTHESIS

UTTERANCE_COLUMNS = [
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
]
VERSION_COLUMNS = ["wer", "cer", "mos"]
HISTOGRAMS = ("mcd_db", "cer")
N_BINS = 12


def write_plots(folder: Path, rows: Sequence[ScoreRow]) -> None:
    """Write utterances.csv (scatter), versions.csv (a row per utterance and version) and NAME_histogram.csv.

    There is a histogram for each of HISTOGRAMS. Missing figures are empty cells.
    """
    folder.mkdir(parents=True, exist_ok=True)
    scores = pd.DataFrame(rows)
    _write(folder / "utterances.csv", scores[UTTERANCE_COLUMNS])
    versions = [
        scores[["utterance_id", *(PREFIXES[version] + name for name in VERSION_COLUMNS)]]
        .set_axis(["utterance_id", *VERSION_COLUMNS], axis=1)
        .assign(version=version)
        for version in (RECORDING, RESYNTHESIS, SYNTHESIS)
    ]
    table = pd.concat(versions).sort_index(kind="stable")  # an utterance's versions one after the other
    _write(folder / "versions.csv", table[["utterance_id", "version", *VERSION_COLUMNS]])
    for name in HISTOGRAMS:
        values = scores[name][np.isfinite(scores[name])]
        counts, edges = np.histogram(values, bins=N_BINS) if len(values) else (np.array([], dtype=int), np.zeros(1))
        _write(
            folder / f"{name}_histogram.csv", pd.DataFrame({name: (edges[:-1] + edges[1:]) / 2, "utterances": counts})
        )


def _write(path: Path, table: pd.DataFrame) -> None:
    write_csv(path, table.replace([np.inf, -np.inf], np.nan), float_format="%.6g")
