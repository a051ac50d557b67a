"""Deployed runs on a real server and worker: cancelled, timed out, killed, restarted; no process is left."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.objects import FlowRun
from prefect.states import Cancelling

from pipeline.deployments.deploy import deploy
from pipeline.experiments.clone import saved_experiments
from pipeline.experiments.flow import metrics
from pipeline.processes.environment import child_environment, dvc_command
from pipeline.processes.prefect_server import HOME, Api, free_port, home_secret, server
from pipeline.processes.run import service
from pipeline.repro.dag import changed_stages
from tests.pipeline.compare.comparable_project import ComparableProject
from tests.pipeline.tiny_project import start_tiny_project
from tests.small_corpus import ROOT
from tests.waiting import lives, wait_for

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]
CODE = ("pipeline", "stages", "model", "prefect.yaml")


@dataclass
class Serving:
    """`make serve` in a folder with the flows, and a project whose training waits until it may go on."""

    home: Path
    project: ComparableProject
    port: int
    process: subprocess.Popen[bytes]
    settings: dict[str, str] = field(default_factory=dict)

    @property
    def processes(self) -> Path:
        return self.home / "processes"

    def api(self) -> Api:
        return Api(f"http://127.0.0.1:{self.port}/api", home_secret(self.home / HOME))

    def client(self) -> SyncPrefectClient:
        return get_client(sync_client=True)

    def start(self) -> None:
        settings = {
            **self.settings,
            "TRAIN_SECONDS": "600",
            "PROCESSES": str(self.processes),
            "GO_ON": str(self.home / "go_on"),
            "ATTEMPTS": str(self.home / "attempts"),
        }
        environment = {
            name: value for name, value in child_environment().items() if name != "PREFECT_API_URL"
        } | settings
        with (self.home / "output").open("ab") as output:
            command = [
                sys.executable,
                "-m",
                "pipeline.deployments.worker",
                "--server",
                "--port",
                str(self.port),
                "--root",
                str(self.home),
            ]
            self.process = subprocess.Popen(command, cwd=self.home, env=environment, stdout=output, stderr=output)
        wait_for(
            lambda: (self.home / "output").read_text(encoding="utf-8").count("serving") > self._served, "the server"
        )
        self._served += 1

    _served = 0

    def run(self, deployment: str = "repro/repro", **parameters: Any) -> FlowRun:
        with self.client() as client:
            found = client.read_deployment_by_name(deployment)
            return client.create_flow_run_from_deployment(
                found.id, parameters={"root": str(self.project.root), **parameters}
            )

    def state(self, run: FlowRun) -> str:
        with self.client() as client:
            return str(client.read_flow_run(run.id).state_name)

    def events(self, name: str) -> list[dict[str, Any]]:
        with self.client() as client:
            answer = client._client.post("/events/filter", json={"filter": {"event": {"name": [name]}}})
        found: list[dict[str, Any]] = answer.raise_for_status().json()["events"]
        return found

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

    def check_next_run_goes_on(self) -> None:
        """Another run takes up what is left, and completes."""
        self.go_on()
        self.until(self.run(), "Completed")

    def descendants(self) -> list[psutil.Process]:
        return psutil.Process(self.process.pid).children(recursive=True)


@contextlib.contextmanager
def served(tmp_path: Path, **settings: str) -> Iterator[Serving]:
    """Yield a running `make serve` in a new folder; nothing of it may be left afterwards."""
    home = tmp_path / "home"
    home.mkdir()
    for name in CODE:
        (home / name).symlink_to(ROOT / name)
    port = free_port()
    found = Serving(home, start_tiny_project(tmp_path / "project"), port, None, settings)  # type: ignore[arg-type]
    found.start()
    with found.api().connected():
        yield found
    left = found.descendants()
    found.process.terminate()
    found.process.wait(60)
    assert not [process for process in left if lives(process.pid)], "make serve left processes behind"


@pytest.fixture
def serving(tmp_path: Path) -> Iterator[Serving]:
    with served(tmp_path) as found:
        yield found


@pytest.fixture
def database(tmp_path: Path) -> Iterator[str]:
    """A PostgreSQL server of one's own with the extension that Prefect needs; yields its address."""
    programs = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    if not programs or os.getuid() != 0:
        pytest.skip("needs PostgreSQL (apt-get install postgresql) and root, to run it as another user")
    folder = Path(tempfile.mkdtemp(prefix="postgres-"))
    shutil.chown(folder, "postgres")
    port = free_port()

    def run(program: str, *arguments: str) -> None:
        subprocess.run(
            [
                "setpriv",
                "--reuid=postgres",
                "--regid=postgres",
                "--clear-groups",
                str(programs[-1] / program),
                *arguments,
            ],
            check=True,
            capture_output=True,
            cwd=folder,
        )

    run("initdb", "--pgdata", str(folder / "data"), "--auth", "trust", "--username", "voice")
    options = f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={folder}"
    run(
        "pg_ctl",
        "start",
        "--wait",
        "--pgdata",
        str(folder / "data"),
        "--log",
        str(folder / "log"),
        "--options",
        options,
    )
    try:
        run("createdb", "--host", "127.0.0.1", "--port", str(port), "--username", "voice", "prefect")
        run(
            "psql",
            "--host",
            "127.0.0.1",
            "--port",
            str(port),
            "--username",
            "voice",
            "prefect",
            "--command",
            "CREATE EXTENSION pg_trgm",
        )
        yield f"postgresql+asyncpg://voice@127.0.0.1:{port}/prefect"
    finally:
        run("pg_ctl", "stop", "--mode", "fast", "--pgdata", str(folder / "data"))
        shutil.rmtree(folder)


def test_postgresql_keeps_the_runs(tmp_path: Path, database: str) -> None:
    with served(tmp_path, PREFECT_SERVER_DATABASE_CONNECTION_URL=database) as serving:
        serving.go_on()
        runs = [serving.run(), serving.run("experiment/experiment", name="never", overrides=["train.nothing=1"])]
        serving.until(runs[0], "Completed")
        serving.until(runs[1], "Failed")
        log = (serving.home / ".work/prefect/server.log").read_text(encoding="utf-8")
    assert "database is locked" not in log and not list((serving.home / ".work/prefect").glob("*.db"))


def test_a_server_that_restarts_is_waited_for(tmp_path: Path) -> None:
    """The server and the worker apart, as a team has them: the run that was on goes on."""
    project, home, port = start_tiny_project(tmp_path / "project"), tmp_path / "home", free_port()
    home.mkdir()
    for name in CODE:
        (home / name).symlink_to(ROOT / name)
    serving = Serving(home, project, port, None)  # type: ignore[arg-type]
    waiting = {"TRAIN_SECONDS": "600", "PROCESSES": str(serving.processes), "GO_ON": str(home / "go_on")}
    with contextlib.ExitStack() as stack:
        first = contextlib.ExitStack()
        own = first.enter_context(server(home / "server", port=port))
        stack.enter_context(own.connected())
        asyncio.run(deploy(home, own, 1))
        command = [sys.executable, "-m", "pipeline.deployments.worker", "--root", str(home)]
        stack.enter_context(
            service(
                command,
                log=home / "worker.log",
                settings={**waiting, **own.environment(), "PYTHONPATH": str(ROOT)},
            )
        )
        run = serving.run()
        training = serving.training()
        first.close()
        time.sleep(5)
        assert all(map(lives, training)), "the stage did not outlive the server"
        stack.enter_context(server(home / "server", port=port))
        serving.go_on()
        os.kill(training[0], signal.SIGTERM)  # it would sleep on; the retry that dvc.yaml allows it ends at once
        serving.until(run, "Completed")
    assert changed_stages(project.root) == set()


def test_a_cancelled_run_leaves_nothing_and_the_next_one_goes_on(serving: Serving) -> None:
    run = serving.run()
    training = serving.training()
    with serving.client() as client:
        client.set_flow_run_state(run.id, Cancelling())
    wait_for(lambda: not any(map(lives, training)), "training to end", 60)
    serving.until(run, "Cancelled")
    serving.check_free_and_unfinished()
    serving.check_next_run_goes_on()
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
    (told,) = wait_for(lambda: serving.events("voice.run.failed"), "the event of the failure", 30)
    assert told["payload"]["flow_run"] == str(run.id) and "train" in told["payload"]["message"]
    fired = wait_for(lambda: serving.events("prefect.automation.triggered"), "the automation that waits for it", 30)
    assert any(each["resource"]["prefect.resource.name"] == "voice: a run failed" for each in fired)


def test_a_killed_worker_leaves_nothing_and_the_next_run_goes_on(serving: Serving) -> None:
    run = serving.run()
    training = serving.training()
    worker = next(process for process in serving.descendants() if process.cmdline()[1:4] == ["-m", "prefect", "worker"])
    worker.kill()
    wait_for(lambda: not any(map(lives, training)), "training to end", 60)
    serving.until(run, "Crashed")
    serving.check_free_and_unfinished()
    serving.check_next_run_goes_on()


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
    runs = [
        serving.run("experiment/experiment", name=name, overrides=[f"train.optimisation.learning_rate={rate}"])
        for name, rate in rates.items()
    ]
    at_once = 0
    while not all(serving.state(run) == "Completed" for run in runs):
        states = [serving.state(run) for run in runs]
        at_once = max(at_once, states.count("Running"))
        assert not {"Failed", "Crashed"} & set(states)
        time.sleep(0.3)
    assert at_once == 2
    assert set(saved_experiments(serving.project.root)) == set(rates)
    for name, rate in rates.items():
        assert metrics(serving.project.root, name)["cer"] == pytest.approx(abs(rate - 0.004) * 10 + 0.0052)


def test_a_deployed_sweep_has_deployed_experiments(serving: Serving) -> None:
    serving.go_on()
    space = ["train.optimisation.learning_rate=1e-3,4e-3"]
    run = serving.run("sweep/sweep", name="rates", space=space, at_once=2)
    serving.until(run, "Completed")
    assert set(saved_experiments(serving.project.root)) == {"rates-000", "rates-001"}
    with serving.client() as client:
        deployed = {
            each.name for each in client.read_flow_runs() if each.deployment_id and each.state_name == "Completed"
        }
    assert {"sweep rates", "experiment rates-000", "experiment rates-001"} <= deployed


def test_workers_in_two_clones_share_cache_and_remote(tmp_path: Path) -> None:
    """As on two machines: a clone and a worker each, one server, a git remote, a DVC remote, a shared cache."""
    first, second, hub, port = (
        start_tiny_project(tmp_path / "first"),
        tmp_path / "second",
        tmp_path / "hub.git",
        free_port(),
    )
    for name in CODE:
        (first.root / name).symlink_to(ROOT / name)
    for arguments in (["remote", "add", "-d", "default", str(tmp_path / "remote")], ["repro"]):
        subprocess.run(dvc_command(*arguments), cwd=first.root, check=True, capture_output=True)
    first.git("add", "-A")
    first.git("commit", "-qm", "Run")
    subprocess.run(["git", "clone", "-q", "--bare", str(first.root), str(hub)], check=True)
    first.git("remote", "add", "origin", str(hub))
    subprocess.run(["git", "clone", "-q", str(hub), str(second)], check=True)
    subprocess.run(
        dvc_command("config", "--local", "cache.dir", str(first.root / ".dvc" / "cache")),
        cwd=second,
        check=True,
        capture_output=True,
    )
    shutil.copytree(first.root / "recordings", second / "recordings")
    names = [f"far-{number}" for number in range(4)]
    with contextlib.ExitStack() as stack:
        own = stack.enter_context(server(tmp_path / "server", port=port))
        stack.enter_context(own.connected())
        asyncio.run(deploy(first.root, own, 2))
        for clone in (first.root, second):
            command = [sys.executable, "-m", "pipeline.deployments.worker", "--at-once", "1", "--root", str(clone)]
            settings = {**own.environment(), "PYTHONPATH": str(ROOT)}
            stack.enter_context(service(command, log=tmp_path / f"{clone.name}.log", settings=settings))
        client = stack.enter_context(get_client(sync_client=True))
        deployment = client.read_deployment_by_name("experiment/experiment").id
        runs = [
            client.create_flow_run_from_deployment(
                deployment,
                parameters={"name": name, "overrides": [f"train.optimisation.seed={number}"], "push_to": "origin"},
            )
            for number, name in enumerate(names)
        ]
        wait_for(
            lambda: all(client.read_flow_run(run.id).state_name == "Completed" for run in runs), "the experiments", 200
        )
        workers = {client.read_flow_run(run.id).labels["prefect.worker.name"].split()[-2] for run in runs}
    assert workers == {"first", "second"}
    listed = subprocess.run(
        ["git", "ls-remote", str(hub), "refs/exps/*"], check=True, capture_output=True, text=True
    ).stdout
    assert sorted(line.rsplit("/", 1)[1] for line in listed.splitlines()) == names
    subprocess.run(dvc_command("exp", "pull", "origin", *names), cwd=first.root, check=True, capture_output=True)
    for number, name in enumerate(names):
        assert metrics(first.root, name)["cer"] == pytest.approx(abs(0.002 - 0.004) * 10 + number / 1e4)
