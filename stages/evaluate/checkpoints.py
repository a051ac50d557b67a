"""Table of kept checkpoints with their scores on validation utterances, for choosing a voice."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from stages.common.errors import PipelineError
from stages.common.files import write_csv

TABLE = "checkpoints.csv"
AVERAGE = "average"
METRICS = ("cer", "wer", "mos", "speaker_similarity", "mcd_db", "f0_rmse_cents", "voicing_error", "duration_error")
COLUMNS = ("step", "folder", "is_voice", "n_utterances", *METRICS)


def kept_checkpoints(voice: Path) -> list[Path]:
    """Return the voice's folder and those of the checkpoints that training kept beside it."""
    return [voice, *sorted(path for path in (voice / "checkpoints").glob("*") if path.is_dir())]


def checkpoint_row(
    voice: Path, folder: Path, metadata: Mapping[str, Any], summary: Mapping[str, float]
) -> dict[str, Any]:
    """Return a checkpoint's row of COLUMNS; `step` is the value of `train.voice` that makes it the voice."""
    return {
        **{name: summary[name] for name in METRICS if name in summary},
        "step": AVERAGE if "averaged_steps" in metadata else metadata["step"],
        "folder": (Path("voice") / folder.relative_to(voice)).as_posix(),
        "is_voice": str(folder == voice).lower(),
        "n_utterances": int(summary["n_utterances"]),
    }


def write_checkpoints(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write a row per checkpoint, ordered by step with the average last; values that were not measured are empty."""
    ordered = sorted(rows, key=lambda row: (row["step"] == AVERAGE, row["step"]))
    write_csv(path, pd.DataFrame(ordered, columns=list(COLUMNS)))


def read_checkpoints(path: Path) -> pd.DataFrame:
    """Return the table of `write_checkpoints`, every cell as text. Raises PipelineError if there is none."""
    try:
        return pd.read_csv(path, dtype=str, keep_default_na=False)
    except FileNotFoundError:
        raise PipelineError(
            f"{path}: no such file; set evaluate.checkpoint_utterances to 16, for example, and train.keep to keep more "
            "than the voice, then run again"
        ) from None
