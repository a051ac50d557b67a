"""Ray: the same results as the process pool, errors as they were raised, and workers that may die."""

from __future__ import annotations

import os
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from stages.common.errors import PipelineError, RowRejected, StageError
from stages.rows import ray_cluster
from stages.rows.executors import map_unordered
from stages.rows.machine_settings import THREAD_SETTINGS
from tests.ray_nodes import Cluster, cluster


def on_a_cluster(test: Callable[..., None]) -> Callable[..., None]:
    return pytest.mark.slow(pytest.mark.usefixtures("on_ray")(test))


def test_without_ray_the_remedy_is_named(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VOICE_EXECUTOR", "ray")
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(PipelineError, match="Ray is not installed; run `make ray`"):
        list(map_unordered(square, [1, 2]))


def square(number: int) -> int:
    return number**2


def fail(number: int) -> int:
    if number == 5:
        raise StageError("anna/005", "shards/5.bin", "is missing")
    if number == 50:
        raise RowRejected("odd", "fifty", lasting=False)
    return number


def surroundings(_: int) -> dict[str, str | None]:
    return {name: os.environ.get(name) for name in (*THREAD_SETTINGS, "MKL_CBWR")} | {"folder": str(Path.cwd())}


def die_over(bad: int, number: int) -> int:
    if number == bad:
        os.kill(os.getpid(), signal.SIGKILL)
    return number


@pytest.fixture(scope="module")
def one_node() -> Iterator[Cluster]:
    pytest.importorskip("ray", reason="Ray is optional: `make ray`")
    with (
        tempfile.TemporaryDirectory(prefix="r", ignore_cleanup_errors=True) as folder,
        cluster(Path(folder), head_cpus=2) as made,
    ):
        yield made
        ray_cluster.connect().shutdown()


@pytest.fixture
def on_ray(one_node: Cluster, workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (workspace / "machine.env").write_text(
        f"# this machine\nVOICE_EXECUTOR = ray\nVOICE_RAY_ADDRESS={one_node.address}\n", encoding="utf-8"
    )
    monkeypatch.setenv("VOICE_WORKERS", "2")


@on_a_cluster
def test_every_item_gives_its_result() -> None:
    assert sorted(map_unordered(square, iter(range(300)))) == [number**2 for number in range(300)]


@on_a_cluster
def test_errors_come_back_as_they_were_raised() -> None:
    with pytest.raises(StageError) as stage_error:
        list(map_unordered(fail, range(20)))
    assert (
        str(stage_error.value) == "shards/5.bin, utterance 'anna/005': is missing"
        and stage_error.value.utterance_id == "anna/005"
    )
    with pytest.raises(RowRejected) as rejected:
        list(map_unordered(fail, [50, 51]))
    assert (rejected.value.reason, rejected.value.lasting) == ("odd", False)


@on_a_cluster
def test_workers_have_one_thread_the_drivers_kernels_and_its_folder(
    workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MKL_CBWR", "AVX2,STRICT")
    for found in map_unordered(surroundings, range(2)):
        assert found == dict.fromkeys(THREAD_SETTINGS, "1") | {"MKL_CBWR": "AVX2,STRICT", "folder": str(workspace)}


@on_a_cluster
def test_an_item_that_kills_its_worker_is_given_up_and_the_others_are_done() -> None:
    found = list(map_unordered(partial(die_over, 3), range(12), give_up=lambda number: -number))
    assert sorted(found) == [-3, 0, 1, 2, *range(4, 12)]


@on_a_cluster
def test_a_node_that_could_give_other_bytes_ends_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    here = ray_cluster.describe_node(False)
    monkeypatch.setattr(ray_cluster, "describe_node", lambda _: here | {"torch": "1.0"})
    with pytest.raises(PipelineError, match=r"Ray node .*: torch is .* there and 1\.0 here"):
        list(map_unordered(square, [1, 2]))
