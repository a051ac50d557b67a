"""The data stages are pure functions of their inputs, whatever happened before and whoever does the work: byte for
byte.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from stages.rows.store import store_folder
from tests.data_stages import (
    STAGES,
    keep_rows,
    long_prompts,
    make_corpus,
    manifest_of,
    run_stage,
    run_stages,
    shuffle_rows,
    start_stage,
)
from tests.small_corpus import folder_bytes

N_KILLS = 10
N_SHORT = 40  # more than two chunks of recordings
N_LONG = 400


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Some prompts and what the four stages make of them from scratch, one worker."""
    folder = tmp_path_factory.mktemp("reference")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VOICE_WORKERS", "1")
        patch.setenv("VOICE_ROW_STORE", str(folder / "rows"))
        make_corpus(folder, long_prompts(N_SHORT))
        run_stages(folder)
        yield folder


@pytest.fixture
def inputs(reference: Path, workspace: Path) -> Path:
    """A copy of the inputs that a test may change, and an empty row store."""
    for name in ("corpus", "resample", "clean_text"):
        shutil.copytree(reference / name, workspace / "inputs" / name)
    shutil.copyfile(reference / "lexicon.tsv", workspace / "inputs" / "lexicon.tsv")
    return workspace / "inputs"


def outcome(stage: str, inputs: Path, name: str) -> dict[str, bytes]:
    run_stage(stage, inputs, inputs.parent / name)
    return folder_bytes(inputs.parent / name)


@pytest.mark.property
@pytest.mark.parametrize("stage", STAGES)
def test_from_scratch_again_incremental_and_in_another_order_are_the_same_bytes(
    stage: str, reference: Path, inputs: Path
) -> None:
    expected = folder_bytes(reference / stage)
    manifest = inputs / manifest_of(stage)
    whole = manifest.read_bytes()
    keep_rows(manifest, range(pq.read_metadata(manifest).num_rows - 5))
    assert outcome(stage, inputs, "part") != expected
    manifest.write_bytes(whole)
    assert outcome(stage, inputs, "incremental") == expected
    assert outcome(stage, inputs, "nothing to do") == expected
    shutil.rmtree(store_folder(stage))
    for seed in range(3):
        shuffle_rows(manifest, seed)
        assert outcome(stage, inputs, f"shuffled {seed}") == expected
        if seed == 1:
            shutil.rmtree(store_folder(stage))


@pytest.mark.property
@pytest.mark.parametrize("stage", STAGES)
def test_a_store_damaged_at_random_is_mended_to_the_same_bytes(
    stage: str, reference: Path, inputs: Path, caplog: pytest.LogCaptureFixture
) -> None:
    expected = folder_bytes(reference / stage)
    assert outcome(stage, inputs, "first") == expected
    choice = random.Random(stage)
    for damage in range(5):
        for pack in store_folder(stage).glob("*.pack"):
            data = bytearray(pack.read_bytes())
            data[choice.randrange(len(data))] ^= 1 << choice.randrange(8)
            pack.write_bytes(data[: choice.randrange(len(data))] if damage == 4 else data)
        caplog.clear()
        assert outcome(stage, inputs, f"damaged {damage}") == expected
        assert "row store" in caplog.text


@pytest.mark.property
@pytest.mark.parametrize("stage", ["resample", "spectrogram"])
def test_two_workers_give_the_same_bytes_as_one(
    stage: str, reference: Path, inputs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VOICE_WORKERS", "2")
    assert outcome(stage, inputs, "two") == folder_bytes(reference / stage)


@pytest.fixture(scope="module")
def long_reference(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Hundreds of prompts and what the stages make of them in one go, by two worker processes."""
    folder = tmp_path_factory.mktemp("long_reference")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VOICE_WORKERS", "2")
        patch.setenv("VOICE_ROW_STORE", str(folder / "rows"))
        make_corpus(folder, long_prompts(N_LONG))
        run_stages(folder)
    return folder


@pytest.mark.property
@pytest.mark.slow
@pytest.mark.usefixtures("workspace")
@pytest.mark.parametrize("stage", STAGES)
def test_one_worker_gives_the_same_bytes_as_two(stage: str, long_reference: Path) -> None:
    run_stage(stage, long_reference, Path("one").absolute())
    assert folder_bytes(Path("one")) == folder_bytes(long_reference / stage)


@pytest.mark.property
@pytest.mark.slow
@pytest.mark.parametrize("stage", STAGES)
def test_killed_ten_times_and_run_again_gives_the_same_bytes(stage: str, long_reference: Path, tmp_path: Path) -> None:
    environment = {
        **os.environ,
        "VOICE_ROW_STORE": str(tmp_path / "rows"),
        "VOICE_WORK_DIR": str(tmp_path / "work"),
        "VOICE_WORKERS": "2",
    }
    log = tmp_path / "log"
    moments = random.Random(stage)
    started = time.monotonic()
    whole = start_stage(
        stage, long_reference, tmp_path / "whole", {**environment, "VOICE_ROW_STORE": str(tmp_path / "other")}, log
    )
    assert whole.wait() == 0, log.read_text()[-3000:]
    seconds = time.monotonic() - started
    for _ in range(N_KILLS):
        process = start_stage(stage, long_reference, tmp_path / "out", environment, log)
        try:
            process.wait(moments.uniform(0.3, 1.0) * seconds)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    last = start_stage(stage, long_reference, tmp_path / "out", environment, log)
    assert last.wait() == 0, log.read_text()[-3000:]
    assert folder_bytes(tmp_path / "out") == folder_bytes(tmp_path / "whole") == folder_bytes(long_reference / stage)
    assert not list(tmp_path.glob(".out.*")), "half-written output of a killed run is still there"
