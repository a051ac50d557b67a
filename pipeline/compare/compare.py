"""Two or more experiments against each other: which voice is better, and how sure that is."""

from __future__ import annotations

import argparse
import dataclasses
import logging
import math
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.compare.comparison import Comparison, MetricResult, compare_experiments
from pipeline.compare.experiments import fetch_experiment
from pipeline.compare.page import rating_lines, title_of, write_page
from pipeline.compare.ratings import read_ratings
from stages.common.errors import PipelineError
from stages.common.files import output_folder, work_root, write_json
from stages.common.progress import progress_bar
from stages.evaluate.listening.listening import write_listening_page
from stages.evaluate.renditions import has_renditions

PAGE, LISTENING, NUMBERS, DIFFERENCES = "index.html", "listening.html", "comparison.json", "differences.parquet"
DEFAULT_OUT = Path("comparison")


def compare(root: Path, names: Sequence[str], out: Path, ratings: Sequence[Path] = ()) -> Comparison:
    """Compare experiments by name (see `fetch_experiment`) with the first of them.

    Writes index.html, comparison.json, differences.parquet and, where every evaluation kept its sounds, listening.html.

    `out` is replaced as a whole if it is an earlier comparison. Raises PipelineError with a remedy.
    """
    if len(names) < 2 or len(set(names)) < len(names):
        raise PipelineError(
            "compare: name at least two different experiments: git revisions, DVC experiments or `workspace`"
        )
    if out.exists() and not (out / NUMBERS).is_file() and (not out.is_dir() or any(out.iterdir())):
        raise PipelineError(f"compare: {out} exists and is no earlier comparison; choose another folder with --out")
    work_root().mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="compare-", dir=work_root()) as work:
        experiments = []
        with progress_bar("fetching", len(names), "experiment") as bar:
            for number, name in enumerate(names):
                experiments.append(fetch_experiment(root, name, Path(work) / str(number)))
                bar.update(1)
        comparison = compare_experiments(experiments, read_ratings(ratings, names))
        silent = [experiment.name for experiment in experiments if not has_renditions(experiment.runs[0].report)]
        if silent:
            warning = f"There is no page to listen: the evaluation of {', '.join(silent)} kept no sounds. `dvc repro evaluate` there keeps them."
            comparison = dataclasses.replace(comparison, warnings=(*comparison.warnings, warning))
        with output_folder(out) as folder:
            write_page(folder / PAGE, comparison, listening=None if silent else LISTENING)
            if not silent:
                reports = {experiment.name: experiment.runs[0].report for experiment in experiments}
                write_listening_page(folder / LISTENING, reports, f"Listening: {title_of(comparison)}")
            write_json(folder / NUMBERS, as_json(comparison))
            pq.write_table(differences_table(comparison), folder / DIFFERENCES)
    return comparison


def as_json(comparison: Comparison) -> dict[str, Any]:
    """Return the comparison's numbers for machines; what is not known is null."""
    content = {
        "experiments": [
            {
                "name": experiment.name,
                "runs": [
                    {"revision": run.revision, "commit": run.commit, "step": run.step, "n_utterances": len(run.rows)}
                    for run in experiment.runs
                ],
            }
            for experiment in comparison.experiments
        ],
        "metrics": {result.metric.key: _result(result, comparison.names) for result in comparison.results},
        "groups": [
            {
                "kind": group.kind,
                "name": group.name,
                "n_utterances": group.n_utterances,
                "metrics": {result.metric.key: _result(result, comparison.names) for result in group.results},
            }
            for group in comparison.groups
        ],
        "ratings": [dataclasses.asdict(result) for result in comparison.ratings],
        "params": comparison.params,
        "evaluators": comparison.evaluators,
        "warnings": comparison.warnings,
        "verdicts": comparison.verdicts,
    }
    return dict(_plain(content))


def _result(result: MetricResult, names: Sequence[str]) -> dict[str, Any]:
    first, *others = names
    experiments = {
        name: {**dataclasses.asdict(interval), "seeds": seeds} if interval else None
        for name, interval, seeds in zip(names, result.intervals, result.seeds, strict=True)
    }
    contrasts = {
        name: {**dataclasses.asdict(contrast.difference), "outcome": contrast.outcome, "verdict": contrast.sentence}
        if contrast
        else None
        for name, contrast in zip(others, result.contrasts, strict=True)
    }
    return {
        "unit": result.metric.unit,
        "higher_is_better": result.metric.higher_is_better,
        "recording": result.recording,
        "experiments": experiments,
        f"minus {first}": contrasts,
    }


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _plain(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value if isinstance(value, str | int | float | None) else str(value)


def differences_table(comparison: Comparison) -> pa.Table:
    """Return a row per utterance, metric and experiment: its value, and its difference from the first experiment's (NaN
    where not known).
    """
    rows = [
        {
            "utterance_id": pair.row["utterance_id"],
            "speaker": pair.row["speaker"],
            "language": pair.row["language"],
            "metric": pair.metric.key,
            "experiment": name,
            "value": value,
            "difference": value - pair.values[0],
        }
        for pair in comparison.utterances
        for name, value in zip(comparison.names, pair.values, strict=True)
    ]
    return pa.Table.from_pylist(rows)


def main(argv: Sequence[str] | None = None) -> int:
    """Compare, write the files and end with the verdicts."""
    parser = argparse.ArgumentParser(
        prog="voice-factory compare",
        description="Compare evaluated voices: every metric with its difference from the first "
        "experiment, its 95 % interval and a verdict, in a page that opens from disk.",
    )
    parser.add_argument(
        "experiments",
        nargs="+",
        metavar="EXPERIMENT",
        help="git revision, tag, branch, DVC experiment or `workspace`; "
        "several seeds of one experiment as REV,REV,REV; the others are compared with the first",
    )
    parser.add_argument(
        "--out", type=Path, default=DEFAULT_OUT, help="folder of the page and the numbers (default: comparison)"
    )
    parser.add_argument(
        "--ratings", type=Path, nargs="+", default=[], metavar="FILE", help="listeners' ratings (JSON; see the README)"
    )
    parser.add_argument("--root", type=Path, default=Path("."), help="the project's folder (default: here)")
    options = parser.parse_args(argv)
    logging.basicConfig(level=logging.WARNING)
    try:
        comparison = compare(options.root, options.experiments, options.out, options.ratings)
    except PipelineError as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    pages = {
        what: path.resolve()
        for what, name in (("listen", LISTENING), ("page", PAGE))
        if (path := options.out / name).is_file()
    }
    lines = [
        *(f"warning: {warning}" for warning in comparison.warnings),
        *sentences(comparison),
        *rating_lines(comparison),
        *(f"{what}: {path}" for what, path in pages.items()),
        *(f"verdict: {line}" for line in comparison.verdicts),
    ]
    sys.stdout.write("\n".join(lines) + "\n")
    return 0


def sentences(comparison: Comparison) -> list[str]:
    """Return the verdict of every metric and experiment, a sentence each."""
    return [contrast.sentence for result in comparison.results for contrast in result.contrasts if contrast is not None]


if __name__ == "__main__":
    sys.exit(main())
