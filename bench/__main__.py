"""Run benchmarks: `python -m bench [NAME ...]`. Writes bench/NAME.json and prints one table."""

from __future__ import annotations

import argparse
import multiprocessing
import sys
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from bench import recordings as bench_recordings
from bench.common import Result, table, write_result
from bench.registry import BENCHMARKS, limit_threads, run_benchmark
from bench.speech import SpeechMissingError, kept_speech, read_clips
from stages.common.errors import PipelineError
from stages.common.files import work_root
from stages.common.progress import progress_bar
from stages.common.stage import configure_logging

CONDITIONS = "one thread, process CPU seconds, medians of interleaved rounds, {n_clips} real clips (16 kHz, upsampled where a rate is named)"


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Return the command line's values; an unknown name ends the program with the valid ones."""
    parser = argparse.ArgumentParser(prog="python -m bench", description="Our way beside the usual way, in one run.")
    parser.add_argument("names", nargs="*", metavar="NAME", help="benchmarks to run (default: all)")
    parser.add_argument("--list", action="store_true", help="list the benchmarks and leave")
    parser.add_argument("--recordings", type=Path, metavar="PATH",
                        help=f"a folder with transcripts.csv (default: {bench_recordings.folder()}, fetched once with apt)")  # fmt: skip
    parser.add_argument("--out", type=Path, default=Path(__file__).parent, metavar="PATH", help="folder for NAME.json")
    options = parser.parse_args(arguments)
    unknown = [name for name in options.names if name not in BENCHMARKS]
    if unknown:
        parser.error(f"no benchmark {', '.join(map(repr, unknown))}; there are {', '.join(BENCHMARKS)}")
    return options


def run_all(names: Sequence[str], speech: Path, out: Path) -> tuple[list[Result], dict[str, str]]:
    """Run benchmarks on decoded speech one after the other, each in a fresh process; returns results and, by name, what went wrong."""
    results, failures = [], {}
    context = multiprocessing.get_context("spawn")
    with (
        progress_bar("bench", len(names), "benchmark") as bar,
        ProcessPoolExecutor(1, mp_context=context, max_tasks_per_child=1) as pool,
    ):
        for name in names:
            bar.set_postfix_str(name)
            try:
                results.append(pool.submit(run_benchmark, name, speech).result())
                write_result(out, results[-1])
            except Exception as error:  # one broken benchmark must not hide the others' figures
                failures[name] = f"{type(error).__name__}: {error}"
            bar.update(1)
    return results, failures


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what the command line asks for; exit status 1 when a benchmark failed (not when a target is missed)."""
    options = parse(arguments)
    if options.list:
        width = max(map(len, BENCHMARKS))
        sys.stdout.write("".join(f"{name.ljust(width)}  {benchmark.summary}\n" for name, benchmark in BENCHMARKS.items()))
        return 0
    options.out.mkdir(parents=True, exist_ok=True)
    limit_threads()
    configure_logging()
    try:
        speech = kept_speech(options.recordings or bench_recordings.fetch_once(), work_root() / "bench" / "speech")
    except (PipelineError, SpeechMissingError) as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    results, failures = run_all(options.names or list(BENCHMARKS), speech, options.out)
    if results:
        sys.stdout.write(f"{table(results)}\n\n{CONDITIONS.format(n_clips=len(read_clips(speech)))}\n")
    for name, reason in failures.items():
        sys.stderr.write(f"error: {name}: {reason}\n")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
