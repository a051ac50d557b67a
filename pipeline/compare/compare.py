"""Compare experiments: which voice is better, with what confidence."""

from __future__ import annotations

import argparse
import dataclasses
import math
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from model.printable import error_line, printable
from pipeline.compare.comparison import Comparison, MetricResult, compare_experiments
from pipeline.compare.experiments import fetch_experiment
from pipeline.compare.page import rating_lines, title_of, write_page
from pipeline.compare.ratings import read_ratings
from stages.common.command import configure_logging
from stages.common.errors import PipelineError
from stages.common.files import output_folder, work_root, write_json
from stages.common.progress import progress_bar
from stages.evaluate.listening.listening import write_listening_page
from stages.evaluate.renditions import has_renditions

PAGE, LISTENING, NUMBERS, DIFFERENCES = "index.html", "listening.html", "comparison.json", "differences.parquet"
DEFAULT_OUT = Path("comparison")


def compare(root: Path, names: Sequence[str], out: Path, ratings: Sequence[Path] = ()) -> Comparison:
    """Compare experiments by name (see `fetch_experiment`) with the first of them.

    Write index.html, comparison.json, differences.parquet and, if every evaluation kept its audio, listening.html into
    `out`, which is replaced if it is an earlier comparison. Raises PipelineError.
    """
    if len(names) < 2 or len(set(names)) < len(names):
        raise PipelineError(
            "compare: pass at least two different experiments: git revisions, DVC experiments or `workspace`"
        )
    if out.exists() and not (out / NUMBERS).is_file() and (not out.is_dir() or any(out.iterdir())):
        raise PipelineError(f"compare: {out} exists and is not an earlier comparison; choose another folder with --out")
    work_root().mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="compare-", dir=work_root()) as work:
        experiments = []
        with progress_bar("fetching", len(names), "experiment") as bar:
            for number, name in enumerate(names):
                experiments.append(fetch_experiment(root, name, Path(work) / str(number)))
                bar.update(1)
        comparison = compare_experiments(experiments, read_ratings(ratings, names))
        without_audio = [experiment.name for experiment in experiments if not has_renditions(experiment.runs[0].report)]
        if without_audio:
            warning = (
                f"No listening page: {', '.join(without_audio)} was evaluated before audio was stored; "
                "run `dvc repro evaluate` there."
            )
            comparison = dataclasses.replace(comparison, warnings=(*comparison.warnings, warning))
        with output_folder(out) as folder:
            write_page(folder / PAGE, comparison, listening=None if without_audio else LISTENING)
            if not without_audio:
                reports = {experiment.name: experiment.runs[0].report for experiment in experiments}
                write_listening_page(folder / LISTENING, reports, f"Listening: {title_of(comparison)}")
            write_json(folder / NUMBERS, as_json(comparison))
            differences_table(comparison).to_parquet(folder / DIFFERENCES, index=False)
    return comparison


def as_json(comparison: Comparison) -> dict[str, Any]:
    """Return the comparison's numbers as JSON values; unknown ones are null."""
    content = {
        "experiments": [
            {
                "name": experiment.name,
                "runs": [
                    {
                        "revision": run.revision,
                        "commit": run.commit,
                        "step": run.step,
                        "n_utterances": len(run.utterances),
                    }
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


def differences_table(comparison: Comparison) -> pd.DataFrame:
    """Return a row per metric, utterance and experiment: value and difference from the first, NaN if unknown."""
    values = comparison.utterances.rename_axis(columns="experiment")
    differences = values.sub(values[comparison.names[0]], axis=0)
    table = pd.DataFrame({"value": values.stack(), "difference": differences.stack()}).reset_index()
    facts = comparison.experiments[0].runs[0].utterances[["speaker", "language"]]
    columns = ["utterance_id", "speaker", "language", "metric", "experiment", "value", "difference"]
    return table.join(facts, on="utterance_id")[columns]


def main(argv: Sequence[str] | None = None) -> int:
    """Compare, write the files and print the verdicts."""
    parser = argparse.ArgumentParser(
        prog="voice-factory compare",
        description="Compare evaluated voices: every metric with its difference from the first experiment, "
        "a 95 % interval and a verdict, on a page that opens from disk.",
    )
    parser.add_argument(
        "experiments",
        nargs="+",
        metavar="EXPERIMENT",
        help="git revision, tag, branch, DVC experiment or `workspace`; "
        "several seeds of one experiment as REV,REV,REV; the first is the baseline",
    )
    parser.add_argument("--out", type=Path, default=DEFAULT_OUT, help="output folder (default: comparison)")
    parser.add_argument(
        "--ratings",
        type=Path,
        nargs="+",
        default=[],
        metavar="FILE",
        help="listeners' ratings as JSON (format: docs/evaluation.md)",
    )
    parser.add_argument("--root", type=Path, default=Path("."), help="project folder (default: .)")
    options = parser.parse_args(argv)
    configure_logging("WARNING")
    try:
        comparison = compare(options.root, options.experiments, options.out, options.ratings)
    except PipelineError as error:
        sys.stderr.write(f"{error_line(error)}\n")
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
    sys.stdout.write(printable("\n".join(lines)) + "\n")
    return 0


def sentences(comparison: Comparison) -> list[str]:
    """Return one sentence for every metric and experiment but the first."""
    return [contrast.sentence for result in comparison.results for contrast in result.contrasts if contrast is not None]


if __name__ == "__main__":
    sys.exit(main())
