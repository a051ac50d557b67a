"""A real git and DVC project with the real parameters whose stages take no time."""

from __future__ import annotations

import shutil
from pathlib import Path

import yaml
from dvc.repo import Repo

from tests.pipeline.compare.comparable_project import ComparableProject
from tests.small_corpus import ROOT

PROGRAM = """
import json, os, pathlib, subprocess, sys, time
import yaml

name, out = sys.argv[1], pathlib.Path(sys.argv[2])
params = yaml.safe_load(open("params.yaml"))
if name == "corpus":
    texts = sorted(path.read_text() for path in pathlib.Path(params["corpus"]["recordings"]).iterdir())
    if "refused" in texts:
        sys.exit("error: corpus: recordings/bad.txt is no recording; delete it")
    out.write_text(" ".join(texts))
elif name == "resample":
    out.write_text(str(params["resample"]["sample_rate_hz"]))
elif name == "train":
    attempts = pathlib.Path(os.environ.get("ATTEMPTS", os.devnull))
    with attempts.open("a") as stream:
        stream.write(f"{os.getpid()}\\n")
    if (seconds := float(os.environ.get("TRAIN_SECONDS", 0))) and not pathlib.Path(os.environ["GO_ON"]).exists():
        child = subprocess.Popen(["sleep", "600"], start_new_session=True)
        pathlib.Path(os.environ["PROCESSES"]).write_text(f"{os.getpid()} {child.pid}")
        print("train:  50%|#####     |", flush=True)
        time.sleep(seconds)
    settings = params["train"]["optimisation"]
    out.write_text(json.dumps([settings["learning_rate"], settings["seed"], pathlib.Path("corpus.out").read_text()]))
else:
    rate, seed, text = json.loads(pathlib.Path("voice.out").read_text())
    cer = abs(rate - 0.004) * 10 + seed / 1e4
    out.write_text(json.dumps({"cer": cer, "mos": 3.0 + rate, "texts": len(text.split())}))
"""
STAGES = {
    "corpus": {
        "cmd": "python work.py corpus corpus.out",
        "deps": ["work.py", "recordings"],
        "params": ["corpus"],
        "outs": ["corpus.out"],
    },
    "resample": {
        "cmd": "python work.py resample resample.out",
        "deps": ["work.py"],
        "params": ["resample"],
        "outs": ["resample.out"],
    },
    "train": {
        "cmd": "python work.py train voice.out",
        "deps": ["work.py", "corpus.out", "resample.out"],
        "params": ["train"],
        "outs": ["voice.out"],
        "meta": {"retries": 1, "tags": ["gpu"]},
    },
    "evaluate": {
        "cmd": "python work.py evaluate metrics.json",
        "deps": ["work.py", "voice.out"],
        "params": ["evaluate"],
        "metrics": ["metrics.json"],
    },
}


def start_tiny_project(root: Path) -> ComparableProject:
    """Return a new project, committed, of which nothing has run."""
    (root / "recordings").mkdir(parents=True)
    project = ComparableProject(root)
    project.git("init", "-q")
    for name, value in (("user.name", "test"), ("user.email", "test@localhost")):
        project.git("config", name, value)
    Repo.init(str(root)).close()
    (root / "recordings" / "one.txt").write_text("one", encoding="utf-8")
    (root / "work.py").write_text(PROGRAM, encoding="utf-8")
    (root / "dvc.yaml").write_text(yaml.safe_dump({"stages": STAGES}, sort_keys=False), encoding="utf-8")
    params = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    params["corpus"]["recordings"] = "recordings"
    (root / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False), encoding="utf-8")
    shutil.copytree(ROOT / "presets", root / "presets")
    (root / ".gitignore").write_text(
        "/recordings\n/.work/\n/.rows/\n/corpus.out\n/resample.out\n/voice.out\n/metrics.json\n", encoding="utf-8"
    )
    project.git("add", "-A")
    project.git("commit", "-qm", "Start")
    return project
