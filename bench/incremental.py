"""What a small change costs: `dvc repro` of the data stages on 3,300 real clips, from nothing and after changes of many kinds.

Every run is a user's: in a clone of the last commit, with DVC. What counts is CPU time beyond the fixed start-up, which is that
of one more clip: DVC, the stages' programs, a worker process where one is needed, the text encoder. Rows are those that the
stages say they compute; the growth of DVC's cache is set beside the shards of the utterances that changed, and the manifests.
"""

from __future__ import annotations

import csv
import hashlib
import re
import shutil
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from bench import recordings
from bench.common import Result
from bench.project_clone import Cost, ProjectClone, clone_project
from bench.speech import Clip
from stages.common.shards import shard_count, shard_hash, shard_path

STAGES = ("corpus", "resample", "clean_text", "spectrogram", "bert")  # those that work row by row; split joins them
FOLDER = Path("data/recordings/bench")
SHARE = 0.01
TARGET = 0.05
HOP_SAMPLES = 200  # 256 in the preset
_ROWS = re.compile(r"(\w+): (\d+) in all, (\d+) rows to compute")
_SECONDS = re.compile(r"(\w+) finished: [\d.]+ s, ([\d.]+) CPU s")
_RAN = re.compile(r"Running stage '(\w+)'")
_MEGABYTE = 1e6


@dataclass(frozen=True)
class Case:
    """One change of the project: `apply` makes it and returns the utterances it concerns, of which `sharded` stages change the bytes."""

    name: str
    apply: Callable[[], Iterable[str]]
    sharded: tuple[str, ...] = ()
    small: bool = False
    options: tuple[str, ...] = ()


@dataclass(frozen=True)
class Measured:
    """What a run did: rows and CPU seconds by stage, its cost, and bytes that DVC's cache grew by, beside those that had to change."""

    case: Case
    rows: dict[str, int]
    stage_seconds: dict[str, float]
    cost: Cost
    grown_bytes: int
    concerned_bytes: int


class Corpus:
    """The recordings and transcripts in the clone, and what is done to them."""

    def __init__(self, source: Path, names: set[str], out: Path) -> None:
        with (source / "transcripts.csv").open(encoding="utf-8", newline="") as stream:
            rows = [row for row in csv.DictReader(stream) if _utterance(row) in names]
        by_hash = sorted(rows, key=lambda row: hashlib.sha256(row["audio"].encode()).digest())
        self._source, self._out = source, out
        self._n_few = round(SHARE * len(rows))
        self._rows = by_hash[self._n_few :]
        self._waiting = by_hash[: self._n_few]
        self._one = self._rows.pop()
        self._copy(self._rows)

    @property
    def n_rows(self) -> int:
        """How many clips there are at the moment."""
        return len(self._rows)

    def _copy(self, rows: Sequence[dict[str, str]]) -> None:
        for row in rows:
            (self._out / row["audio"]).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(self._source / row["audio"], self._out / row["audio"])
        with (self._out / "transcripts.csv").open("w", encoding="utf-8", newline="") as stream:
            writer = csv.DictWriter(stream, list(self._rows[0]), lineterminator="\n")
            writer.writeheader()
            writer.writerows(self._rows)

    def add_one(self) -> list[str]:
        """Add one clip."""
        self._rows.append(self._one)
        self._copy([self._one])
        return [_utterance(self._one)]

    def change_transcript(self) -> list[str]:
        """Give one clip other words."""
        self._rows[0]["text"] = "Other words than before."
        self._copy([])
        return [_utterance(self._rows[0])]

    def replace_recording(self) -> list[str]:
        """Put two recordings, one after the other, in place of one; G.722 has no header."""
        first, second = [row for row in self._rows[1:] if row["audio"].endswith(".g722")][:2]
        (self._out / first["audio"]).write_bytes((self._source / first["audio"]).read_bytes() + (self._source / second["audio"]).read_bytes())
        return [_utterance(first)]

    def add(self) -> list[str]:
        """Add the clips that were held back."""
        self._rows += self._waiting
        self._copy(self._waiting)
        return [_utterance(row) for row in self._waiting]

    def delete(self) -> list[str]:
        """Delete as many others."""
        gone = self._rows[2 : 2 + self._n_few]
        del self._rows[2 : 2 + self._n_few]
        for row in gone:
            (self._out / row["audio"]).unlink()
        self._copy([])
        return [_utterance(row) for row in gone]


def _utterance(row: dict[str, str]) -> str:
    return row["audio"].rsplit(".", 1)[0]


def set_params(root: Path) -> None:
    """Make the clone's params those of the corpus."""
    path = root / "params.yaml"
    params = yaml.safe_load(path.read_text(encoding="utf-8"))
    params["corpus"] |= {"recordings": str(FOLDER), "transcripts": str(FOLDER / "transcripts.csv"), "max_utterances": None}
    path.write_text(yaml.safe_dump(params, sort_keys=False), encoding="utf-8")


def change_hop(root: Path) -> list[str]:
    """Change a param of the spectrogram stage."""
    path = root / "params.yaml"
    params = yaml.safe_load(path.read_text(encoding="utf-8"))
    params["spectrogram"]["hop_samples"] = HOP_SAMPLES
    path.write_text(yaml.safe_dump(params, sort_keys=False), encoding="utf-8")
    return []


def change_code(root: Path) -> list[str]:
    """Change the resample stage's code in a way that leaves its results as they are."""
    with (root / "stages" / "resample.py").open("a", encoding="utf-8") as stream:
        stream.write("\n# changed\n")
    return []


def rows_computed(output: str, corpus_rows: int) -> dict[str, int]:
    """Return stage → rows that a run computed; stages that did not run are left out, one that does not count its rows did all of them."""
    counted = {name: int(computed) for name, _, computed in _ROWS.findall(output)}
    return {name: counted.get(name, corpus_rows) for name in _RAN.findall(output) if name in STAGES}


def _bytes_below(folder: Path, pattern: str = "*") -> int:
    return sum(path.stat().st_size for path in folder.rglob(pattern) if path.is_file())


def concerned_bytes(data: Path, stages: Sequence[str], utterances: Iterable[str], n_rows: int) -> int:
    """Return the size of the shards of some stages that hold any of the utterances, and of all manifests."""
    shards = {shard_hash(utterance) % shard_count(n_rows) for utterance in utterances}
    paths = [shard_path(data / stage, shard) for stage in stages for shard in shards]
    return sum(path.stat().st_size for path in paths if path.is_file()) + _bytes_below(data, "*.parquet")


def measure(project: ProjectClone, corpus: Corpus, case: Case) -> Measured:
    """Make a case's change and run the data stages."""
    changed = list(case.apply())
    cache = project.root / ".dvc" / "cache"
    before = _bytes_below(cache)
    cost = project.run("dvc", "repro", *case.options, "split")
    concerned = concerned_bytes(project.root / "data", case.sharded, changed, corpus.n_rows)
    seconds = {name: float(cpu) for name, cpu in _SECONDS.findall(cost.output)}
    return Measured(case, rows_computed(cost.output, corpus.n_rows), seconds, cost, _bytes_below(cache) - before, concerned)


def incremental(clips: list[Clip], scratch: Path) -> Result:
    """CPU time beyond start-up of the dearest small change, as a share of a full run; all cases are in the note."""
    project = clone_project(scratch / "project")
    project.run("pipeline.presets", "smoke")
    set_params(project.root)
    corpus = Corpus(recordings.fetch_once(), {clip.name for clip in clips}, project.root / FOLDER)
    everything = ("resample", "spectrogram", "bert")
    cases = [
        Case("from nothing", list), Case("nothing changed", list), Case("all stages again, no row", list, options=("-f",)),
        Case("one more clip", corpus.add_one, everything, small=True), Case("one transcript", corpus.change_transcript, ("bert",), small=True),
        Case("one recording", corpus.replace_recording, ("resample", "spectrogram"), small=True),
        Case("1 % more clips", corpus.add, everything, small=True), Case("1 % fewer clips", corpus.delete, everything, small=True),
        Case("spectrogram.hop_samples", lambda: change_hop(project.root)), Case("code of resample", lambda: change_code(project.root)),
    ]  # fmt: skip
    runs = [measure(project, corpus, case) for case in cases]
    full, _, _, start_up, *changes = runs
    shares = {run.case.name: (run.cost.cpu_seconds - start_up.cost.cpu_seconds) / full.cost.cpu_seconds for run in changes}
    worst = max(shares[run.case.name] for run in changes if run.case.small)
    head = f"{len(clips)} real clips, smoke preset's data stages, a clone of the last commit; rows computed and (CPU s) by stage"
    return Result(name="incremental", ours=worst, reference=1.0, ratio=None, limit_share=None, target=TARGET,
                  target_of="ours_at_most", unit="share of a full run", rounds=1, note="\n".join([head, *_table(runs, shares)]))  # fmt: skip


def _table(runs: Sequence[Measured], shares: dict[str, float]) -> list[str]:
    header = ["run", *STAGES, "split", "wall s", "CPU s", "beyond one more clip", "cache grew MB", "shards, manifests MB"]
    lines = [header]
    for run in runs:
        stages = [f"{run.rows.get(stage, '')} ({run.stage_seconds[stage]:.1f})".strip() if stage in run.stage_seconds else "–"
                  for stage in (*STAGES, "split")]  # fmt: skip
        share = f"{shares[run.case.name]:.1%}" if run.case.name in shares else ""
        concerned = f"{run.concerned_bytes / _MEGABYTE:.1f}" if run.case.small else ""
        lines.append([run.case.name, *stages, f"{run.cost.wall_seconds:.1f}", f"{run.cost.cpu_seconds:.1f}", share,
                      f"{run.grown_bytes / _MEGABYTE:.1f}", concerned])  # fmt: skip
    widths = [max(len(line[column]) for line in lines) for column in range(len(header))]
    return ["  ".join([line[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(line[1:], widths[1:], strict=True))]) for line in lines]
