"""Data augmentation: random changes of training recordings.

The options, in the order in which they are applied to a recording:

    time_scale      it becomes longer or shorter, as speed perturbation of audio (Ko et al., Interspeech 2015)
    blend           about half of its cells come from another recording of its class (Nowotny, Turner, Knight, "Loss
                    shaping enhances exact gradient learning with Eventprop in spiking neural networks", 2025, who
                    choose each spike separately, after aligning the centres of mass)
    cutmix          consecutive steps are those of any other recording (Yun et al., ICCV 2019; here over time)
    time_mask       consecutive steps are set to zero (SpecAugment: Park et al., Interspeech 2019)
    channel_shift   all channels move up or down (Nowotny et al., as above), which imitates a vocal tract of another
                    length: cochlear channels are logarithmic in frequency (VTLP: Jaitly and Hinton, ICML workshop 2013)
    thin            random cells are set to zero (EventDrop: Gu et al., IJCAI 2021)
    channel_mask    neighbouring channels are set to zero (SpecAugment, as above)

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

# Each of these options has a random generator with the seed (seed, epoch, number), so that switching one on changes no
# other. cutmix, time_mask and channel_mask share one with the seed (seed, epoch).
_SHIFTED, _BLENDED, _THINNED, _SCALED = 1, 2, 3, 4
_PACE_BITS = 16  # after the binary point of `Changes.pace`
_LEAST, _MOST = -(2**31), 2**31 - 1  # of int32


@dataclass(frozen=True, eq=False)
class Changes:
    """What augmentation does to each of N recordings in one epoch. Tensors are int64 unless they are called int32.

    Attributes:
        other: (N,) for cutmix, the recording that the steps `cut` are copied from.
        cut: (N, 2) first step that is copied, and the one after the last; equal where no step is copied.
        steps: (N, 2) for time_mask, the steps that are set to zero after that, in the same form.
        channels: (N, 2) for channel_mask, the channels that are set to zero, in the same form.
        pace: (N,) for time_scale, steps of the recording per step of the result, times 65536; see `scaled_steps`.
        partner: (N,) for blend, a recording of the same class; the recording itself where it is not blended.
        partner_keys: int32 (N, 2) keys of the blend; the cells whose `cell_numbers` are negative come from the partner.
        shift: (N,) for channel_shift, the number of channels by which all channels move up.
        thin_keys: int32 (N, 2) keys for thin; the cells whose `cell_numbers` are below `thin_limit` are set to zero.
        thin_limit: int32 (N,), see `thin_keys`.
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
        time_mask: the largest number of consecutive steps that are set to zero; the number is drawn from 0..time_mask.
        channel_mask: the same for neighbouring channels.
        cutmix: probability that consecutive steps are replaced by those of another recording. The label is then a
            mixture, in proportion to the events from each recording. (A blended recording counts with the mean of the
            events of its two recordings. Events that later options remove are counted.)
        channel_shift: all channels of a recording are shifted by a whole number drawn from
            -channel_shift..channel_shift, in pooled channels. Those that enter at the border are empty.
        blend: probability that a recording is blended with another one of the same class, drawn from these frames:
            the count of each cell is that of one or the other, with probability one half. The label stays. A recording
            that is the only one of its class is not blended.
        thin: the largest share of cells that are set to zero: for each recording a share is drawn from 0..thin, and
            each cell is set to zero with that probability.
        time_scale: the length of a recording is multiplied by a factor drawn from 1 - time_scale..1 + time_scale: each
            step of the result is the one at the same relative position in the recording, so that some steps are left
            out or repeated. Steps after the T-th are cut off.
        seed: of the random changes.
        epoch: number of the epoch; the training loop must increase it.
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
        """The `cell_table` for recordings of this size, int32 (T, C)."""
        return cell_table(self.frames.steps, self.frames.channels)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        """One changed recording: input float32 (T, C), in events per step, and class probabilities float32 (K,)."""
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
        """A recording after time_scale and blend, and the mean of the two blended recordings, both (T, C)."""
        sources = [x]
        if self.blend:
            sources.append(self.frames[int(changes.partner[index])][0])
        if self.time_scale:
            source, outside = scaled_steps(changes.pace[index], self.frames.steps)
            sources = [each[source].masked_fill(outside.unsqueeze(1), 0) for each in sources]
        if len(sources) == 1:
            return sources[0], sources[0]
        from_partner = cell_numbers(self.cells, changes.partner_keys[index]) < 0
        return torch.where(from_partner, sources[1], sources[0]), (sources[0] + sources[1]) / 2

    def changes(self) -> Changes:
        """The random changes of this epoch."""
        masks, chances = (self.time_mask, self.channel_mask), (self.cutmix, self.blend, self.thin)
        settings = (self.seed, self.epoch, *masks, *chances, self.channel_shift, self.time_scale)
        if self._drawn is None or self._drawn[0] != settings:
            generator, number = np.random.default_rng((self.seed, self.epoch)), len(self)
            mixed = generator.random(number) < self.cutmix
            other = generator.integers(max(1, number), size=number)
            cut = _intervals(self.frames.steps, self.frames.steps, number, generator) * mixed[:, None]
            steps = _intervals(self.time_mask, self.frames.steps, number, generator)
            channels = _intervals(self.channel_mask, self.frames.channels, number, generator)
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
        """Changed recordings at these B positions: inputs float32 (T, B, C) and class probabilities float32 (B, K)."""
        items = [self[int(index)] for index in indices]
        return torch.stack([x for x, _ in items], 1), torch.stack([y for _, y in items])

    def _generator(self, option: int) -> np.random.Generator:
        return np.random.default_rng((self.seed, self.epoch, option))


def scaled_steps(pace: Tensor, steps: int) -> tuple[Tensor, Tensor]:
    """For each step of a scaled recording, the step of the original that it is copied from.

    Step t is copied from the step that (t + 1/2) * pace / 65536 lies in. Only integers are used, so that the result is
    the same on every device.

    Args:
        pace: int64 (...), as in `Changes`.
        steps: T.

    Returns:
        The step, int64 (T, ...) in 0..T-1; and bool (T, ...), true where the original has ended: those are zero.
    """
    twice = torch.arange(1, 2 * steps, 2, device=pace.device).view(-1, *[1] * pace.ndim)
    source = (twice * pace) >> (_PACE_BITS + 1)
    return source.clamp(max=steps - 1), source >= steps


def shifted_channels(shift: Tensor, channels: int) -> tuple[Tensor, Tensor]:
    """For each channel of a shifted recording, the channel of the original that it is copied from.

    Args:
        shift: int64 (...), channels to move up by.
        channels: C.

    Returns:
        The channel, int64 (..., C) in 0..C-1; and bool (..., C), true where the original has none: those are zero.
    """
    source = torch.arange(channels, device=shift.device) - shift.unsqueeze(-1)
    return source.clamp(0, channels - 1), (source < 0) | (source >= channels)


def cell_table(steps: int, channels: int) -> Tensor:
    """The index of each cell, hashed by the final mixing steps of MurmurHash3 (Appleby); int32 (T, C)."""
    cells = np.arange(1, steps * channels + 1, dtype=np.uint32)
    for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35)):
        cells ^= cells >> np.uint32(shift)
        cells *= np.uint32(factor)
    cells ^= cells >> np.uint32(16)
    return torch.from_numpy(cells.view(np.int32)).view(steps, channels)


def cell_numbers(table: Tensor, keys: Tensor) -> Tensor:
    """A pseudo-random number for each cell, int32 (T, ..., C), determined by the cell and the keys of its recording.

    Multiply-shift hashing, multiplication by an odd number and an addition modulo 2 ** 32 (Dietzfelbinger et al.,
    1997): one pass over the cells, and the same numbers on every device. The upper bits, which decide a comparison,
    are the most random ones.

    Args:
        table: int32 (T, ..., C), as `cell_table` returns it.
        keys: int32 (..., 2); the first one must be odd.
    """
    factor, start = (each.unsqueeze(-1) for each in keys.unbind(-1))
    return torch.addcmul(start, table, factor)


def _keys(number: int, generator: np.random.Generator) -> NDArray[np.int32]:
    """Random keys for `cell_numbers`, (number, 2)."""
    keys = generator.integers(_LEAST, _MOST, (number, 2), np.int32, endpoint=True)
    keys[:, 0] |= 1
    return keys


def _same_class(labels: NDArray[np.int64], generator: np.random.Generator) -> NDArray[np.int64]:
    """For each recording the position of another one of the same class, (N,); its own where there is no other."""
    order = labels.argsort(kind="stable")
    _, first, which, size = np.unique(labels[order], return_index=True, return_inverse=True, return_counts=True)
    first, size = first[which], size[which]  # of the class of each recording, in `order`
    offset = 1 + generator.integers((size - 1).clip(min=1))
    rank = np.arange(len(labels)) - first  # within its class
    partner = np.empty_like(order)
    partner[order] = order[first + (rank + offset) % size]
    return partner


def _intervals(longest: int, size: int, number: int, generator: np.random.Generator) -> NDArray[np.int64]:
    """Random intervals within 0..size, (number, 2) starts and ends, of random lengths from 0 to `longest`."""
    length = generator.integers(longest + 1, size=number).clip(max=size)
    start = generator.integers(size - length + 1)
    return np.stack((start, start + length), 1)
