"""Two ranks: one voice, resumed exactly, and the same bytes whether the stage starts them or torchrun does."""

from __future__ import annotations

from pathlib import Path

import pytest

from model.checkpoints.checkpoint import load_checkpoint
from tests.small_corpus import SmallCorpus
from tests.stages.train.program import Program, tiny_values

TORCHRUN = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m")
VALUES = tiny_values(
    ranks=2,
    optimisation__steps=8,
    aligner__steps=2,
    checkpoint_every=2,
    samples={"every": 0, "utterances": 1},
    keep={"last": 1, "best": 1, "by": "mcd_db", "average": 2},
    metrics={"every": 1, "utterances": 3},
)


@pytest.fixture(scope="module")
def uninterrupted(small_corpus: SmallCorpus, tmp_path_factory: pytest.TempPathFactory) -> Program:
    program = Program(tmp_path_factory.mktemp("ranks"), small_corpus)
    program.run(VALUES, forked=True)
    return program


def test_two_ranks_train_one_voice(uninterrupted: Program) -> None:
    checkpoint = load_checkpoint(uninterrupted.folder / "voice", ["synthesizer"])
    assert checkpoint.metadata["step"] == 8 and checkpoint.metadata["lineage"]["n_ranks"] == 2
    assert all(tensor.isfinite().all() for tensor in checkpoint.tensors["synthesizer"].values())


@pytest.mark.slow
def test_a_budget_of_minutes_ends_both_ranks_at_one_step(small_corpus: SmallCorpus, tmp_path: Path) -> None:
    program = Program(tmp_path / "minutes", small_corpus)
    output = program.run(
        {
            **VALUES,
            "optimisation": {**VALUES["optimisation"], "steps": 100_000},
            "budget": {"epochs": None, "minutes": 0.02},
        }
    )
    metadata = load_checkpoint(program.folder / "voice", ["synthesizer"]).metadata
    assert metadata["ended_by"] == "budget.minutes" and 1 <= metadata["step"] < 100_000
    assert f"ended at step {metadata['step']}: budget.minutes" in output


def test_under_torchrun_killed_and_resumed_they_make_the_same_bytes(
    uninterrupted: Program, small_corpus: SmallCorpus, tmp_path: Path
) -> None:
    program = Program(tmp_path / "torchrun", small_corpus)
    watched = program.start(VALUES, launcher=TORCHRUN)
    assert watched.says("step 4: saved"), "\n".join(watched.lines())
    watched.kill()
    assert not (program.folder / "voice").exists() and not (program.folder / "report").exists()
    output = program.run(VALUES, launcher=TORCHRUN)
    assert "resuming from step" in output
    assert program.outputs() == uninterrupted.outputs()
    assert sorted(path.name for path in program.folder.iterdir()) == ["log", "params.yaml", "report", "voice", "work"]
