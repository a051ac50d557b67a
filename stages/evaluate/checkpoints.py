"""The table of kept checkpoints: what each is worth on validation utterances, for `pipeline.choose`."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from stages.common.errors import PipelineError

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
    """Return a checkpoint's row of COLUMNS; `step` is what `train.voice` takes to make it the voice."""
    step = AVERAGE if "averaged_steps" in metadata else metadata["step"]
    place = {
        "step": step,
        "folder": (Path("voice") / folder.relative_to(voice)).as_posix(),
        "is_voice": str(folder == voice).lower(),
    }
    return {**place, "n_utterances": int(summary["n_utterances"]), **{name: summary.get(name, "") for name in METRICS}}


def write_checkpoints(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write a row per checkpoint in the order of their steps, the average last; what could not be measured is empty."""
    ordered = sorted(rows, key=lambda row: (row["step"] == AVERAGE, row["step"]))
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(ordered)


def read_checkpoints(path: Path) -> list[dict[str, str]]:
    """Return the rows of `write_checkpoints`. Raises PipelineError where the evaluation measured no checkpoints."""
    try:
        with path.open(encoding="utf-8", newline="") as stream:
            return list(csv.DictReader(stream))
    except FileNotFoundError:
        raise PipelineError(
            f"{path}: no such file; set evaluate.checkpoint_utterances to 16, say, let train.keep keep more than the voice, "
            "and run again"
        ) from None
