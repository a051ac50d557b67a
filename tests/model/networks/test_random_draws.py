"""Noise that belongs to an utterance, whatever batch it is in."""

import torch

from model.networks.random_draws import RandomDraws, UtteranceDraws

CPU = torch.device("cpu")


def draws(*indices: int, seed: int = 3, epoch: int = 0) -> UtteranceDraws:
    return UtteranceDraws(seed, epoch, indices, CPU)


def test_an_utterance_draws_the_same_alone_and_in_a_padded_batch():
    lengths = torch.tensor([4, 7])
    batch, alone = draws(8, 5), draws(5)
    together = batch.normal(torch.empty(2, 3, 9), lengths)
    assert torch.equal(together[1:, :, :7], alone.normal(torch.empty(1, 3, 7), lengths[1:]))
    assert not together[0, :, 4:].any()
    assert not together[1, :, 7:].any()
    assert torch.equal(batch.uniform(lengths)[1:], alone.uniform(lengths[1:]))
    assert batch.order[1:] == alone.order


def test_noise_on_the_alignment_has_the_spread_of_the_utterance_alone():
    scores = torch.randn(2, 50, 40, generator=torch.Generator().manual_seed(0))
    scores[1, :30, :20] *= 10
    noise = draws(1, 2).alignment_noise(scores, torch.tensor([50, 30]), torch.tensor([40, 20]), 0.5)
    assert not noise[1, 30:].any()
    assert not noise[1, :, 20:].any()
    torch.testing.assert_close(noise[0].std(), torch.tensor(0.5), rtol=0.1, atol=0.0)
    torch.testing.assert_close(noise[1, :30, :20].std(), torch.tensor(5.0), rtol=0.1, atol=0.0)


def test_seed_epoch_and_utterance_each_change_the_noise():
    like, lengths = torch.empty(1, 2, 5), torch.tensor([5])
    drawn = [draws(1), draws(2), draws(1, seed=4), draws(1, epoch=1)]
    noise = [each.normal(like, lengths) for each in drawn]
    assert all(not torch.equal(noise[0], other) for other in noise[1:])
    assert len({each.order[0] for each in drawn}) == 4


def test_plain_draws_are_those_of_torchs_own_generator():
    torch.manual_seed(1)
    expected = torch.randn(2, 3, 4), torch.rand(2)
    torch.manual_seed(1)
    plain = RandomDraws()
    lengths = torch.tensor([4, 2])
    assert torch.equal(plain.normal(torch.empty(2, 3, 4), lengths), expected[0])
    assert torch.equal(plain.uniform(lengths), expected[1])
