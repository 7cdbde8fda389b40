"""Augmented recordings, for training only.

Masks over time and channels as in SpecAugment (Park et al., Interspeech 2019); CutMix (Yun et al., ICCV 2019) along the
time. Shapes: T steps, C channels, B recordings of a batch, K classes.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..errors import ArgumentError
from .frames import Frames, Indices


@dataclass(eq=False)
class Augmented:
    """A `torch.utils.data.Dataset` of frames of which each is changed a little, differently in every epoch.

    The random changes depend on the seed, the epoch and the recording alone: not on batches, workers or processes.

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
        steps, channels = x.shape
        generator = np.random.default_rng((self.seed, self.epoch, index % len(self)))
        if self.cutmix and generator.random() < self.cutmix:
            other, other_label = self.frames[int(generator.integers(len(self)))]
            cut = _stretch(steps, steps, generator)
            x[cut] = other[cut]
            foreign = x[cut].sum() / x.sum().clamp(min=1)
            y *= 1 - foreign
            y[other_label] += foreign
        x[_stretch(self.time_mask, steps, generator)] = 0
        x[:, _stretch(self.channel_mask, channels, generator)] = 0
        return x, y

    def batch(self, indices: Indices) -> tuple[Tensor, Tensor]:
        """Inputs float32 (T, B, C) and probabilities float32 (B, K) of the recordings of these positions."""
        items = [self[int(index)] for index in indices]
        return torch.stack([x for x, _ in items], 1), torch.stack([y for _, y in items])


def _stretch(longest: int, size: int, generator: np.random.Generator) -> slice:
    """A random slice of 0..size, of a random length from 0 to `longest`."""
    length = min(int(generator.integers(longest + 1)), size)
    start = int(generator.integers(size - length + 1))
    return slice(start, start + length)
