"""Run benchmarks: `python -m bench [NAME ...]`. Writes bench/NAME.json and prints one table."""

from __future__ import annotations

import argparse
import multiprocessing
import sys
import textwrap
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from bench.harness import recordings as bench_recordings
from bench.harness.common import Result, limit_threads, summary, table, write_result
from bench.harness.registry import benchmarks, run_benchmark
from stages.common.command import configure_logging
from stages.common.progress import progress_bar

CONDITIONS = (
    "one thread, process CPU seconds, medians of interleaved rounds; commands of DVC: CPU seconds of the command "
    "and all its children; clips are real, 16 kHz, upsampled where a rate is named"
)


def parse(arguments: Sequence[str] | None, questions: dict[str, str]) -> argparse.Namespace:
    """Return the command line's values; an unknown name ends the program with the valid ones."""
    width = max(map(len, questions))
    listed = "\n".join(f"  {name.ljust(width)}  {question}" for name, question in questions.items())
    parser = argparse.ArgumentParser(
        prog="python -m bench",
        description="Measure costs beside the usual way and beside their targets, in one run.",
        epilog=f"benchmarks:\n{listed}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="benchmarks to run (default: all)")
    parser.add_argument("--list", action="store_true", help="print the benchmarks and their questions")
    parser.add_argument(
        "--recordings",
        type=Path,
        metavar="PATH",
        help=f"a folder with transcripts.csv (default: {bench_recordings.folder()}, fetched once with apt)",
    )
    parser.add_argument("--out", type=Path, default=Path(__file__).parent, metavar="PATH", help="folder for NAME.json")
    options = parser.parse_args(arguments)
    if unknown := [name for name in options.names if name not in questions]:
        parser.error(f"no benchmark {', '.join(map(repr, unknown))}; there are {', '.join(questions)}")
    if options.list:
        sys.stdout.write(f"{textwrap.dedent(listed)}\n")
    return options


def run_all(names: Sequence[str], recordings: Path | None, out: Path) -> tuple[list[Result], dict[str, str]]:
    """Run benchmarks one after the other, each in a fresh process; returns results and, by name, errors."""
    results: list[Result] = []
    failures = {}
    context = multiprocessing.get_context("spawn")
    with (
        progress_bar("bench", len(names), "benchmark") as bar,
        ProcessPoolExecutor(1, mp_context=context, max_tasks_per_child=1) as pool,
    ):
        for name in names:
            bar.set_postfix_str(name)
            try:
                found = pool.submit(run_benchmark, name, recordings).result()
            except Exception as error:  # one failed benchmark must not hide the others' figures
                failures[name] = f"{type(error).__name__}: {error}"
            else:
                results += found
                for result in found:
                    write_result(out, result)
            bar.update(1)
    return results, failures


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmarks of a command line; exit status 1 when one failed (not when a target is missed)."""
    questions = benchmarks()
    options = parse(arguments, questions)
    if options.list:
        return 0
    options.out.mkdir(parents=True, exist_ok=True)
    limit_threads()
    configure_logging()
    results, failures = run_all(options.names or list(questions), options.recordings, options.out)
    if results:
        sys.stdout.write(f"{table(results)}\n\n{CONDITIONS}\n{summary(results)}\n")
    for name, reason in failures.items():
        sys.stderr.write(f"error: {name}: {reason}\n")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
