"""The pipeline as a user runs it: a fresh copy of the project, the smoke preset, real recordings, real DVC."""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import soundfile

from tests.project_copy import Outcome, ProjectCopy, copy_project, tree_digest
from tests.small_corpus import reasons, utterance_ids

pytestmark = pytest.mark.end_to_end
DATA_STAGES = ("corpus", "resample", "clean_text", "spectrogram", "bert", "split")
STAGES = (*DATA_STAGES, "train", "evaluate", "card")
UNTRACKED = (
    "data/",
    "voice/",
    "reports/",
    "metrics.json",
    "speed.json",
    ".rows/",
    ".work/",
    ".dvc/",
)  # outputs and reusable work, nothing else


@dataclass(frozen=True)
class FirstRun:
    """A project after its first `dvc repro`, with the output of that run and the digest of the recordings before it."""

    project: ProjectCopy
    outcome: Outcome
    recordings_before: str


@pytest.fixture(scope="module")
def first_run(tmp_path_factory: pytest.TempPathFactory) -> FirstRun:
    project = copy_project(tmp_path_factory.mktemp("end_to_end") / "project")
    project.check("pipeline.cli", "preset", "smoke")
    before = tree_digest(project.root / "data" / "recordings")
    return FirstRun(project, project.check("dvc", "repro", VOICE_WORKERS="2"), before)


@pytest.fixture
def project(first_run: FirstRun) -> ProjectCopy:
    return first_run.project


def ran(outcome: Outcome) -> list[str]:
    """Return the stages that DVC ran."""
    return re.findall(r"Running stage '(\w+)'", outcome.output)


def test_every_stage_ran_once_and_showed_its_progress(first_run: FirstRun) -> None:
    assert sorted(ran(first_run.outcome)) == sorted(STAGES)
    shown = first_run.outcome.output
    assert all(re.search(rf"{name} finished: [\d.]+ s", shown) for name in STAGES)
    assert all(
        f"{name}: 100%" in shown for name in ("corpus", "resample", "clean_text", "spectrogram", "bert", "train")
    )
    assert "Traceback" not in shown


def test_every_declared_output_exists(project: ProjectCopy) -> None:
    for name in DATA_STAGES:
        folder = project.root / "data" / name
        kept, rejected = (pq.read_metadata(folder / f"{file}.parquet").num_rows for file in (name, "rejects"))
        assert kept > 0 and kept + rejected >= 40
    reports = (
        "train/metrics.json",
        "train/curves.png",
        "evaluate/utterances.parquet",
        "evaluate/renditions.parquet",
        "evaluate/index.html",
        "card/card.md",
        "card/card.html",
    )
    for path in ("voice/metadata.json", "metrics.json", *(f"reports/{name}" for name in reports)):
        assert (project.root / path).is_file()


def test_every_stage_keeps_or_rejects_each_of_its_inputs(project: ProjectCopy) -> None:
    ids = {name: set(utterance_ids(project.root / f"data/{name}/{name}.parquet")) for name in DATA_STAGES}
    rejected = {name: set(reasons(project.root / "data" / name)) for name in DATA_STAGES}
    for name, source in (
        ("resample", "corpus"),
        ("clean_text", "corpus"),
        ("spectrogram", "resample"),
        ("bert", "clean_text"),
        ("split", "corpus"),
    ):
        assert ids[name] | rejected[name] == ids[source] and not ids[name] & rejected[name]


def test_the_recordings_are_untouched(first_run: FirstRun) -> None:
    assert tree_digest(first_run.project.root / "data" / "recordings") == first_run.recordings_before


def test_nothing_is_written_beside_the_declared_outputs(project: ProjectCopy) -> None:
    changed = project.git("status", "--porcelain", "--untracked-files=all").splitlines()
    assert {line[3:] for line in changed} <= {"params.yaml", "dvc.lock"}
    ignored = [
        line[3:] for line in project.git("status", "--porcelain", "--ignored").splitlines() if line.startswith("!!")
    ]
    assert [path for path in ignored if not path.startswith(UNTRACKED) and "__pycache__" not in path] == []
    outputs = {
        path.relative_to(project.root).as_posix()
        for folder in ("data", "reports")
        for path in (project.root / folder).iterdir()
    }
    assert outputs == {
        "data/recordings",
        *(f"data/{name}" for name in DATA_STAGES),
        "reports/train",
        "reports/evaluate",
        "reports/card",
    }


def test_the_summary_fits_a_screen_and_names_the_report(project: ProjectCopy) -> None:
    shown = project.check("pipeline.cli", "summary").stdout
    assert all(name in shown for name in DATA_STAGES)
    assert "20 steps" in shown and "minutes" in shown and "over_limit" in shown
    assert str(project.root / "reports/evaluate/index.html") in shown
    assert len(shown.splitlines()) <= 40


def test_the_metrics_are_finite_and_plausible(project: ProjectCopy) -> None:
    metrics, speed = (
        json.loads((project.root / name).read_text(encoding="utf-8")) for name in ("metrics.json", "speed.json")
    )
    names = {
        "cer",
        "wer",
        "recording_cer",
        "recording_wer",
        "mcd_db",
        "voicing_error",
        "duration_error",
        "mos",
        "recording_mos",
        "noise_cer",
        "speaker_similarity",
        "recording_speaker_similarity",
        "noise_speaker_similarity",
        "energy_rmse_db",
        "duration_ratio",
    }
    assert names <= set(metrics) and all(math.isfinite(value) for value in metrics.values())
    assert (
        "f0_rmse_cents" in metrics or metrics["n_unscored"] > 0
    )  # a voice that only hums may share no voiced frame with a recording
    assert metrics["n_utterances"] == 3
    assert metrics["recording_cer"] < 0.2 and metrics["recording_mos"] > 3.0
    assert 0.0 <= metrics["voicing_error"] <= 1.0 and 0 < speed["real_time_factor"] < 1 and metrics["mcd_db"] > 0


class Addresses(HTMLParser):
    """Every address that a page loads or links to."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.extend(
            value for name, value in attrs if name in ("src", "href", "srcset", "data", "poster") and value
        )


def test_the_report_opens_from_disk_without_a_network(project: ProjectCopy) -> None:
    folder = project.root / "reports" / "evaluate"
    page = (folder / "index.html").read_text(encoding="utf-8")
    assert not re.search(r"(?:src|href|url)\s*[=(]\s*[\"']?\s*(?:https?:)?//", page) and "@import" not in page
    addresses = Addresses()
    addresses.feed(page)
    assert all(address.startswith(("data:", "#")) for address in addresses.found), "one file, whole by itself"
    assert page.count("data:audio/flac;base64,") == 9 and len(list((folder / "audio").glob("*.flac"))) == 9


def test_a_second_run_does_nothing(project: ProjectCopy) -> None:  # what that costs: `python -m bench nothing_to_do`
    outcome = project.check("dvc", "repro")
    assert ran(outcome) == []
    assert "Data and pipelines are up to date." in outcome.output


def test_a_training_parameter_changes_only_training(project: ProjectCopy) -> None:
    before = (project.root / "params.yaml").read_bytes()
    project.set_params(train__optimisation__learning_rate=0.002)
    try:
        status = json.loads(project.check("dvc", "status", "--json").stdout)
        assert sorted(status) == ["train"]
    finally:
        (project.root / "params.yaml").write_bytes(before)
    assert json.loads(project.check("dvc", "status", "--json").stdout) == {}


def test_an_edited_loss_changes_only_training(project: ProjectCopy) -> None:
    path = project.root / "model" / "training" / "losses.py"
    before = path.read_bytes()
    path.write_bytes(before + b"\n# a remark\n")
    try:
        assert sorted(json.loads(project.check("dvc", "status", "--json").stdout)) == ["train"]
    finally:
        path.write_bytes(before)


def test_the_voice_speaks_a_text(project: ProjectCopy, tmp_path: Path) -> None:
    shown = project.check(
        "pipeline.cli", "say", "--text", "Your call is important to us.", "--out", str(tmp_path / "said.wav")
    ).stderr
    samples, rate_hz = soundfile.read(tmp_path / "said.wav")
    assert rate_hz == 16000 and samples.ndim == 1
    assert 0.3 < len(samples) / rate_hz < 30 and np.isfinite(samples).all() and np.abs(samples).max() > 1e-3
    assert len(np.unique(samples)) > 100
    assert "s of speech" in shown


@pytest.mark.parametrize(
    ("arguments", "message"),
    [(("--text", "…"), "error: "), (("--text", "Hi.", "--voice", "nowhere"), "nowhere: no voice there")],
)
def test_an_error_of_synthesis_is_one_clear_line(
    project: ProjectCopy, tmp_path: Path, arguments: tuple[str, ...], message: str
) -> None:
    outcome = project.run("model.inference.say", *arguments, "--out", str(tmp_path / "said.wav"))
    assert outcome.status == 1 and message in outcome.stderr
    assert [line for line in outcome.stderr.splitlines() if line.startswith("error: ")] == outcome.stderr.splitlines()
    assert not (tmp_path / "said.wav").exists()


def test_a_misspelt_parameter_is_one_clear_line_and_leaves_no_output(project: ProjectCopy) -> None:
    before = (project.root / "params.yaml").read_bytes()
    text = before.decode().replace("  test_share: ", "  test_shares: ")
    (project.root / "params.yaml").write_text(text, encoding="utf-8")
    try:
        outcome = project.run("dvc", "repro")
        errors = [line for line in outcome.output.splitlines() if line.startswith("error: ")]
        assert outcome.status != 0 and ran(outcome) == ["split"]
        assert (
            len(errors) == 1
            and "split: unknown test_shares; valid: salt, validation_share" in errors[0]
            and "test_share is missing" in errors[0]
        )
        assert not (project.root / "data" / "split").exists() and "Traceback" not in outcome.output
    finally:
        (project.root / "params.yaml").write_bytes(before)
    outcome = project.check("dvc", "repro")
    assert "up to date" in outcome.output or ran(outcome) == []
    assert (project.root / "data/split/split.parquet").is_file() and (project.root / "voice/metadata.json").is_file()


@pytest.mark.slow  # by default the data stages but split are run alone, from scratch, elsewhere and with other workers
def test_another_copy_without_rows_and_with_one_worker_makes_the_same_bytes(
    project: ProjectCopy, tmp_path: Path
) -> None:
    other = copy_project(tmp_path / "another_place")
    other.check("pipeline.cli", "preset", "smoke")
    other.check("dvc", "repro", "split", VOICE_WORKERS="1")
    assert other.output_hashes(*DATA_STAGES) == project.output_hashes(*DATA_STAGES)


def test_the_flow_reports_what_is_up_to_date(project: ProjectCopy) -> None:
    outcome = project.check("pipeline.repro.flow")
    assert all(f"{name}" in outcome.output for name in STAGES)
    assert outcome.output.count("UpToDate") >= len(STAGES)
    assert ran(outcome) == []
    assert "Error logging to API" not in outcome.output, "the server ended before Prefect had told it everything"


@pytest.mark.slow
def test_the_flow_runs_what_changed_and_leaves_dvc_nothing_to_do(project: ProjectCopy) -> None:
    before = (project.root / "params.yaml").read_bytes(), (project.root / "dvc.lock").read_bytes()
    project.set_params(split__salt="another")
    outcome = project.check("pipeline.repro.flow")
    assert sorted(ran(outcome)) == ["card", "evaluate", "split", "train"]
    assert json.loads(project.check("dvc", "status", "--json").stdout) == {}
    again = project.check("dvc", "repro")
    assert ran(again) == []
    (project.root / "params.yaml").write_bytes(before[0])
    (project.root / "dvc.lock").write_bytes(before[1])
    project.check("dvc", "checkout")


@pytest.mark.slow
def test_the_onnx_graphs_give_the_same_speech(project: ProjectCopy, tmp_path: Path) -> None:
    project.check("model.inference.export_onnx", "--voice", "voice", "--out", str(tmp_path / "onnx"))
    spoken = []
    for voice in ("voice", str(tmp_path / "onnx")):
        project.check(
            "model.inference.say", "--voice", voice, "--text", "Hello world.", "--out", str(tmp_path / "said.wav")
        )
        spoken.append(soundfile.read(tmp_path / "said.wav", dtype="float32")[0])
    assert spoken[0].shape == spoken[1].shape and abs(spoken[0]).max() > 0.001
    assert abs(spoken[0] - spoken[1]).max() < 0.02
