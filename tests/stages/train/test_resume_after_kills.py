"""The train program killed without warning, at random moments of every kind, ends in the same bits as one that ran
through.
"""

from __future__ import annotations

import random
import signal
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.small_corpus import SmallCorpus
from tests.stages.train.program import Program, Watched, smoke_values


@dataclass(frozen=True)
class Moment:
    """Moment of a kill: within `within_seconds` after a line, and after a file matching `appears` exists, if given."""

    kind: str
    line: str
    within_seconds: float
    appears: str = ""

    def wait(self, watched: Watched, folder: Path, draw: random.Random) -> None:
        """Return when it is time to kill."""
        assert watched.says(self.line), "\n".join(watched.lines())
        if self.appears:
            watched.wait_for(lambda: any(folder.rglob(self.appears)), 10)
        time.sleep(draw.uniform(0.0, self.within_seconds))

    def was_hit(self, lines: list[str]) -> bool:
        """Return whether the killed run's last word was the line: it had not come to the next kind of moment."""
        told = [line for line in lines if "DEBUG stages.train" in line or "steps an epoch" in line]
        return self.line in told[-1]


MOMENTS = (
    Moment("aligner", "steps an epoch", 0.2),
    Moment("step", "step 0: loop starts", 0.1),
    Moment("state", "step 5: saving", 0.0, ".state-*.tmp"),
    Moment("validation", "step 10: validation starts", 0.0),
    Moment("samples", "samples/step-00000010: writing", 0.05),
    Moment("checkpoint", "checkpoints/step-00000010: writing", 0.0, ".synthesizer.tmp"),
    Moment("state", "step 10: saving", 0.005, ".state-*.tmp"),
    Moment("step", "step 15: saved", 0.2),
    Moment("voice", "voice: writing", 0.0, ".synthesizer.tmp"),
    Moment("report", "report: writing", 0.05),
)


@pytest.fixture(scope="module")
def uninterrupted(small_corpus: SmallCorpus, tmp_path_factory: pytest.TempPathFactory) -> Program:
    program = Program(tmp_path_factory.mktemp("uninterrupted"), small_corpus)
    program.run(smoke_values())
    return program


@dataclass(frozen=True)
class Tortured:
    """A program that was killed again and again, the kinds of moments that were hit, and what was seen half-written."""

    program: Program
    killed: list[str]
    half_written: list[str]


@pytest.fixture(scope="module")
def tortured(small_corpus: SmallCorpus, tmp_path_factory: pytest.TempPathFactory) -> Tortured:
    program = Program(tmp_path_factory.mktemp("tortured"), small_corpus)
    draw = random.Random(52)
    killed, half_written = [], []
    for moment in MOMENTS:
        watched = program.start(smoke_values(), forked=True)
        moment.wait(watched, program.folder, draw)
        watched.kill()
        assert watched.status == -signal.SIGKILL, "\n".join(watched.lines())
        assert not (program.folder / "voice").exists() and not (program.folder / "report").exists()
        killed.append(moment.kind if moment.was_hit(watched.lines()) else "elsewhere")
        half_written += [path.name for path in program.folder.rglob(".*.tmp")]
    assert "resuming from step" in program.run(smoke_values(), forked=True)
    return Tortured(program, killed, half_written)


def test_a_run_killed_again_and_again_ends_in_the_same_voice_metrics_pictures_and_samples(
    uninterrupted: Program, tortured: Tortured
) -> None:
    expected, found = uninterrupted.outputs(), tortured.program.outputs()
    assert sorted(found) == sorted(expected)
    assert [name for name in expected if found[name] != expected[name]] == []
    assert any(name.endswith(".wav") for name in expected) and "report/metrics.json" in expected
    assert any(name.startswith("voice/checkpoints/step-000010/synthesizer") for name in expected)


def test_it_was_killed_in_steps_in_writes_in_validation_and_at_the_end(tortured: Tortured) -> None:
    assert len(tortured.killed) >= 10
    assert {"aligner", "step", "state", "validation", "checkpoint", "voice"} <= set(tortured.killed)
    assert any(name.startswith(".state-") for name in tortured.half_written)
    assert any(name.startswith(".synthesizer") for name in tortured.half_written)


def test_what_killed_runs_left_half_written_is_gone(tortured: Tortured) -> None:
    left = [path.relative_to(tortured.program.folder).as_posix() for path in tortured.program.folder.rglob(".*.tmp")]
    assert left == []


def test_two_states_are_kept(tortured: Tortured) -> None:
    assert list(tortured.program.states()) == ["state-00000015.pt", "state-00000020.pt"]


def test_a_finished_run_makes_its_outputs_again_without_training(
    tortured: Tortured, uninterrupted: Program, tmp_path: Path
) -> None:
    before = tortured.program.outputs()
    for name in ("voice", "report"):
        (tortured.program.folder / name).rename(tmp_path / name)
    output = tortured.program.run(smoke_values(), forked=True)
    assert "loop starts" not in output
    assert tortured.program.outputs() == before
