"""Deployed runs on a real server and worker: cancelled, timed out, worker or machine killed, server restarted; nothing is left behind."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.objects import FlowRun
from prefect.settings import PREFECT_API_URL, temporary_settings
from prefect.states import Cancelling

from pipeline.dag import changed_stages
from pipeline.environment import child_environment, dvc_command
from pipeline.experiment_clone import saved_experiments
from pipeline.prefect_server import _free_port
from tests.pipeline.comparable_project import ComparableProject
from tests.pipeline.tiny_project import start_tiny_project
from tests.small_corpus import ROOT

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]
CODE = ("pipeline", "stages", "model", "prefect.yaml")


def wait_for(condition: Callable[[], Any], what: str, seconds: float = 90.0) -> Any:
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, f"waited {seconds:g} s for {what}"
        time.sleep(0.1)
    return found


def lives(process_id: int) -> bool:
    try:
        return psutil.Process(process_id).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@dataclass
class Serving:
    """`make serve` in a folder with the flows, and a project whose training waits until it may go on."""

    home: Path
    project: ComparableProject
    port: int
    process: subprocess.Popen[bytes]

    @property
    def processes(self) -> Path:
        return self.home / "processes"

    def client(self) -> SyncPrefectClient:
        return get_client(sync_client=True)

    def start(self) -> None:
        settings = {"TRAIN_SECONDS": "600", "PROCESSES": str(self.processes), "GO_ON": str(self.home / "go_on"),
                    "ATTEMPTS": str(self.home / "attempts")}  # fmt: skip
        environment = {name: value for name, value in child_environment().items() if name != "PREFECT_API_URL"} | settings
        with (self.home / "output").open("ab") as output:
            command = [sys.executable, "-m", "pipeline.worker", "--server", "--port", str(self.port), "--root", str(self.home)]
            self.process = subprocess.Popen(command, cwd=self.home, env=environment, stdout=output, stderr=output)
        wait_for(lambda: (self.home / "output").read_text(encoding="utf-8").count("serving") > self._served, "the server")
        self._served += 1

    _served = 0

    def run(self, deployment: str = "repro/repro", **parameters: Any) -> FlowRun:
        with self.client() as client:
            found = client.read_deployment_by_name(deployment)
            return client.create_flow_run_from_deployment(found.id, parameters={"root": str(self.project.root), **parameters})

    def state(self, run: FlowRun) -> str:
        with self.client() as client:
            return str(client.read_flow_run(run.id).state_name)

    def until(self, run: FlowRun, *states: str) -> None:
        wait_for(lambda: self.state(run) in states, f"the run to be {' or '.join(states)}")

    def training(self) -> list[int]:
        """Return the processes of the training that has begun."""
        text = wait_for(lambda: self.processes.is_file() and self.processes.read_text(encoding="utf-8"), "the training")
        found = [int(number) for number in text.split()]
        assert len(found) == 2 and all(map(lives, found))
        return found

    def go_on(self) -> None:
        """Let training end from now on."""
        (self.home / "go_on").touch()

    def check_free_and_unfinished(self) -> None:
        """DVC's locks are free, and what was finished counts."""
        assert changed_stages(self.project.root) == {"train", "evaluate"}
        subprocess.run(dvc_command("status"), cwd=self.project.root, check=True, capture_output=True, timeout=30)

    def descendants(self) -> list[psutil.Process]:
        return psutil.Process(self.process.pid).children(recursive=True)


@pytest.fixture
def serving(tmp_path: Path) -> Iterator[Serving]:
    home = tmp_path / "home"
    home.mkdir()
    for name in CODE:
        (home / name).symlink_to(ROOT / name)
    port = _free_port()
    found = Serving(home, start_tiny_project(tmp_path / "project"), port, None)  # type: ignore[arg-type]
    found.start()
    with temporary_settings({PREFECT_API_URL: f"http://127.0.0.1:{port}/api"}):
        yield found
    left = found.descendants()
    found.process.terminate()
    found.process.wait(60)
    assert not [process for process in left if lives(process.pid)], "make serve left processes behind"


def test_a_cancelled_run_leaves_nothing_and_the_next_one_goes_on(serving: Serving) -> None:
    run = serving.run()
    training = serving.training()
    with serving.client() as client:
        client.set_flow_run_state(run.id, Cancelling())
    wait_for(lambda: not any(map(lives, training)), "training to end", 60)
    serving.until(run, "Cancelled")
    serving.check_free_and_unfinished()
    serving.go_on()
    again = serving.run()
    serving.until(again, "Completed")
    assert changed_stages(serving.project.root) == set()


def test_a_stage_that_takes_too_long_is_ended(serving: Serving) -> None:
    path = serving.project.root / "dvc.yaml"
    declared = yaml.safe_load(path.read_text(encoding="utf-8"))
    declared["stages"]["train"]["meta"] = {"timeout_seconds": 5}
    path.write_text(yaml.safe_dump(declared, sort_keys=False), encoding="utf-8")
    run = serving.run()
    training = serving.training()
    wait_for(lambda: not any(map(lives, training)), "training to end", 60)
    serving.until(run, "Failed")
    serving.check_free_and_unfinished()


def test_a_killed_worker_leaves_nothing_and_the_next_run_goes_on(serving: Serving) -> None:
    run = serving.run()
    training = serving.training()
    worker = next(process for process in serving.descendants() if process.cmdline()[1:4] == ["-m", "prefect", "worker"])
    worker.kill()
    wait_for(lambda: not any(map(lives, training)), "training to end", 60)
    serving.until(run, "Crashed")
    serving.check_free_and_unfinished()
    serving.go_on()
    again = serving.run()
    serving.until(again, "Completed")


def test_all_killed_and_started_again(serving: Serving) -> None:
    run = serving.run()
    training = serving.training()
    left = serving.descendants()
    serving.process.kill()
    serving.process.wait()
    wait_for(lambda: not any(map(lives, [*training, *(process.pid for process in left)])), "everything to end", 60)
    serving.check_free_and_unfinished()
    serving.go_on()
    serving.start()
    serving.until(run, "Crashed")
    again = serving.run()
    serving.until(again, "Completed")


def test_eight_experiments_two_at_a_time_do_not_mix(serving: Serving) -> None:
    serving.go_on()
    first = serving.run()
    serving.until(first, "Completed")
    serving.project.git("add", "-A")
    serving.project.git("commit", "-qm", "Run")
    rates = {f"rate-{number}": number / 1000 for number in range(1, 9)}
    runs = [serving.run("experiment/experiment", name=name, overrides=[f"train.optimisation.learning_rate={rate}"]) for name, rate in rates.items()]
    at_once = 0
    while not all(serving.state(run) == "Completed" for run in runs):
        states = [serving.state(run) for run in runs]
        at_once = max(at_once, states.count("Running"))
        assert not {"Failed", "Crashed"} & set(states)
        time.sleep(0.3)
    assert at_once == 2
    assert set(saved_experiments(serving.project.root)) == set(rates)
    from pipeline.experiment_flow import metrics

    for name, rate in rates.items():
        assert metrics(serving.project.root, name)["cer"] == pytest.approx(abs(rate - 0.004) * 10 + 0.0052)
