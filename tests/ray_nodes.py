"""A Ray cluster of two nodes on this machine: a head and a worker node, each `ray start` with processes of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

START_SECONDS = 60.0
_RAY = [
    sys.executable,
    "-m",
    "ray.scripts.scripts",
    "start",
    "--block",
    "--disable-usage-stats",
    "--object-store-memory",
    "100000000",
]


@dataclass
class Node:
    """A node: the process group of its `ray start`."""

    process: subprocess.Popen[bytes]

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to every process of the node."""
        members = subprocess.run(
            ["ps", "-o", "pid=", "-s", str(self.process.pid)], capture_output=True, text=True
        ).stdout.split()
        for member in members:
            try:
                os.kill(int(member), number)
            except ProcessLookupError:
                continue

    def kill(self) -> None:
        """End all of the node's processes at once, as a power cut would."""
        self.signal(signal.SIGKILL)
        self.process.wait()


@dataclass
class Cluster:
    """A running cluster; `nodes[0]` is the head."""

    address: str
    folder: Path
    nodes: list[Node] = field(default_factory=list)

    def add_node(self, n_cpus: int) -> Node:
        """Start another node; the head knows it some seconds later."""
        node = _start(
            ["--address", self.address, "--num-cpus", str(n_cpus)], self.folder / f"node{len(self.nodes)}.log"
        )
        self.nodes.append(node)
        return node


def _start(arguments: list[str], log: Path) -> Node:
    with log.open("wb") as stream:
        return Node(subprocess.Popen([*_RAY, *arguments], stdout=stream, stderr=stream, start_new_session=True))


@contextmanager
def cluster(folder: Path, head_cpus: int) -> Iterator[Cluster]:
    """Start a head node; on leaving, every node is killed. `folder` has to be short: sockets lie below it."""
    folder.mkdir(parents=True, exist_ok=True)
    head = _start(
        [
            "--head",
            "--port",
            "0",
            "--num-cpus",
            str(head_cpus),
            "--temp-dir",
            str(folder / "t"),
            "--include-dashboard=false",
        ],
        folder / "head.log",
    )
    with ExitStack() as stack:
        stack.callback(head.kill)
        address_file = folder / "t" / "ray_current_cluster"
        deadline = time.monotonic() + START_SECONDS
        while not (address_file.is_file() and address_file.read_text().strip()):
            if time.monotonic() > deadline or head.process.poll() is not None:
                raise RuntimeError(f"no Ray head:\n{(folder / 'head.log').read_text(errors='replace')[-3000:]}")
            time.sleep(0.1)
        made = Cluster(address_file.read_text().strip(), folder, [head])
        stack.callback(lambda: [node.kill() for node in made.nodes[1:]])
        yield made
