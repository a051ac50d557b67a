"""Two ranks with batches of their own learn what one process learns from both batches together."""

import dataclasses
import math
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing

from model.training.distributed import gather, shares, sum_gradients, total
from model.training.trainer import Trainer
from tests.model.training.test_trainer import DISCRIMINATOR, MODEL, SETTINGS, config, utterance
from tests.model.utterances import collate

# Everything that draws at random but dropout, which belongs to a process: an alignment search with noise, the
# stochastic durations, the posterior, the segments, and who is judged.
DRAWING = dataclasses.replace(
    MODEL, use_sdp=True, sdp_channels=8, sdp_flows=2, dropout=0.0, duration_dropout=0.0, frame_prior_layers=0
)
UTTERANCES = [
    utterance(n_phones, 128 * n_frames, seed)
    for seed, (n_phones, n_frames) in enumerate([(5, 20), (7, 33), (6, 48), (9, 27), (4, 60)])
]
# Step by step what each rank reads: unequal numbers, lengths and padding.
STEPS = [([0, 1, 2], [3]), ([4], [1, 0]), ([2, 3], [0, 4])]
N_STEPS = 21


def _trainer() -> Trainer:
    settings = config(
        steps=N_STEPS,
        batch_size=4,
        adversarial_start_step=3,
        adversarial_every=2,
        adversarial_share=0.5,
        alignment_noise=0.01,
        learning_rate=3e-4,
        discriminator_learning_rate=3e-4,
        eps=1e-6,
        decoder_alone_start_step=15,
        decode_prior_share=0.5,
        decode_prior_noise=0.5,
    )
    trainer = Trainer(DRAWING, DISCRIMINATOR, settings, SETTINGS, torch.device("cpu"))
    trainer.duration_discriminator.dropout.p = 0.0
    return trainer


def _train(trainer: Trainer, parts: list[list[int]]) -> list[dict[str, float]]:
    log = []
    for step in range(N_STEPS):
        indices = parts[step % len(parts)]
        batch = collate(UTTERANCES, indices, {"EN": 6}, SETTINGS.hop_samples)
        log.append(trainer.step(batch, step // len(parts), None))
    return log


def _meet(rank: int, folder: Path) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder / 'meeting'}", rank=rank, world_size=2)


def _one_rank(rank: int, folder: Path) -> None:
    _meet(rank, folder)
    trainer = _trainer()
    log = _train(trainer, [parts[rank] for parts in STEPS])
    torch.save({"log": log, "weights": trainer.voice_state(), "messages": _messages(rank)}, folder / f"{rank}.pt")
    dist.destroy_process_group()


def _messages(rank: int) -> dict[str, object]:
    both, second, neither = (torch.nn.Parameter(torch.zeros(2)) for _ in range(3))
    both.grad = torch.tensor([1.0, 2.0]) * (rank + 1)
    if rank == 1:
        second.grad = torch.tensor([5.0, 7.0])
    sum_gradients([both, second, neither])
    return {
        "shares": shares([1 + 2 * rank, 0], torch.device("cpu")),
        "gathered": gather([0.5] * rank + [float(rank)], torch.device("cpu")),
        "total": total(torch.tensor([1.0, rank])),
        "gradients": [both.grad, second.grad, neither.grad],
    }


@pytest.fixture(scope="module")
def two_ranks(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ranks")
    torch.multiprocessing.spawn(_one_rank, (folder,), nprocs=2)
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(2)]


@pytest.fixture(scope="module")
def one_process():
    trainer = _trainer()
    return _train(trainer, [[*first, *second] for first, second in STEPS]), trainer.voice_state()


def test_both_ranks_report_the_same_losses_and_hold_the_same_weights(two_ranks):
    first, second = two_ranks
    assert first["log"] == second["log"]
    assert all(torch.equal(value, second["weights"][name]) for name, value in first["weights"].items())


def test_two_ranks_have_the_loss_curve_of_one_process_with_both_batches(two_ranks, one_process):
    log, _ = one_process
    assert sum("adversarial" in row for row in log) == 9
    for step, (row, expected) in enumerate(zip(two_ranks[0]["log"], log, strict=True)):
        assert row == {name: pytest.approx(value, rel=2e-4, abs=1e-5) for name, value in expected.items()}, step


def test_two_ranks_end_with_the_weights_of_one_process(two_ranks, one_process):
    _, weights = one_process
    start = _trainer().voice_state()
    moved = math.sqrt(sum(float((weights[name] - start[name]).square().sum()) for name in start))
    apart = math.sqrt(
        sum(float((weights[name] - value).square().sum()) for name, value in two_ranks[0]["weights"].items())
    )
    assert apart < 0.01 * moved


def test_messages_between_ranks(two_ranks):
    first, second = (each["messages"] for each in two_ranks)
    assert first["shares"] == [0.25, 0.0]
    assert second["shares"] == [0.75, 0.0]
    assert first["gathered"] == second["gathered"] == [0.0, 0.5, 1.0]
    assert first["total"].tolist() == [2.0, 1.0]
    for messages in (first, second):
        both, only_second, neither = messages["gradients"]
        assert both.tolist() == [3.0, 6.0]
        assert only_second.tolist() == [5.0, 7.0]
        assert neither is None
