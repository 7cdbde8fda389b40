"""The batches of a run: the same ones on any number of processes, interrupted or not.

An epoch's order depends on the run's seed and the epoch alone. With several processes each takes its part of every
global batch.
"""

from collections.abc import Iterator
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Sampler

from ...data import Augmented, Frames
from ..processes import share, world

EVALUATION_BATCH = 256

# Input (T, B, C), labels (B,) or class probabilities (B, K), and the recordings of the batch on all processes.
Batch = tuple[Tensor, Tensor, int]


class Batches(Protocol):
    """The batches of each epoch: a `DataLoader`, or what takes its place."""

    def __iter__(self) -> Iterator[Any]:
        """The batches of an epoch, each a `Batch`."""

    def __len__(self) -> int:
        """How many there are in an epoch."""


def training_loader(frames: Frames | Augmented, batch_size: int, seed: int) -> "DataLoader[int]":
    """Shuffled batches; `batch_size` is that of all processes together."""
    return _loader(frames, Shuffled(frames, batch_size, seed))


def evaluation_loader(frames: Frames) -> "DataLoader[int]":
    """All recordings in order, each on one of the processes."""
    return _loader(frames, InOrder(len(frames)))


def seed_of(seed: int, epoch: int) -> int:
    """The seed of one epoch of a run; different for every run seed and epoch."""
    return int(np.random.SeedSequence((seed, epoch)).generate_state(1)[0])


def _loader(frames: Frames | Augmented, batches: "Sampler[list[int]]") -> "DataLoader[int]":
    def collate(index: list[int]) -> Batch:
        *own, total = index  # as the samplers give it
        return (*frames.batch(own), total)

    return DataLoader(
        _Positions(),
        batch_sampler=batches,
        collate_fn=collate,
        generator=torch.Generator(),  # it draws a seed for workers, and must not take it from what dropout draws from
        pin_memory=torch.cuda.is_available(),
    )


class _Positions(torch.utils.data.Dataset[int]):
    """Item i is i: a batch is read as one, not recording by recording."""

    def __getitem__(self, index: int) -> int:
        return index


class Shuffled(Sampler[list[int]]):
    """Batches in another order in every epoch: this process's part of each, followed by the size of the whole batch."""

    def __init__(self, frames: Frames | Augmented, batch_size: int, seed: int) -> None:
        self.frames, self.batch_size, self.seed, self.epoch = frames, batch_size, seed, 0
        self.sampler = self  # where Lightning looks for `set_epoch`

    def set_epoch(self, epoch: int) -> None:
        """Called by Lightning before each epoch."""
        self.epoch = epoch
        if isinstance(self.frames, Augmented):
            self.frames.epoch = epoch

    def __iter__(self) -> Iterator[list[int]]:
        generator = torch.Generator().manual_seed(seed_of(self.seed, self.epoch))
        order = torch.randperm(len(self.frames), generator=generator)
        for batch in order.split(self.batch_size)[: len(self)]:
            yield [*batch[share(len(batch))].tolist(), len(batch)]

    def __len__(self) -> int:
        whole, rest = divmod(len(self.frames), self.batch_size)
        # A last batch of one cannot be normalised, and every process needs a part; the only batch is always taken.
        return whole + int(rest >= max(2, world()) or (rest > 0 and whole == 0))


class InOrder(Sampler[list[int]]):
    """This process's part of all recordings, batch by batch, followed by the number of all."""

    def __init__(self, number: int) -> None:
        self.number = number

    def __iter__(self) -> Iterator[list[int]]:
        own = share(self.number)
        for start in range(own.start, own.stop, EVALUATION_BATCH):
            yield [*range(start, min(start + EVALUATION_BATCH, own.stop)), self.number]

    def __len__(self) -> int:
        return sum(1 for _ in self)
