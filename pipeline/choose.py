"""Choose the voice among the kept checkpoints by what the evaluation measured of them: `python -m pipeline.choose`
(`make choose`).
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from pipeline.params.presets import PARAMS, load_params, save_params
from stages.common.errors import PipelineError
from stages.evaluate.checkpoints import AVERAGE, TABLE, read_checkpoints
from stages.metrics.catalogue import BY_KEY, format_figure

CHECKPOINTS = Path("reports/evaluate") / TABLE
CRITERIA = ("cer", "mos")


def best_checkpoint(rows: Sequence[Mapping[str, str]], by: str) -> Mapping[str, str]:
    """Return the row with the best value of a metric, of equals the first. Raises PipelineError where no row has one."""
    measured = [row for row in rows if row[by]]
    if not measured:
        raise PipelineError(f"{CHECKPOINTS} has no {by}; add it to evaluate.hear and run again")
    pick = max if BY_KEY[by].higher_is_better else min
    return pick(measured, key=lambda row: float(row[by]))


def choose(root: Path, by: str) -> str:
    """Set `train.voice` in the params.yaml of `root` to the best checkpoint, and return in words what was chosen."""
    rows = read_checkpoints(root / CHECKPOINTS)
    best = best_checkpoint(rows, by)
    described = f"{_name(best)} is the best of {len(rows)} checkpoints by {by} on {best['n_utterances']} validation utterances: {_figure(best, by)}"
    if best["is_voice"] == "true":
        return f"{described}. It is the voice already."
    voice = next(row for row in rows if row["is_voice"] == "true")
    params = load_params(root / PARAMS)
    params["train"]["voice"] = AVERAGE if best["step"] == AVERAGE else int(best["step"])
    save_params(params, root / PARAMS)
    return (
        f"{described} (the voice, {_name(voice)}: {_figure(voice, by)}).\n"
        f"{PARAMS}: train.voice is now {best['step']}. `make run` writes and evaluates that voice without training."
    )


def _name(row: Mapping[str, str]) -> str:
    return "the average" if row["step"] == AVERAGE else f"step {row['step']}"


def _figure(row: Mapping[str, str], by: str) -> str:
    return format_figure(float(row[by]) if row[by] else None, BY_KEY[by].unit)


def main(argv: Sequence[str] | None = None) -> int:
    """Choose a voice."""
    parser = argparse.ArgumentParser(
        prog="voice-factory choose", description="Make the best kept checkpoint the voice."
    )
    parser.add_argument(
        "--by", choices=CRITERIA, default=CRITERIA[0], help=f"metric that decides (default: {CRITERIA[0]})"
    )
    try:
        chosen = choose(Path(), parser.parse_args(argv).by)
    except PipelineError as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    sys.stdout.write(f"{chosen}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
