"""Frames: events counted in time steps and channels.

Shapes: T steps, N recordings, B recordings of a batch, C pooled channels.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from numbers import Integral
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..errors import ArgumentError, choice_error
from .choices import BINNINGS, Binning
from .recordings import Recordings

Indices = Sequence[int] | NDArray[np.integer[Any]] | Tensor
_COUNT_TYPES = (np.uint8, np.int16, np.int32)
_MOST_STEPS = 1_000_000


@dataclass(frozen=True, eq=False)
class Frames:
    """Event counts of N recordings, packed: of each recording only its own steps are stored.

    Attributes:
        rows: (E, C) integers, the events of each channel in each step, one recording after another: uint8, or wider
            where a count needs it. May lie in a file (see `delayplug.data.cache`).
        starts: int64 (N,), the first row of each recording.
        lengths: int64 (N,), the steps of each recording, 0..T.
        steps: T, of all recordings alike; the steps behind a recording's own are zero.
        labels: int64 (N,), positions in `classes`.
        classes: the class names.
        speakers: int64 (N,), or None if unknown.

    Raises:
        ArgumentError: shapes, dtypes or ranges disagree.
    """

    rows: Tensor
    starts: Tensor
    lengths: Tensor
    steps: int
    labels: Tensor
    classes: tuple[str, ...]
    speakers: Tensor | None = None

    def __post_init__(self) -> None:
        if self.rows.ndim != 2 or self.rows.is_floating_point():
            raise ArgumentError("rows", "integers (E, C)", _describe(self.rows))
        number = len(self.starts)
        for name in ("starts", "lengths", "labels", "speakers"):
            values = getattr(self, name)
            if values is not None and (values.shape != (number,) or values.dtype != torch.int64):
                raise ArgumentError(name, f"int64 ({number},), one per recording", _describe(values))
        last = {"labels": len(self.classes) - 1, "lengths": self.steps, "starts": self.rows.shape[0]}
        for name, most in last.items():
            values = getattr(self, name)
            if number and not 0 <= int(values.min()) <= int(values.max()) <= most:
                raise ArgumentError(name, f"values in 0..{most}", f"{int(values.min())}..{int(values.max())}")
        if number and int((self.starts + self.lengths).max()) > self.rows.shape[0]:
            got = int((self.starts + self.lengths).max())
            raise ArgumentError("rows", f"those of all recordings, {got}", self.rows.shape[0])

    @classmethod
    def dense(cls, counts: Tensor, labels: Tensor, classes: tuple[str, ...]) -> "Frames":
        """From counts (T, N, C) of recordings that all have T steps."""
        if counts.ndim != 3 or counts.is_floating_point():
            raise ArgumentError("counts", "integers (T, N, C)", _describe(counts))
        steps, number, _ = counts.shape
        starts, lengths = steps * torch.arange(number), torch.full((number,), steps)
        return cls(counts.transpose(0, 1).flatten(0, 1), starts, lengths, steps, labels, classes)

    @classmethod
    def packed(
        cls,
        rows: NDArray[np.integer[Any]],
        lengths: NDArray[np.int64],
        labels: NDArray[np.int64],
        classes: tuple[str, ...],
        speakers: NDArray[np.int64] | None,
        steps: int | None = None,
    ) -> "Frames":
        """From arrays, which share memory with the result; T is the longest length, at least 1, if `steps` is None."""
        starts, number = torch.from_numpy(lengths.cumsum() - lengths), torch.from_numpy(lengths)
        last = int(lengths.max(initial=1) if steps is None else steps)
        who = None if speakers is None else torch.from_numpy(speakers)
        return cls(torch.from_numpy(rows), starts, number, last, torch.from_numpy(labels), classes, who)

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        """Input float32 (T, C), in events per step, and label of one recording: a `torch.utils.data.Dataset`."""
        if not -len(self) <= index < len(self):
            raise IndexError(f"recording {index} of {len(self)}")
        x, y = self.batch([index % len(self)])
        return x[:, 0], int(y)

    @property
    def channels(self) -> int:
        """C."""
        return self.rows.shape[1]

    @property
    def counts(self) -> Tensor:
        """(T, N, C) of all recordings, in memory and with the zeros behind each of them."""
        return self._counts(torch.arange(len(self)), self.rows.dtype)

    def select(self, indices: Indices) -> "Frames":
        """The recordings of these positions, in this order; T stays. Nothing is copied.

        Args:
            indices: (B,) integers in 0..N-1.

        Raises:
            ArgumentError: not integers, or out of range.
        """
        index = self._index(indices)
        return replace(
            self,
            labels=self.labels[index],
            starts=self.starts[index],
            lengths=self.lengths[index],
            speakers=None if self.speakers is None else self.speakers[index],
        )

    def padded(self, steps: int) -> "Frames":
        """The same recordings with T = `steps`, at least what the longest needs."""
        return replace(self, steps=steps)

    def first(self, steps: int) -> "Frames":
        """The same recordings cut behind their first steps; T = `steps`. Nothing is copied.

        Raises:
            ArgumentError: less than one step.
        """
        if steps < 1:
            raise ArgumentError("steps", "an integer >= 1", steps)
        return replace(self, steps=int(steps), lengths=self.lengths.clamp(max=int(steps)))

    def batch(self, indices: Indices) -> tuple[Tensor, Tensor]:
        """Inputs float32 (T, B, C), in events per step, and labels int64 (B,) of the recordings of these positions.

        Args:
            indices: (B,) integers in 0..N-1.

        Raises:
            ArgumentError: not integers, or out of range.
        """
        index = self._index(indices)
        return self._counts(index, torch.float32), self.labels[index]

    def _counts(self, index: Tensor, dtype: torch.dtype) -> Tensor:
        counts = torch.zeros(self.steps, len(index), self.channels, dtype=dtype)
        places = zip(self.starts[index].tolist(), self.lengths[index].tolist(), strict=True)
        for b, (start, length) in enumerate(places):
            counts[:length, b] = self.rows[start : start + length]
        return counts

    def _index(self, indices: Indices) -> Tensor:
        index = torch.as_tensor(indices).to(self.labels.device)
        if index.numel() == 0:
            index = index.to(torch.int64)  # an empty list has no dtype of its own
        if index.ndim != 1 or index.is_floating_point() or index.dtype == torch.bool:
            raise ArgumentError("indices", "integers (B,)", _describe(index))
        if index.numel() and not 0 <= int(index.min()) <= int(index.max()) < len(self):
            raise ArgumentError("indices", f"0..{len(self) - 1}", f"{int(index.min())}..{int(index.max())}")
        return index.to(torch.int64)


def bin_recordings(
    recordings: Recordings, *, step_ms: float = 10.0, pool: int = 5, binning: Binning = "grid", steps: int | None = None
) -> Frames:
    """Count the events of each recording in time steps and in groups of neighbouring channels.

    Time 0 is the first event of each recording. Binning "grid" has steps of equal length: an event at t is in step
    floor((t - t_first) / step), so an event on a border belongs to the later step. Binning "events" opens a frame at
    an event and closes it once **more** than step_ms have passed since (an event on the border still belongs to it);
    the next event opens the next frame, so that pauses vanish and a frame has no fixed place in time. This is what
    SpikingJelly did before its pull request 507 and hence what the delay-learning paper used.

    Borders are decided in float64 on the times as they are stored, without tolerance: 0.02 s as float32 is
    0.0199999996 s, and 10 ms steps put it into step 1. SHD's float16 times resolve only 0.24 to 0.98 ms from 0.25 s
    on. SpikingJelly itself multiplies in float16, and may put single events at a border into the neighbouring frame.

    Args:
        recordings: N recordings.
        step_ms: length of a step in ms.
        pool: how many neighbouring channels are summed; it must divide their number, and C = channels / pool.
        binning: "grid" or "events".
        steps: T; shorter recordings are filled up with zeros, longer ones cut at their end. None: the longest
            recording, at least 1.

    Returns:
        Frames. Counts are uint8 if the largest fits, else int16, else int32; nothing saturates. Recordings without
        events are all zero and have length 0. Lengths of cut recordings are T.

    Raises:
        ArgumentError: an argument is impossible, or a recording would have more than a million steps.
    """
    parts = list(packed([recordings], step_ms=step_ms, pool=pool, binning=binning, steps=steps))
    speakers = None if recordings.speakers is None else recordings.speakers.copy()
    return Frames.packed(*parts[0], recordings.labels.copy(), recordings.classes, speakers, steps)


def packed(
    parts: Iterable[Recordings], *, step_ms: float, pool: int, binning: Binning, steps: int | None = None
) -> Iterator[tuple[NDArray[np.integer[Any]], NDArray[np.int64]]]:
    """The rows (E, C) and the lengths (N,) of each part of a data set, as `bin_recordings` makes them."""
    if not step_ms > 0 or not math.isfinite(step_ms):
        raise ArgumentError("step_ms", "a finite number of milliseconds > 0", step_ms)
    if binning not in BINNINGS:
        raise choice_error("binning", BINNINGS, binning)
    if steps is not None and (not isinstance(steps, Integral) or steps < 1):
        raise ArgumentError("steps", "an integer >= 1, or None for the longest recording", steps)
    for recordings in parts:
        if not isinstance(pool, Integral) or pool < 1 or recordings.channels % pool:
            raise ArgumentError("pool", f"an integer >= 1 that divides the {recordings.channels} channels", pool)
        yield _rows(recordings, [_place(recordings, n, step_ms, binning) for n in range(len(recordings))], pool, steps)


def _rows(
    recordings: Recordings, placed: list[NDArray[np.int32]], pool: int, steps: int | None
) -> tuple[NDArray[np.integer[Any]], NDArray[np.int64]]:
    lengths = np.array([int(step[-1]) + 1 if len(step) else 0 for step in placed], np.int64)
    lengths = lengths if steps is None else lengths.clip(max=steps)
    starts, channels = lengths.cumsum() - lengths, recordings.channels // pool
    rows: NDArray[np.integer[Any]] = np.zeros((int(lengths.sum()), channels), _COUNT_TYPES[0])
    for n, step in enumerate(placed):
        first, number = recordings.offsets[n], step.searchsorted(lengths[n])  # the events within the steps
        unit = recordings.units[first : first + number].astype(np.int64) // pool
        place = step[:number].astype(np.int64) * channels + unit
        count = np.bincount(place, minlength=lengths[n] * channels).reshape(lengths[n], channels)
        most = count.max(initial=0)
        if most > np.iinfo(rows.dtype).max:
            rows = rows.astype(next(wider for wider in _COUNT_TYPES if most <= np.iinfo(wider).max))
        rows[starts[n] : starts[n] + lengths[n]] = count
    return rows, lengths


def _place(recordings: Recordings, n: int, step_ms: float, binning: Binning) -> NDArray[np.int32]:
    """The step of each event of recording n, ascending."""
    # Milliseconds, not seconds: times 1000 is exact in float64, whereas a step of 10 / 1000 s would be rounded.
    ms = recordings.times[recordings.offsets[n] : recordings.offsets[n + 1]].astype(np.float64) * 1000.0
    if not len(ms):
        return np.zeros(0, np.int32)
    if (ms[-1] - ms[0]) / step_ms >= _MOST_STEPS:
        expected = f"at most {_MOST_STEPS} steps per recording"
        got = f"{step_ms} ms for the {(ms[-1] - ms[0]) / 1000.0:g} s of recording {n}"
        raise ArgumentError("step_ms", expected, got, "Take longer steps, and check that the times are in seconds.")
    if binning == "grid":
        grid: NDArray[np.int32] = np.floor((ms - ms[0]) / step_ms).astype(np.int32)
        return grid
    first = [0]  # the event that opens each frame
    while (after := int(ms.searchsorted(ms[first[-1]] + step_ms, side="right"))) < len(ms):
        first.append(after)
    return np.repeat(np.arange(len(first), dtype=np.int32), np.diff(first, append=len(ms)))


def _describe(tensor: Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')} {tuple(tensor.shape)}"
