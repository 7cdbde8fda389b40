"""Augmented recordings, for training only.

Masks over time and channels as in SpecAugment (Park et al., Interspeech 2019); CutMix (Yun et al., ICCV 2019) along the
time. Shapes: T steps, C channels, B recordings of a batch, K classes.
"""

from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..errors import ArgumentError
from .frames import Frames, Indices


@dataclass(frozen=True, eq=False)
class Changes:
    """What augmentation does to each of N recordings in one epoch: int64 tensors.

    Attributes:
        other: (N,) the recording of which a stretch of steps is taken.
        cut: (N, 2) first step of that stretch, and the one behind its last; the same twice where nothing is taken.
        steps: (N, 2) the steps that are emptied then, likewise.
        channels: (N, 2) the channels that are emptied, likewise.
    """

    other: Tensor
    cut: Tensor
    steps: Tensor
    channels: Tensor


@dataclass(eq=False)
class Augmented:
    """A `torch.utils.data.Dataset` of frames of which each is changed a little, differently in every epoch.

    The random changes depend on the seed, the epoch and the recording alone: not on batches, workers or processes.
    They are drawn for all recordings at once, when the first one of an epoch is asked for.

    Attributes:
        frames: the recordings.
        time_mask: the largest number of neighbouring steps that are emptied; it is drawn from 0..time_mask.
        channel_mask: the same for neighbouring channels.
        cutmix: probability that a stretch of steps is taken from another recording. The label is then a mixture, in
            proportion to the events from each.
        seed: of the random changes.
        epoch: of the training, which must increase it.
    """

    frames: Frames
    time_mask: int = 0
    channel_mask: int = 0
    cutmix: float = 0.0
    seed: int = 0
    epoch: int = 0
    _drawn: tuple[tuple[float, ...], Changes] | None = field(default=None, init=False, repr=False)

    def __post_init__(self) -> None:
        for name in ("time_mask", "channel_mask"):
            if getattr(self, name) < 0:
                raise ArgumentError(name, "a number >= 0", getattr(self, name))
        if not 0 <= self.cutmix <= 1:
            raise ArgumentError("cutmix", "a probability", self.cutmix)

    def __len__(self) -> int:
        return len(self.frames)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        """Input float32 (T, C), in events per step, and the probabilities of the classes, float32 (K,)."""
        x, label = self.frames[index]
        y = torch.zeros(len(self.frames.classes))
        y[label] = 1
        changes, index = self.changes(), index % len(self)
        cut, steps, channels = (slice(*each[index].tolist()) for each in (changes.cut, changes.steps, changes.channels))
        if cut.start < cut.stop:
            other, other_label = self.frames[int(changes.other[index])]
            x[cut] = other[cut]
            foreign = x[cut].sum() / x.sum().clamp(min=1)
            y *= 1 - foreign
            y[other_label] += foreign
        x[steps] = 0
        x[:, channels] = 0
        return x, y

    def changes(self) -> Changes:
        """The random changes of this epoch."""
        settings = (self.seed, self.epoch, self.time_mask, self.channel_mask, self.cutmix)
        if self._drawn is None or self._drawn[0] != settings:
            generator, number = np.random.default_rng((self.seed, self.epoch)), len(self)
            mixed = generator.random(number) < self.cutmix
            other = generator.integers(max(1, number), size=number)
            cut = _stretches(self.frames.steps, self.frames.steps, number, generator) * mixed[:, None]
            steps = _stretches(self.time_mask, self.frames.steps, number, generator)
            channels = _stretches(self.channel_mask, self.frames.channels, number, generator)
            self._drawn = settings, Changes(*map(torch.from_numpy, (other, cut, steps, channels)))
        return self._drawn[1]

    def batch(self, indices: Indices) -> tuple[Tensor, Tensor]:
        """Inputs float32 (T, B, C) and probabilities float32 (B, K) of the recordings of these positions."""
        items = [self[int(index)] for index in indices]
        return torch.stack([x for x, _ in items], 1), torch.stack([y for _, y in items])


def _stretches(longest: int, size: int, number: int, generator: np.random.Generator) -> NDArray[np.int64]:
    """Random slices of 0..size, (number, 2), of random lengths from 0 to `longest`."""
    length = generator.integers(longest + 1, size=number).clip(max=size)
    start = generator.integers(size - length + 1)
    return np.stack((start, start + length), 1)
