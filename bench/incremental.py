"""What does a small change cost?

Measured in a throw-away clone of the last commit, on the laptop's corpus (the default recordings) with all rows stored:
one change after the other, each followed by `dvc repro split`. CPU seconds are those of the whole command with all its
children; nothing is subtracted. Rows are those that the stages report as computed.
"""

from __future__ import annotations

import csv
import hashlib
import inspect
import re
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.harness.common import Result
from bench.harness.project_clone import RECORDINGS, ROOT, ProjectClone, clone_laptop_project
from bench.harness.speech import is_spoken
from stages.resample.stage import process

STAGES = ("corpus", "resample", "clean_text", "spectrogram", "bert")  # those that work row by row; split joins them
SHARE = 0.01
MIN_CHANGED_BYTES = 16_000  # two seconds of G.722, long enough for every stage
HOP_SAMPLES = 200  # 256 in the preset
_ROWS = re.compile(r"(\w+): (\d+) in all, (\d+) rows to compute")
_SECONDS = re.compile(r"(\w+) finished: [\d.]+ s, ([\d.]+) CPU s")
_RAN = re.compile(r"Running stage '(\w+)'")
_MEGABYTE = 1e6


@dataclass(frozen=True)
class Case:
    """One change of the project, and the CPU seconds that `dvc repro split` may take after it."""

    name: str
    description: str
    apply: Callable[[], None]
    target_cpu_seconds: float | None = None
    options: tuple[str, ...] = ()


class Corpus:
    """The recordings and transcripts in a project, and changes of them; some recordings are held back to be added."""

    def __init__(self, source: Path, out: Path) -> None:
        with (source / "transcripts.csv").open(encoding="utf-8", newline="") as stream:
            rows = [row for row in csv.DictReader(stream) if (source / row["audio"]).is_file()]
        self._source, self._out = source, out
        self._changeable = sorted(filter(self._is_changeable, rows), key=_order)
        self._n_few = max(2, round(SHARE * len(rows)))
        self._waiting = [self._changeable.pop() for _ in range(1 + self._n_few)]
        waiting = {row["audio"] for row in self._waiting}
        self.rows = [row for row in rows if row["audio"] not in waiting]
        for row in self._waiting:
            (out / row["audio"]).unlink(missing_ok=True)
        self._write_transcripts()

    def _is_changeable(self, row: dict[str, str]) -> bool:
        return is_spoken(row["text"]) and (self._source / row["audio"]).stat().st_size >= MIN_CHANGED_BYTES

    def _write_transcripts(self) -> None:
        with (self._out / "transcripts.csv").open("w", encoding="utf-8", newline="") as stream:
            writer = csv.DictWriter(stream, list(self.rows[0]), lineterminator="\n")
            writer.writeheader()
            writer.writerows(self.rows)

    def _add(self, rows: Sequence[dict[str, str]]) -> None:
        for row in rows:
            shutil.copyfile(self._source / row["audio"], self._out / row["audio"])
        self.rows += rows
        self._write_transcripts()

    def add_one(self) -> None:
        """Add one recording with its transcript."""
        self._add([self._waiting.pop()])

    def add_share(self) -> None:
        """Add all other recordings that were held back."""
        self._add(self._waiting)
        self._waiting = []

    def change_transcript(self) -> None:
        """Replace the text of one recording."""
        self._changeable[0]["text"] = "Other words than before."
        self._write_transcripts()

    def replace_recording(self) -> None:
        """Replace one recording by two joined ones; G.722 has no header."""
        first, second = ((self._source / row["audio"]) for row in self._changeable[1:3])
        (self._out / self._changeable[1]["audio"]).write_bytes(first.read_bytes() + second.read_bytes())

    def delete_share(self) -> None:
        """Delete as many recordings as `add_share` adds."""
        deleted = {row["audio"] for row in self._changeable[3 : 3 + self._n_few]}
        for audio in deleted:
            (self._out / audio).unlink()
        self.rows = [row for row in self.rows if row["audio"] not in deleted]
        self._write_transcripts()


def _order(row: dict[str, str]) -> bytes:
    return hashlib.sha256(row["audio"].encode()).digest()


def add_comment(root: Path) -> None:
    """Append a comment to the code of the resample stage."""
    source = Path(inspect.getfile(process)).relative_to(ROOT)
    with (root / source).open("a", encoding="utf-8") as stream:
        stream.write("\n# a comment\n")


def rows_computed(output: str) -> dict[str, int | None]:
    """Return stage → rows that a run computed, for every stage that ran; None for one that does not report rows."""
    counted = {name: int(computed) for name, _, computed in _ROWS.findall(output)}
    return {name: counted.get(name) for name in _RAN.findall(output) if name in STAGES}


def measure(project: ProjectClone, case: Case) -> Result:
    """Make a change and run the data stages."""
    case.apply()
    cache = project.root / ".dvc" / "cache"
    before = _bytes_below(cache)
    cost = project.run("dvc", "repro", *case.options, "split")
    seconds = dict(_SECONDS.findall(cost.output))
    ran = [
        f"{stage} {'?' if rows is None else rows} rows {seconds.get(stage, '?')} CPU s"
        for stage, rows in rows_computed(cost.output).items()
    ]
    grown = (_bytes_below(cache) - before) / _MEGABYTE
    return Result(
        name=f"incremental_{case.name}",
        ours=cost.cpu_seconds,
        unit="CPU s",
        target=case.target_cpu_seconds,
        target_of="ours_at_most",
        note=f"{case.description}: {cost.wall_seconds:.1f} s of wall time, DVC cache grew by {grown:.1f} MB; "
        f"{', '.join(ran) or 'no stage ran'}",
    )


def _bytes_below(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def run(scratch: Path) -> list[Result]:
    """Measure the data stages from nothing, all again on stored rows, and after changes of many kinds."""
    project = clone_laptop_project(scratch / "project")
    corpus = Corpus(ROOT / RECORDINGS, project.root / RECORDINGS)
    cases = [
        Case("from_nothing", f"{len(corpus.rows)} recordings, no row stored", lambda: None),
        Case("all_stages", "all data stages again (-f), all rows stored", lambda: None, 12.0, options=("-f",)),
        Case("transcript", "one transcript edited", corpus.change_transcript, 10.0),
        Case("one_clip", "one more recording", corpus.add_one),
        Case("recording", "one recording replaced", corpus.replace_recording),
        Case("more_clips", "1 % more recordings", corpus.add_share),
        Case("fewer_clips", "1 % fewer recordings", corpus.delete_share),
        Case(
            "param",
            "spectrogram.hop_samples",
            lambda: project.change_params({"spectrogram": {"hop_samples": HOP_SAMPLES}}),
        ),
        Case("comment", "a comment in the code of resample", lambda: add_comment(project.root)),
    ]
    return [measure(project, case) for case in cases]
