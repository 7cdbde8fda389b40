"""Batches that are gathered where the recordings are: the numbers of the loader, on a CPU, too."""

import dataclasses
from typing import Any

import pytest
import torch
from torch import Tensor

from delayplug.bench.config import configure
from delayplug.bench.resources import Resources
from delayplug.bench.task import Task, load_task
from delayplug.bench.training import trainer
from delayplug.bench.training.batches import Batches
from delayplug.bench.training.resident import ResidentBatches, ResidentFrames, fits
from delayplug.data import Frames
from tests.bench.runs import TINY

CPU = torch.device("cpu")


def ragged(dtype: torch.dtype = torch.uint8) -> Frames:
    """Recordings of all lengths from none to T = 9 steps, one behind the other."""
    lengths = torch.arange(60) % 10
    rows = torch.poisson(torch.full((int(lengths.sum()), 5), 0.7), torch.Generator().manual_seed(0)).to(dtype)
    return Frames(rows, lengths.cumsum(0) - lengths, lengths, 9, torch.arange(60) % 3, ("a", "b", "c"))


def task_of(frames: Frames) -> Task:
    return Task(frames.select(range(0, 60, 2)), frames.select(range(1, 60, 2)), frames.first(7).padded(9), "")


def one_epoch(batches: Batches, number: int) -> list[tuple[Tensor, Tensor, int]]:
    """As Lightning asks for the batches of an epoch."""
    batches.batch_sampler.sampler.set_epoch(number)
    return list(batches)


OLD = {"cutmix": 0.7, "time_mask": 2, "channel_mask": 2}
NEW = {"channel_shift": 2, "blend": 0.6, "thin": 0.5, "time_scale": 0.3}
ALONE = [{name: value} for name, value in ({"time_mask": 4, "channel_mask": 3} | NEW).items()]


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16])
@pytest.mark.parametrize("changes", [{}, *ALONE, OLD, NEW, OLD | NEW], ids=lambda changes: "-".join(changes) or "none")
def test_batches_are_those_of_the_loader(changes: dict[str, Any], dtype: torch.dtype) -> None:
    config = configure("quick", batch_size=8, seed=3, **changes)
    task = task_of(ragged(dtype))
    resident = trainer.batches_of(task, config, CPU, resident=True)
    loaded = trainer.batches_of(task, config, CPU)
    assert [type(each) is ResidentBatches for each in (*resident, *loaded)] == [True] * 3 + [False] * 3
    assert [len(each) for each in resident] == [len(each) for each in loaded] == [4, 1, 1]
    for number in range(2):
        epochs = [(one_epoch(resident[0], number), one_epoch(loaded[0], number))]
        epochs += [(list(a), list(b)) for a, b in zip(resident[1:], loaded[1:], strict=True)]
        for ours, theirs in epochs:
            for (x, y, total), (expected, labels, all_of_them) in zip(ours, theirs, strict=True):
                assert x.dtype == (torch.uint8 if dtype == torch.uint8 else torch.float32)
                assert torch.equal(x.float(), expected)
                assert torch.equal(y, labels)
                assert y.dtype == labels.dtype
                assert total == all_of_them
    assert not torch.equal(one_epoch(resident[0], 0)[0][0], one_epoch(resident[0], 1)[0][0])


def test_parts_of_a_file_share_its_rows() -> None:
    task = task_of(ragged())
    train, valid, _ = trainer.batches_of(task, configure("quick"), CPU, resident=True)
    assert isinstance(train, ResidentBatches)
    assert isinstance(valid, ResidentBatches)
    assert train.frames.rows is valid.frames.rows
    assert ResidentFrames(ragged(), CPU, [train.frames]).rows is not train.frames.rows


def test_what_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    """A CPU reads its memory as it is; of a GPU's, a quarter of what is free may be taken."""
    gpu, frames = torch.device("cuda"), ragged()
    assert not fits([frames], CPU)
    free: list[int] = []
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (free[-1], 0))
    need = 270 * 5 + 8 * 10 * 9 * 60
    for parts, least in (([frames], need), ([frames, frames.select(range(60))], 2 * need - 270 * 5)):
        free.append(4 * least)
        assert fits(parts, gpu)
        free.append(4 * least - 4)
        assert not fits(parts, gpu)


@pytest.mark.trains
def test_a_run_has_the_same_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    config = configure("quick", backend="spikingjelly", **OLD, **NEW, **TINY)
    task = load_task(config)
    task = dataclasses.replace(task, train=task.train.select(range(200)))
    loaded = trainer.train(config, task, Resources("cpu"))
    monkeypatch.setattr(trainer, "fits", lambda parts, device: True)
    resident = trainer.train(config, task, Resources("cpu"))
    for ours, theirs in zip(resident.epochs, loaded.epochs, strict=True):
        assert {**ours, "seconds": 0, "waited": 0} == {**theirs, "seconds": 0, "waited": 0}
    assert resident.accuracy == loaded.accuracy
    assert all(torch.equal(resident.state[name], loaded.state[name]) for name in loaded.state)
