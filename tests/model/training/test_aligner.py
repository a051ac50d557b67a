"""The aligner: finds known borders, keeps the rules of durations, sums over exactly the monotonic paths."""

import itertools

import numpy as np
import pytest
import torch

from model.training.aligner import (
    BAND_FRAMES,
    BLANK_SCORE,
    Aligner,
    AlignerInputs,
    diagonal_prior,
    fit_aligner,
    forward_sum_loss,
    refine_durations,
)

N_SYMBOLS, N_MELS = 6, 8


def synthetic_corpus(n_items: int, seed: int = 0):
    """Utterances whose every symbol sounds like a row of its own, with noise; durations are known."""
    generator = np.random.default_rng(seed)
    sounds = generator.standard_normal((N_SYMBOLS, N_MELS)) * 2.5 - 5.0
    items = []
    for _ in range(n_items):
        ids = generator.integers(0, N_SYMBOLS, generator.integers(4, 9))
        ids = ids[np.insert(np.diff(ids) != 0, 0, True)]  # two equal neighbours have no audible border
        durations = generator.integers(2, 12, len(ids))
        log_mel = sounds[np.repeat(ids, durations)]
        log_mel = log_mel + generator.standard_normal(log_mel.shape) * 0.5
        items.append((ids, durations, log_mel.astype(np.float32)))
    return items


def to_inputs(items) -> AlignerInputs:
    phone_lengths = torch.tensor([len(ids) for ids, _, _ in items])
    frame_lengths = torch.tensor([len(log_mel) for _, _, log_mel in items])
    phone_ids = torch.zeros(len(items), int(phone_lengths.max()), dtype=torch.long)
    log_mel = torch.zeros(len(items), N_MELS, int(frame_lengths.max()))
    for row, (ids, _, frames) in enumerate(items):
        phone_ids[row, : len(ids)] = torch.from_numpy(ids)
        log_mel[row, :, : len(frames)] = torch.from_numpy(frames.T)
    return AlignerInputs(phone_ids, torch.zeros_like(phone_ids), phone_lengths, log_mel, frame_lengths)


def make_aligner(**changes) -> Aligner:
    torch.manual_seed(0)
    return Aligner(n_symbols=N_SYMBOLS, n_tones=2, mel_channels=N_MELS, channels=16, **changes)


def random_inputs(phone_lengths: list[int], frame_lengths: list[int], **extra) -> AlignerInputs:
    generator = torch.Generator().manual_seed(1)
    shape = (len(phone_lengths), max(phone_lengths))
    return AlignerInputs(
        phone_ids=torch.randint(0, N_SYMBOLS, shape, generator=generator),
        tone_ids=torch.randint(0, 2, shape, generator=generator),
        phone_lengths=torch.tensor(phone_lengths),
        log_mel=torch.randn(len(phone_lengths), N_MELS, max(frame_lengths), generator=generator) * 2.5 - 5,
        frame_lengths=torch.tensor(frame_lengths),
        **extra,
    )


def border_errors(items, durations) -> np.ndarray:
    return np.concatenate(
        [
            np.abs(np.cumsum(found[: len(true)]) - np.cumsum(true))[:-1]
            for (_, true, _), found in zip(items, durations, strict=True)
        ]
    )


def test_known_borders_are_learned_and_refined():
    items = synthetic_corpus(96)
    aligner = make_aligner()
    batches = (to_inputs(items[start : start + 16]) for start in itertools.cycle(range(0, 96, 16)))
    losses = fit_aligner(aligner, batches, n_steps=150, learning_rate=1e-2)
    assert np.mean(losses[-6:]) < 0.5 * np.mean(losses[:6])
    durations = aligner.eval().align(to_inputs(items)).numpy()
    learned = [row[: len(ids)] for row, (ids, _, _) in zip(durations, items, strict=True)]
    assert np.mean(border_errors(items, learned)) < 1.5
    refined = refine_durations([item[2] for item in items], [item[0] for item in items], learned)
    assert np.mean(border_errors(items, refined)) < 0.3


def test_durations_are_at_least_one_and_sum_to_the_frames():
    inputs = random_inputs([5, 3, 7], [40, 3, 7])
    durations = make_aligner().align(inputs)
    assert durations.sum(1).tolist() == [40, 3, 7]
    for row, n_phones in zip(durations, inputs.phone_lengths, strict=True):
        assert (row[:n_phones] >= 1).all() and (row[n_phones:] == 0).all()


@pytest.mark.parametrize("use", [lambda aligner, inputs: aligner(inputs), Aligner.align])
def test_fewer_frames_than_phones_is_an_error_naming_the_item(use):
    with pytest.raises(ValueError, match=r"item 1 has 4 frames for 5 phones"):
        use(make_aligner(), random_inputs([3, 5], [9, 4]))


def test_an_utterance_has_the_same_probabilities_in_any_batch():
    inputs = random_inputs([5, 8], [20, 33])
    aligner = make_aligner()
    alone = AlignerInputs(
        inputs.phone_ids[:1, :5],
        inputs.tone_ids[:1, :5],
        inputs.phone_lengths[:1],
        inputs.log_mel[:1, :, :20],
        inputs.frame_lengths[:1],
    )
    together = aligner(inputs)
    torch.testing.assert_close(together[:1, :20, :5], aligner(alone), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(together.exp().sum(-1), torch.ones(2, 33))
    assert (together[0, :, 5:].exp() == 0).all()


def test_forward_sum_is_the_sum_over_all_paths_with_blanks():
    n_frames, n_phones = 5, 2
    log_probabilities = torch.randn(1, n_frames, n_phones).log_softmax(-1)
    padded = torch.nn.functional.pad(log_probabilities[0], (1, 0), value=BLANK_SCORE).log_softmax(-1)
    total = 0.0
    for path in itertools.product(range(n_phones + 1), repeat=n_frames):
        without_repeats = [label for label, _ in itertools.groupby(path)]
        if [label for label in without_repeats if label] == [1, 2]:
            total += padded[range(n_frames), path].sum().exp().item()
    loss = forward_sum_loss(log_probabilities, torch.tensor([n_frames]), torch.tensor([n_phones]))
    assert loss.item() == pytest.approx(-np.log(total) / n_frames, rel=1e-5)


def test_the_prior_is_a_distribution_that_ties_the_ends():
    prior = diagonal_prior(torch.tensor([30, 12]), torch.tensor([7, 4]), 30, 7).exp()
    torch.testing.assert_close(prior[0].sum(-1), torch.ones(30))
    torch.testing.assert_close(prior[1, :12, :4].sum(-1), torch.ones(12))
    assert prior[0, 0].argmax() == 0 and prior[0, -1].argmax() == 6
    torch.testing.assert_close(prior[0], prior[0].flip(0, 1), rtol=1e-4, atol=1e-6)
    assert torch.isfinite(diagonal_prior(torch.tensor([3]), torch.tensor([1]), 3, 1)).all()


def test_speakers_and_tones_change_the_alignment_scores():
    aligner = make_aligner(n_speakers=2)
    first = random_inputs([5], [20], speaker_ids=torch.tensor([0]))
    second = random_inputs([5], [20], speaker_ids=torch.tensor([1]))
    assert not torch.allclose(aligner(first), aligner(second))
    with pytest.raises(ValueError, match="speaker ids"):
        aligner(random_inputs([5], [20]))


def test_every_parameter_receives_a_gradient():
    aligner = make_aligner(n_speakers=2)
    inputs = random_inputs([5, 6], [20, 18], speaker_ids=torch.tensor([0, 1]))
    forward_sum_loss(aligner(inputs), inputs.frame_lengths, inputs.phone_lengths).backward()
    assert all(torch.isfinite(each.grad).all() and each.grad.any() for each in aligner.parameters())


def test_batches_that_end_early_are_reported():
    with pytest.raises(ValueError, match="expected 3 batches, one per step, found 1"):
        fit_aligner(make_aligner(), [random_inputs([3], [9])], n_steps=3, learning_rate=4e-3)


def test_refinement_keeps_the_rules_and_stays_in_its_band():
    items = synthetic_corpus(20)
    starts = []
    for ids, _, log_mel in items:
        borders = np.round(np.linspace(0, len(log_mel), len(ids) + 1)).astype(np.int64)
        starts.append(np.diff(borders))
    refined = refine_durations([item[2] for item in items], [item[0] for item in items], starts)
    for start, found in zip(starts, refined, strict=True):
        assert found.sum() == start.sum() and (found >= 1).all()
        assert (np.abs(np.cumsum(found) - np.cumsum(start)) <= BAND_FRAMES).all()
    assert any((start != found).any() for start, found in zip(starts, refined, strict=True))
