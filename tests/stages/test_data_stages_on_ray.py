"""Data stages on a real Ray cluster of two nodes, one of which is killed during its work: the same bytes."""

from __future__ import annotations

import logging
import signal
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from stages.rows import ray_cluster
from tests.data_stages import STAGES, long_prompts, make_corpus, run_stage, run_stages
from tests.ray_nodes import Cluster, Node, cluster
from tests.small_corpus import folder_bytes

pytestmark = [pytest.mark.property, pytest.mark.slow]

N_UTTERANCES = 300
STARTED = "ray: a worker started"
DIED = "ray: a worker died"


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Hundreds of real prompts and what the process pool makes of them."""
    folder = tmp_path_factory.mktemp("reference")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VOICE_WORKERS", "2")
        patch.setenv("VOICE_ROW_STORE", str(folder / "rows"))
        make_corpus(folder, long_prompts(N_UTTERANCES))
        run_stages(folder)
    return folder


@pytest.fixture(scope="module")
def head() -> Iterator[Cluster]:
    pytest.importorskip("ray", reason="Ray is optional: `make ray`")
    with (
        tempfile.TemporaryDirectory(prefix="r", ignore_cleanup_errors=True) as folder,
        cluster(Path(folder), head_cpus=0) as made,
    ):
        yield made
        ray_cluster.connect().shutdown()


def wait_for_cpus(count: int) -> None:
    deadline = time.monotonic() + 60
    while ray_cluster.connect().cluster_resources().get("CPU", 0) != count:
        assert time.monotonic() < deadline, ray_cluster.connect().cluster_resources()
        time.sleep(0.2)


def replace_while_it_works(made: Cluster, node: Node, caplog: pytest.LogCaptureFixture) -> None:
    """Freeze the only working node as soon as it has work in hand, start another one, then kill the first."""
    wait_for_workers(1, caplog)
    node.signal(signal.SIGSTOP)
    made.add_node(1)
    wait_for_workers(2, caplog)
    node.kill()


def wait_for_workers(count: int, caplog: pytest.LogCaptureFixture) -> None:
    deadline = time.monotonic() + 60
    while caplog.text.count(STARTED) < count and time.monotonic() < deadline:
        time.sleep(0.002)


@pytest.mark.parametrize("stage", STAGES)
def test_a_node_that_is_killed_costs_time_and_no_bytes(
    stage: str,
    reference: Path,
    head: Cluster,
    workspace: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setenv("VOICE_EXECUTOR", "ray")
    monkeypatch.setenv("VOICE_RAY_ADDRESS", head.address)
    monkeypatch.delenv("VOICE_WORKERS")  # as many workers as the cluster has CPUs, at any time
    monkeypatch.setattr("stages.clean_text.stage.CHUNK_ROWS", 16)
    wait_for_cpus(0)
    node = head.add_node(1)
    wait_for_cpus(1)
    with caplog.at_level(logging.INFO, logger="stages.rows.ray_cluster"):
        killer = threading.Thread(target=replace_while_it_works, args=(head, node, caplog))
        killer.start()
        run_stage(stage, reference, workspace / "out")
        killer.join()
    head.nodes[-1].kill()
    assert caplog.text.count(STARTED) == 2
    assert caplog.text.count(DIED) == 1, "the node died before or after its work"
    assert folder_bytes(workspace / "out") == folder_bytes(reference / stage)
