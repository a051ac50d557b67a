"""The summary: what a run kept, rejected, trained and measured, on one screen."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from pipeline.repro.summary import markdown_summary, minutes_of_speech, text_summary, utterance_counts
from stages.common import manifests
from stages.evaluate.checkpoints import write_checkpoints
from stages.rows.outcomes import outcome_writer
from tests.small_corpus import ROOT


def write_stage(
    root: Path,
    name: str,
    rows: list[dict[str, Any]],
    kind: Any,
    reasons: list[str],
    facts: dict[str, Any] | None = None,
) -> None:
    n_input = len(rows) + len(reasons)
    with outcome_writer(root / "data" / name, name, kind, facts or {}, n_input=n_input, max_reject_share=1.0) as writer:
        for row in rows:
            writer.keep(row)
        for index, reason in enumerate(reasons):
            writer.reject(f"r{index}", reason, "detail")


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A folder as a run leaves it, with two stages."""
    resampled = [
        {
            "utterance_id": f"a/{index}",
            "shard": 0,
            "offset_bytes": 0,
            "n_samples": 960_000,
            "pcm_xxh3": "",
            "gain_db": 0.0,
            "trimmed_start_seconds": 0.0,
            "trimmed_end_seconds": 0.0,
        }
        for index in range(4)
    ]
    write_stage(tmp_path, "resample", resampled, manifests.RESAMPLE, ["damaged_audio", "silent_audio", "damaged_audio"])
    split = [
        {
            "utterance_id": f"a/{index}",
            "subset": subset,
            "speaker": "a",
            "language": "EN",
            "synthetic": False,
            "text": "",
            "phones": [],
            "tones": [],
            "pcm_shard": 0,
            "pcm_offset_bytes": 0,
            "n_samples": 960_000,
            "spectrogram_shard": 0,
            "spectrogram_offset_bytes": 0,
            "n_frames": 1,
            "bert_spans": [],
            "phone_tokens": [],
        }
        for index, subset in enumerate(("train", "train", "validation", "test"))
    ]
    write_stage(tmp_path, "split", split, manifests.SPLIT, [], {"resample": {"sample_rate_hz": 16000}})
    (tmp_path / "voice").mkdir()
    (tmp_path / "voice" / "metadata.json").write_text(
        json.dumps({"metadata": {"step": 123, "source_note": "read by a person"}}), encoding="utf-8"
    )
    (tmp_path / "metrics.json").write_text(
        json.dumps({"n_utterances": 3, "cer": 0.25, "recording_cer": 0.05, "mcd_db": 6.5}), encoding="utf-8"
    )
    (tmp_path / "reports" / "evaluate").mkdir(parents=True)
    (tmp_path / "reports" / "evaluate" / "index.html").touch()
    return tmp_path


def test_rejects_are_counted_by_reason(run: Path) -> None:
    assert utterance_counts(run).to_numpy().tolist() == [
        ["resample", 4, 3, "damaged_audio 2, silent_audio 1"],
        ["split", 4, 0, "-"],
    ]


def test_minutes_of_speech_by_subset(run: Path) -> None:
    assert minutes_of_speech(run) == {"train": 2.0, "validation": 1.0, "test": 1.0}


def test_one_screen_tells_it_all(run: Path) -> None:
    shown = text_summary(run)
    for part in (
        "resample         4         3  damaged_audio 2, silent_audio 1",
        "4.0 minutes (train 2.0, validation 1.0, test 1.0)",
        "123 steps",
        "read by a person",
        "3 held-out utterances",
        str((run / "reports/evaluate/index.html").resolve()),
    ):
        assert part in shown
    assert len(shown.splitlines()) <= 40 and max(map(len, shown.splitlines())) <= 160


def test_kept_checkpoints_are_listed_with_what_they_are_worth(run: Path) -> None:
    rows = [
        {
            "step": 100,
            "folder": "voice/checkpoints/step-000100",
            "is_voice": "false",
            "n_utterances": 2,
            "cer": 0.5,
            "mos": "",
        },
        {"step": 123, "folder": "voice", "is_voice": "true", "n_utterances": 2, "cer": 0.25, "mos": 3.125},
    ]
    write_checkpoints(run / "reports" / "evaluate" / "checkpoints.csv", rows)
    shown = text_summary(run).splitlines()
    assert "voice/checkpoints/step-000100" in "".join(shown) and any(
        line.split() == ["123", "voice", "0.250", "3.125"] for line in shown
    )


def test_markdown_holds_the_same_numbers(run: Path) -> None:
    shown = markdown_summary(run)
    assert "| resample | 4 | 3 | damaged_audio 2, silent_audio 1 |" in shown and "| cer | 0.25 |" in shown


def test_a_folder_without_results_is_no_error(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pipeline.repro.summary", "--root", str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0 and "utterances" in done.stdout and "training" not in done.stdout
