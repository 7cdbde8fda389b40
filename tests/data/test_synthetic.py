"""The timing task holds what its docstring says: rates carry nothing, the planted delays everything."""

import pytest
import torch

from delayplug import ArgumentError
from delayplug.data.synthetic import TimingTask

TASK = TimingTask(classes=4, channels=12, steps=30, jitter=0, distractors=0)


def test_every_channel_has_as_many_spikes_in_every_sample() -> None:
    frames = TimingTask(classes=4, distractors=2).sample(40, seed=1)
    assert frames.counts.shape == (50, 40, 20)
    assert (frames.counts.sum(0) == 3).all()


def test_planted_delays_bring_a_pattern_to_one_step() -> None:
    x, y = TASK.sample(20, seed=1).batch(range(20))
    delays = TASK.planted_delays()
    assert delays.min() == 0
    assert delays.max() == TASK.channels - 1
    for n in range(20):
        times, channels = x[:, n].nonzero().unbind(1)
        assert len((times + delays[y[n]][channels]).unique()) == 1  # its own class's
        others = [label for label in range(4) if label != y[n]]
        assert all(len((times + delays[label][channels]).unique()) > 4 for label in others)


def test_patterns_are_permutations_without_coincidences() -> None:
    offsets = TASK.offsets()
    assert offsets.sort(1).values.tolist() == [list(range(12))] * 4
    assert (TASK.sample(20, seed=3).counts.sum(2) <= 1).all()


def test_jitter_moves_spikes_by_its_standard_deviation() -> None:
    plain, moved = (TimingTask(channels=20, steps=200, jitter=j, distractors=0).sample(300, seed=5) for j in (0, 2))
    difference = (moved.counts.float().argmax(0) - plain.counts.float().argmax(0)).double()
    assert difference.std().item() == pytest.approx(2, abs=0.15)


def test_samples_are_balanced_and_reproducible() -> None:
    frames, again, other = TASK.sample(10, seed=1), TASK.sample(10, seed=1), TASK.sample(10, seed=2)
    assert frames.labels.bincount().tolist() == [3, 3, 2, 2]
    assert torch.equal(frames.counts, again.counts)
    assert not torch.equal(frames.counts, other.counts)
    assert not torch.equal(TimingTask(seed=0).offsets(), TimingTask(seed=1).offsets())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"classes": 1}, "classes: expected at least 2"),
        ({"channels": 1}, "channels: expected at least 2"),
        ({"steps": 19}, "steps: expected at least the length of a pattern, 20 steps, got 19"),
        ({"jitter": -1}, "jitter, distractors: expected values >= 0"),
        ({"distractors": -1}, "jitter, distractors: expected values >= 0"),
    ],
)
def test_sizes_are_checked(options, message) -> None:
    with pytest.raises(ArgumentError, match=message):
        TimingTask(**options)
