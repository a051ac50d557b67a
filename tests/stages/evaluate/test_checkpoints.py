"""Scores of kept checkpoints on validation utterances."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from model.inference.voice import Voice
from stages.common import manifests
from stages.common.errors import PipelineError
from stages.evaluate import stage as evaluate
from stages.evaluate.checkpoints import METRICS, read_checkpoints, write_checkpoints
from stages.evaluate.stage import EvaluateParams
from tests.small_corpus import SmallCorpus
from tests.stages.train.program import Program

SWAPPED = {"test": "validation", "validation": "test"}
KEEP = {"last": 2, "best": 0, "by": "mel", "average": 2}


class Evaluations:
    """The evaluate stage over one voice, with a row store shared by its evaluations."""

    def __init__(self, root: Path, corpus: SmallCorpus, voice: Path) -> None:
        self.root = root
        self.corpus = corpus
        self.voice = voice

    def run(self, name: str, split: Path | None = None, checkpoint_utterances: int = 0) -> dict[str, float]:
        """Evaluate and return metrics.json; the report is the folder `name`."""
        params = EvaluateParams(None, None, None, None, 1.0, 0, ("mos", "speaker_similarity"), 1, checkpoint_utterances)
        report, metrics, speed = self.root / name, self.root / f"{name}.json", self.root / "speed.json"
        evaluate.main(split or self.corpus.split, self.corpus.resample, self.voice, report, metrics, speed, params)
        found: dict[str, float] = json.loads(metrics.read_text(encoding="utf-8"))
        return found

    def split_with(self, subsets: dict[str, str]) -> Path:
        """Write the split with subsets renamed."""
        table = manifests.read_manifest(self.corpus.split / "split.parquet", manifests.SPLIT)
        rows = [{**row, "subset": subsets.get(row["subset"], row["subset"])} for row in table.to_pylist()]
        folder = self.root / "split"
        folder.mkdir(exist_ok=True)
        manifests.write_manifest(
            folder / "split.parquet", manifests.table_from_rows(rows, manifests.SPLIT, manifests.metadata_of(table))
        )
        return folder


@pytest.fixture(scope="module")
def evaluations(small_corpus: SmallCorpus, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Evaluations]:
    """A voice of step 24 beside which step 18 and the average of both were kept."""
    root = tmp_path_factory.mktemp("evaluations")
    program = Program(root / "program", small_corpus)
    program.run(forked=True, keep=KEEP)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VOICE_ROW_STORE", str(root / "rows"))
        patch.setenv("VOICE_WORK_DIR", str(root / "work"))
        patch.setenv("VOICE_DEVICE", "cpu")
        yield Evaluations(root, small_corpus, program.folder / "voice")


def test_a_checkpoints_figures_are_those_of_an_evaluation_on_the_validation_set(
    evaluations: Evaluations, monkeypatch: pytest.MonkeyPatch
) -> None:
    spoken: list[list[str]] = []
    render_all = evaluate.render_all

    def watched(voice: Voice, rows: list[dict[str, Any]], *rest: Any) -> Any:
        spoken.append([row["subset"] for row in rows])
        return render_all(voice, rows, *rest)

    monkeypatch.setattr(evaluate, "render_all", watched)
    alone = evaluations.run("alone")
    assert len(spoken) == 1 and not (evaluations.root / "alone" / "checkpoints.csv").exists()
    measured = evaluations.run("measured", checkpoint_utterances=1000)
    assert measured == alone, "the voice's own figures do not depend on it"
    assert [set(subsets) for subsets in spoken[1:]] == [{"test"}, {"validation"}, {"validation"}, {"validation"}]
    rows = read_checkpoints(evaluations.root / "measured" / "checkpoints.csv").to_dict("records")
    assert [(row["step"], row["folder"], row["is_voice"]) for row in rows] == [
        ("18", "voice/checkpoints/step-000018", "false"),
        ("24", "voice", "true"),
        ("average", "voice/checkpoints/average", "false"),
    ]
    assert len({row["mcd_db"] for row in rows}) == 3 and all(
        float(row["cer"]) >= 0 and 1 <= float(row["mos"]) <= 5 for row in rows
    )
    swapped = evaluations.run("swapped", evaluations.split_with(SWAPPED))
    expected = {name: swapped.get(name) for name in METRICS}
    assert {name: float(rows[1][name]) if rows[1][name] else None for name in METRICS} == expected
    assert swapped["n_utterances"] == int(rows[1]["n_utterances"])


def test_cached_sounds_are_not_computed_again(evaluations: Evaluations, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO"):
        evaluations.run("first", checkpoint_utterances=1)
        first = evaluations.root / "first" / "checkpoints.csv"
        caplog.clear()
        evaluations.run("again", checkpoint_utterances=1)
    lines = [record.message for record in caplog.records if "to compute" in record.message]
    assert len(lines) == 4 and all(", 0 to compute," in line for line in lines)
    assert (evaluations.root / "again" / "checkpoints.csv").read_bytes() == first.read_bytes()
    assert set(read_checkpoints(first)["n_utterances"]) == {"1"}


def test_without_other_checkpoints_or_utterances_there_is_no_table(evaluations: Evaluations, tmp_path: Path) -> None:
    alone = tmp_path / "voice"
    alone.mkdir()
    for path in evaluations.voice.glob("*.*"):
        (alone / path.name).write_bytes(path.read_bytes())
    of_one = Evaluations(tmp_path, evaluations.corpus, alone)
    of_one.run("one", checkpoint_utterances=1)
    assert not (tmp_path / "one" / "checkpoints.csv").exists()
    with pytest.raises(
        PipelineError, match=r"one/checkpoints.csv: no such file; set evaluate.checkpoint_utterances to 16"
    ):
        read_checkpoints(tmp_path / "one" / "checkpoints.csv")


def test_rows_are_in_the_order_of_training_and_the_average_is_last(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [
        {"step": step, "folder": "", "is_voice": "false", "n_utterances": 1} for step in ("average", 1000, 250)
    ]
    write_checkpoints(tmp_path / "checkpoints.csv", rows)
    assert list(read_checkpoints(tmp_path / "checkpoints.csv")["step"]) == ["250", "1000", "average"]
