"""Augmented recordings, for training only.

What is done to a recording, in this order:

    time_scale      it becomes longer or shorter, as speed perturbation of audio (Ko et al., Interspeech 2015)
    blend           half of its cells are those of another recording of its class (Nowotny, Turner, Knight, "Loss
                    shaping enhances exact gradient learning with Eventprop in spiking neural networks", 2025, who
                    choose spikes one by one, after they have aligned the centres of mass)
    cutmix          a stretch of steps comes from any other recording (Yun et al., ICCV 2019, along the time)
    time_mask       neighbouring steps are emptied (SpecAugment: Park et al., Interspeech 2019)
    channel_shift   all channels move up or down (Nowotny et al., as above), which imitates a vocal tract of another
                    length: cochlear channels are logarithmic in frequency (VTLP: Jaitly and Hinton, ICML workshop 2013)
    thin            cells here and there are emptied (EventDrop: Gu et al., IJCAI 2021)
    channel_mask    neighbouring channels are emptied (SpecAugment, as above)

Shapes: T steps, C channels, N recordings, B recordings of a batch, K classes. A cell is one channel in one step.
"""

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..errors import ArgumentError
from .frames import Frames, Indices

# Each option draws from a generator of its own, (seed, epoch, number), but for the first three, which share one.
_SHIFTED, _BLENDED, _THINNED, _SCALED = 1, 2, 3, 4
_PACE_BITS = 16
_LEAST, _MOST = -(2**31), 2**31 - 1  # of int32


@dataclass(frozen=True, eq=False)
class Changes:
    """What augmentation does to each of N recordings in one epoch: int64 tensors, int32 where it says so.

    Attributes:
        other: (N,) the recording of which a stretch of steps is taken.
        cut: (N, 2) first step of that stretch, and the one behind its last; the same twice where nothing is taken.
        steps: (N, 2) the steps that are emptied then, likewise.
        channels: (N, 2) the channels that are emptied, likewise.
        pace: (N,) steps of the recording per step of the result, times 65536; see `scaled_steps`.
        partner: (N,) the recording of the same class that half of the cells are taken from; its own where it stays.
        partner_keys: int32 (N, 2) of the cells that are taken from there: those with a negative `cell_numbers`.
        shift: (N,) channels by which all channels move up.
        thin_keys: int32 (N, 2) of the cells that are emptied: those whose `cell_numbers` are below `thin_limit`.
        thin_limit: int32 (N,).
    """

    other: Tensor
    cut: Tensor
    steps: Tensor
    channels: Tensor
    pace: Tensor
    partner: Tensor
    partner_keys: Tensor
    shift: Tensor
    thin_keys: Tensor
    thin_limit: Tensor


@dataclass(eq=False)
class Augmented:
    """A `torch.utils.data.Dataset` of frames of which each is changed a little, differently in every epoch.

    The random changes depend on the seed, the epoch and the recording alone: not on batches, workers or processes.
    They are drawn for all recordings at once, when the first one of an epoch is asked for. The options are described
    in the order of the constructor; `delayplug.data.augment` says in which order they are applied, and their sources.

    Attributes:
        frames: the recordings.
        time_mask: the largest number of neighbouring steps that are emptied; it is drawn from 0..time_mask.
        channel_mask: the same for neighbouring channels.
        cutmix: probability that a stretch of steps is taken from another recording. The label is then a mixture, in
            proportion to the events from each (of a blended recording, to the mean of its two; events that other
            options remove count as well).
        channel_shift: all channels of a recording are shifted by a whole number drawn from
            -channel_shift..channel_shift, in pooled channels. Those that enter at the border are empty.
        blend: probability that a recording is blended with another one of the same class, drawn from these frames:
            each cell is taken from one or the other with probability one half, its count as a whole. The label stays.
            Nothing is done to a class of one recording.
        thin: the largest share of cells that are emptied: for each recording a share is drawn from 0..thin, and each
            cell is emptied with that probability, its count as a whole.
        time_scale: the length of a recording is multiplied by a factor drawn from 1 - time_scale..1 + time_scale: each
            step is that one of the recording that is at the same share of the length, so that steps are left out
            or stand twice. What does not fit into T steps is cut.
        seed: of the random changes.
        epoch: of the training, which must increase it.
    """

    frames: Frames
    time_mask: int = 0
    channel_mask: int = 0
    cutmix: float = 0.0
    channel_shift: int = 0
    blend: float = 0.0
    thin: float = 0.0
    time_scale: float = 0.0
    seed: int = 0
    epoch: int = 0
    _drawn: tuple[tuple[float, ...], Changes] | None = field(default=None, init=False, repr=False)

    def __post_init__(self) -> None:
        for name in ("time_mask", "channel_mask", "channel_shift"):
            if getattr(self, name) < 0:
                raise ArgumentError(name, "a number >= 0", getattr(self, name))
        if self.channel_shift and self.channel_shift >= self.frames.channels:
            fewer = f"fewer than the {self.frames.channels} channels, all of which it would empty"
            raise ArgumentError("channel_shift", fewer, self.channel_shift)
        for name in ("cutmix", "blend"):
            if not 0 <= getattr(self, name) <= 1:
                raise ArgumentError(name, "a probability", getattr(self, name))
        for name in ("thin", "time_scale"):
            if not 0 <= getattr(self, name) < 1:
                raise ArgumentError(name, "a number >= 0 and < 1", getattr(self, name))

    def __len__(self) -> int:
        return len(self.frames)

    @property
    def changes_anything(self) -> bool:
        """Whether any option is on."""
        masks = self.time_mask or self.channel_mask or self.channel_shift
        return bool(masks or self.cutmix or self.blend or self.thin or self.time_scale)

    @cached_property
    def cells(self) -> Tensor:
        """The `cell_table` of these frames, int32 (T, C)."""
        return cell_table(self.frames.steps, self.frames.channels)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        """Input float32 (T, C), in events per step, and the probabilities of the classes, float32 (K,)."""
        x, label = self.frames[index]
        y = torch.zeros(len(self.frames.classes))
        y[label] = 1
        changes, index = self.changes(), index % len(self)
        cut, steps, channels = (slice(*each[index].tolist()) for each in (changes.cut, changes.steps, changes.channels))
        x, mean = self._blended(x, changes, index)
        if cut.start < cut.stop:
            other, other_label = self.frames[int(changes.other[index])]
            x[cut] = mean[cut] = other[cut]
            foreign = x[cut].sum() / mean.sum().clamp(min=1)
            y *= 1 - foreign
            y[other_label] += foreign
        x[steps] = 0
        if self.channel_shift:
            source, outside = shifted_channels(changes.shift[index], self.frames.channels)
            x = x[:, source].masked_fill(outside, 0)
        if self.thin:
            x[cell_numbers(self.cells, changes.thin_keys[index]) < changes.thin_limit[index]] = 0
        x[:, channels] = 0
        return x, y

    def _blended(self, x: Tensor, changes: Changes, index: int) -> tuple[Tensor, Tensor]:
        """One recording in its new length and blended, and the mean of the recordings that it is blended of."""
        parts = [x]
        if self.blend:
            parts.append(self.frames[int(changes.partner[index])][0])
        if self.time_scale:
            source, outside = scaled_steps(changes.pace[index], self.frames.steps)
            parts = [part[source].masked_fill(outside.unsqueeze(1), 0) for part in parts]
        if len(parts) == 1:
            return parts[0], parts[0]
        theirs = cell_numbers(self.cells, changes.partner_keys[index]) < 0
        return torch.where(theirs, parts[1], parts[0]), (parts[0] + parts[1]) / 2

    def changes(self) -> Changes:
        """The random changes of this epoch."""
        masks, chances = (self.time_mask, self.channel_mask), (self.cutmix, self.blend, self.thin)
        settings = (self.seed, self.epoch, *masks, *chances, self.channel_shift, self.time_scale)
        if self._drawn is None or self._drawn[0] != settings:
            generator, number = np.random.default_rng((self.seed, self.epoch)), len(self)
            mixed = generator.random(number) < self.cutmix
            other = generator.integers(max(1, number), size=number)
            cut = _stretches(self.frames.steps, self.frames.steps, number, generator) * mixed[:, None]
            steps = _stretches(self.time_mask, self.frames.steps, number, generator)
            channels = _stretches(self.channel_mask, self.frames.channels, number, generator)
            factor = self._generator(_SCALED).uniform(1 - self.time_scale, 1 + self.time_scale, number)
            pace = np.rint((1 << _PACE_BITS) / factor).astype(np.int64)
            generator = self._generator(_BLENDED)
            blended = generator.random(number) < self.blend
            partner = _same_class(self.frames.labels.numpy(), generator)
            partner = np.where(blended, partner, np.arange(number))
            partner_keys = _keys(number, generator)
            shift = self._generator(_SHIFTED).integers(-self.channel_shift, self.channel_shift + 1, number)
            generator = self._generator(_THINNED)
            share = self.thin * generator.random(number)
            limit = (_LEAST + np.rint(share * 2**32)).clip(_LEAST, _MOST).astype(np.int32)
            drawn = (other, cut, steps, channels, pace, partner, partner_keys, shift, _keys(number, generator), limit)
            self._drawn = settings, Changes(*map(torch.from_numpy, drawn))
        return self._drawn[1]

    def batch(self, indices: Indices) -> tuple[Tensor, Tensor]:
        """Inputs float32 (T, B, C) and probabilities float32 (B, K) of the recordings of these positions."""
        items = [self[int(index)] for index in indices]
        return torch.stack([x for x, _ in items], 1), torch.stack([y for _, y in items])

    def _generator(self, option: int) -> np.random.Generator:
        return np.random.default_rng((self.seed, self.epoch, option))


def scaled_steps(pace: Tensor, steps: int) -> tuple[Tensor, Tensor]:
    """Which step of a recording each step of its scaled one is, and which of them are behind its end.

    Whole numbers, so that every device has the same: step t is the one that (t + 1/2) * pace / 65536 lies in.

    Args:
        pace: int64 (...), as in `Changes`.
        steps: T.

    Returns:
        int64 (T, ...) in 0..T-1, and bool (T, ...).
    """
    twice = torch.arange(1, 2 * steps, 2, device=pace.device).view(-1, *[1] * pace.ndim)
    source = (twice * pace) >> (_PACE_BITS + 1)
    return source.clamp(max=steps - 1), source >= steps


def shifted_channels(shift: Tensor, channels: int) -> tuple[Tensor, Tensor]:
    """Which channel of a recording each channel of its shifted one is, and which of them are none.

    Args:
        shift: int64 (...), channels to move up by.
        channels: C.

    Returns:
        int64 (..., C) in 0..C-1, and bool (..., C).
    """
    source = torch.arange(channels, device=shift.device) - shift.unsqueeze(-1)
    return source.clamp(0, channels - 1), (source < 0) | (source >= channels)


def cell_table(steps: int, channels: int) -> Tensor:
    """int32 (T, C), for `cell_numbers`: the number of each cell, mixed by the last steps of MurmurHash3 (Appleby)."""
    cells = np.arange(1, steps * channels + 1, dtype=np.uint32)
    for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35)):
        cells ^= cells >> np.uint32(shift)
        cells *= np.uint32(factor)
    cells ^= cells >> np.uint32(16)
    return torch.from_numpy(cells.view(np.int32)).view(steps, channels)


def cell_numbers(table: Tensor, keys: Tensor) -> Tensor:
    """A random number for each cell, int32, which depends on the cell and its recording's keys alone.

    Multiplication by an odd number modulo 2 ** 32 and an addition (Dietzfelbinger et al., 1997): one pass over the
    cells, and the same numbers on every device. They are as random as can be in their upper bits, which comparisons
    look at.

    Args:
        table: int32 (T, ..., C), as `cell_table` gives it.
        keys: int32 (..., 2), an odd one and any.
    """
    factor, start = (each.unsqueeze(-1) for each in keys.unbind(-1))
    return torch.addcmul(start, table, factor)


def _keys(number: int, generator: np.random.Generator) -> NDArray[np.int32]:
    """(number, 2) for `cell_numbers`."""
    keys = generator.integers(_LEAST, _MOST, (number, 2), np.int32, endpoint=True)
    keys[:, 0] |= 1
    return keys


def _same_class(labels: NDArray[np.int64], generator: np.random.Generator) -> NDArray[np.int64]:
    """For each recording another one of the same class, (N,); itself where there is no other."""
    order = labels.argsort(kind="stable")
    _, first, which, size = np.unique(labels[order], return_index=True, return_inverse=True, return_counts=True)
    first, size = first[which], size[which]  # of the class of each recording, in `order`
    ahead = 1 + generator.integers((size - 1).clip(min=1))
    place = np.arange(len(labels)) - first
    partner = np.empty_like(order)
    partner[order] = order[first + (place + ahead) % size]
    return partner


def _stretches(longest: int, size: int, number: int, generator: np.random.Generator) -> NDArray[np.int64]:
    """Random slices of 0..size, (number, 2), of random lengths from 0 to `longest`."""
    length = generator.integers(longest + 1, size=number).clip(max=size)
    start = generator.integers(size - length + 1)
    return np.stack((start, start + length), 1)
