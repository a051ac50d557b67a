"""Choose the voice among the kept checkpoints by a metric of their evaluation (`make choose`)."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from model.printable import error_line, printable
from pipeline.params.presets import PARAMS, load_params, save_params
from stages.common.errors import PipelineError
from stages.evaluate.checkpoints import AVERAGE, TABLE, read_checkpoints
from stages.metrics.catalogue import BY_KEY, format_figure

CHECKPOINTS = Path("reports/evaluate") / TABLE
CRITERIA = ("cer", "mos")


def best_checkpoint(checkpoints: pd.DataFrame, by: str) -> pd.Series[Any]:
    """Return the row with the best value of a metric, the first of equals. Raises PipelineError if none has a value."""
    measured = checkpoints.dropna(subset=by)
    if measured.empty:
        raise PipelineError(f"{CHECKPOINTS} has no {by}; add it to evaluate.hear and run again")
    values = measured[by]
    return measured.iloc[values.argmax() if BY_KEY[by].higher_is_better else values.argmin()]


def choose(root: Path, by: str) -> str:
    """Set `train.voice` in the params.yaml of `root` to the best checkpoint and return a description of the choice."""
    checkpoints = read_checkpoints(root / CHECKPOINTS)
    checkpoints[by] = pd.to_numeric(checkpoints[by])
    best = best_checkpoint(checkpoints, by)
    description = (
        f"{_name(best)} is the best of {len(checkpoints)} checkpoints by {by} "
        f"on {best['n_utterances']} validation utterances: {format_figure(best[by], BY_KEY[by].unit)}"
    )
    if best["is_voice"] == "true":
        return f"{description}. It is already the voice."
    voice = checkpoints[checkpoints["is_voice"] == "true"].iloc[0]
    params = load_params(root / PARAMS)
    params["train"]["voice"] = AVERAGE if best["step"] == AVERAGE else int(best["step"])
    save_params(params, root / PARAMS)
    return (
        f"{description} (the voice, {_name(voice)}: {format_figure(voice[by], BY_KEY[by].unit)}).\n"
        f"{PARAMS}: train.voice is now {best['step']}. `make run` writes and evaluates that voice without training."
    )


def _name(checkpoint: pd.Series[Any]) -> str:
    return "the average" if checkpoint["step"] == AVERAGE else f"step {checkpoint['step']}"


def main(argv: Sequence[str] | None = None) -> int:
    """Choose a voice."""
    parser = argparse.ArgumentParser(
        prog="voice-factory choose", description="Make the best kept checkpoint the voice."
    )
    parser.add_argument("--by", choices=CRITERIA, default=CRITERIA[0], help=f"metric (default: {CRITERIA[0]})")
    try:
        chosen = choose(Path(), parser.parse_args(argv).by)
    except PipelineError as error:
        sys.stderr.write(f"{error_line(error)}\n")
        return 1
    sys.stdout.write(printable(f"{chosen}\n"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
