"""The batches of a run."""

import pytest

from delayplug.bench import processes as ranks
from delayplug.bench.config import configure
from delayplug.bench.task import load_task
from delayplug.bench.training.batches import evaluation_loader, training_loader


def test_epochs_have_orders_of_their_own() -> None:
    frames = load_task(configure("quick")).train.select(range(50))

    def order(seed: int, epoch: int) -> list[int]:
        batches = training_loader(frames, 16, seed).batch_sampler
        batches.set_epoch(epoch)
        found = list(batches)
        assert [(len(batch) - 1, batch[-1]) for batch in found] == [(16, 16)] * 3 + [(2, 2)]
        return [index for batch in found for index in batch[:-1]]

    assert order(1, 0) == order(1, 0) != order(1, 1)
    assert sorted(order(1, 1)) == list(range(50))
    assert order(2, 0) != order(1, 0)


def test_shares_of_a_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every recording is on one process, in every epoch and in every evaluation."""
    frames = load_task(configure("quick")).valid.select(range(33))
    expected = list(training_loader(frames, 10, 1).batch_sampler)
    assert [batch[-1] for batch in expected] == [10, 10, 10, 3]
    parts = []
    for rank in range(3):
        monkeypatch.setattr(ranks.dist, "is_initialized", lambda: True)
        monkeypatch.setattr(ranks.dist, "get_world_size", lambda: 3)
        monkeypatch.setattr(ranks.dist, "get_rank", lambda rank=rank: rank)
        parts.append(
            (list(training_loader(frames, 10, 1).batch_sampler), list(evaluation_loader(frames).batch_sampler))
        )
        assert len(evaluation_loader(frames).batch_sampler) == len(parts[-1][1])
    for number, whole in enumerate(expected):
        assert [index for shuffled, _ in parts for index in shuffled[number][:-1]] == whole[:-1]
        assert {shuffled[number][-1] for shuffled, _ in parts} == {whole[-1]}
    assert sorted(index for _, ordered in parts for batch in ordered for index in batch[:-1]) == list(range(33))
    # Three recordings are not enough for four processes, nor is one enough for batch norm.
    monkeypatch.setattr(ranks.dist, "get_world_size", lambda: 4)
    assert len(training_loader(frames, 10, 1).batch_sampler) == 3
    monkeypatch.undo()
    assert len(training_loader(frames, 8, 1).batch_sampler) == 4
