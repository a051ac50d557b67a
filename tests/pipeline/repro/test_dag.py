"""The DAG as DVC sees it: names, order, edges, and what has changed."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from dvc.repo import Repo

from pipeline.repro.dag import changed_stages, locked_stages, order_lock, read_dag
from tests.small_corpus import ROOT

UPSTREAM = {
    "corpus": (),
    "clean_text": ("corpus",),
    "resample": ("corpus",),
    "spectrogram": ("resample",),
    "bert": ("clean_text",),
    "split": ("bert", "clean_text", "corpus", "resample", "spectrogram"),
    "train": ("bert", "resample", "spectrogram", "split"),
    "evaluate": ("resample", "split", "train"),
    "card": ("corpus", "evaluate", "split", "train"),
}


def repository(folder: Path, dvc_yaml: str, params: str) -> Path:
    with Repo.init(str(folder), no_scm=True):
        (folder / "dvc.yaml").write_text(dvc_yaml, encoding="utf-8")
        (folder / "params.yaml").write_text(params, encoding="utf-8")
    return folder


def test_the_nine_stages_wait_for_what_they_read(tmp_path: Path) -> None:
    Repo.init(str(tmp_path), no_scm=True).close()
    for name in ("dvc.yaml", "params.yaml"):
        shutil.copy(ROOT / name, tmp_path)
    nodes = read_dag(tmp_path)
    assert {name: node.upstream for name, node in nodes.items()} == UPSTREAM
    order = list(nodes)
    assert all(order.index(other) < order.index(name) for name, node in nodes.items() for other in node.upstream)


def test_metadata_comes_with_the_stage(tmp_path: Path) -> None:
    folder = repository(tmp_path, "stages:\n  one: {cmd: 'true', outs: [a], meta: {retries: 2, tags: [cpu]}}\n", "")
    assert read_dag(folder)["one"].meta == {"retries": 2, "tags": ["cpu"]}


TWO_STAGES = """
stages:
  first: {cmd: "cp in a", deps: [in], params: [one], outs: [a]}
  second: {cmd: "cp a b", deps: [a], params: [two], outs: [b]}
"""


def test_what_changed_is_named_by_stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = repository(tmp_path, TWO_STAGES, "one: 1\ntwo: 2\n")
    (folder / "in").write_text("x", encoding="utf-8")
    assert changed_stages(folder) == {"first", "second"}
    monkeypatch.chdir(folder)
    with Repo(str(folder)) as repo:
        repo.reproduce()
    assert changed_stages(folder) == set()
    (folder / "params.yaml").write_text("one: 1\ntwo: 3\n", encoding="utf-8")
    assert changed_stages(folder) == {"second"}
    (folder / "in").write_text("y", encoding="utf-8")
    assert changed_stages(folder) == {"first", "second"}


def test_the_lock_is_put_into_the_order_that_dvc_repro_leaves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stages = "\n".join(
        f'  {name}: {{cmd: "cp {source} {name}", deps: [{source}], outs: [{name}]}}'
        for name, source in (("z", "in"), ("b", "in"), ("last", "z"), ("a", "in"))
    )
    folder = repository(tmp_path, f"stages:\n{stages}\n", "")
    (folder / "in").write_text("x", encoding="utf-8")
    monkeypatch.chdir(folder)
    with Repo(str(folder)) as repo:
        repo.reproduce()
    left, order = (folder / "dvc.lock").read_bytes(), locked_stages(folder)
    for some in ([], order[:2]):
        (folder / "dvc.lock").unlink()
        for name in [*some, *reversed([name for name in order if name not in some])]:
            with Repo(str(folder)) as repo:
                repo.reproduce(name, single_item=True, force=True)
        assert locked_stages(folder) != order
        order_lock(folder, some)
        assert (folder / "dvc.lock").read_bytes() == left
    assert locked_stages(tmp_path.parent) == []
