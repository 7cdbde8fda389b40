"""Recordings in the memory of a device, where batches are gathered and augmented: nothing is copied there in between.

Shapes: T steps, N recordings, M recordings of an epoch, B of a batch, E rows, C channels, K classes.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import fields
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ...data import Augmented, Frames
from ...data.augment import Changes, cell_numbers, scaled_steps, shifted_channels
from .batches import Batch, InOrder, Shuffled

# A row's place is an int64 for each step of each recording: the table itself, its order of an epoch, and what
# augmentation makes of it.
_TABLES = 10
_SHARE = 0.25  # of the memory that is free, the rest of which is for the network

# A function of the input (T, B, C) of a batch, which it may overwrite, and of the positions of its recordings.
OfCells = Callable[[Tensor, slice], Tensor]


class ResidentFrames:
    """Frames whose rows lie on a device. Several `Frames` of the same rows, such as parts of a file, share the memory.

    Args:
        frames: the recordings.
        device: to put them on.
        sharing: others on this device.

    Attributes:
        rows: (E + 1, C), as in `Frames`; the last one is empty.
        empty: E, the number of the empty row.
        places: int64 (T, N), the row of each step, E behind the end of a recording.
        labels: int64 (N,).
    """

    def __init__(self, frames: Frames, device: torch.device, sharing: "Sequence[ResidentFrames]" = ()) -> None:
        self.frames = frames
        shared = [other.rows for other in sharing if other.frames.rows is frames.rows]
        last = frames.rows.new_zeros(1, frames.channels)
        self.rows: Tensor = shared[0] if shared else torch.cat((frames.rows, last)).to(device)
        self.empty = len(frames.rows)
        starts, lengths, self.labels = (each.to(device) for each in (frames.starts, frames.lengths, frames.labels))
        step = torch.arange(frames.steps, device=device).unsqueeze(1)
        self.places = (starts + step).where(step < lengths, self.empty)

    def epoch(self, order: Tensor, augmented: Augmented | None = None) -> "Ordered":
        """All recordings of an epoch, in the order in which they are used, and with its augmentation.

        Args:
            order: int64 (M,), positions of recordings.
            augmented: these frames, with the changes of this epoch.
        """
        order = _copied_to(order, self.labels.device)
        places, labels = self.places.index_select(1, order), self.labels[order]
        if augmented is None:
            return Ordered(self, places, labels)
        return self._changed(order, places, labels, augmented)

    def _changed(self, order: Tensor, places: Tensor, labels: Tensor, augmented: Augmented) -> "Ordered":
        """As `epoch`, with augmentation: changes of whole steps are made in the tables, others in each batch."""
        drawn, number, steps = augmented.changes(), len(self.frames.classes), len(places)
        changes = Changes(*(_copied_to(getattr(drawn, each.name), order.device)[order] for each in fields(Changes)))
        tables = [places, self.places.index_select(1, changes.partner)] if augmented.blend else [places]
        if augmented.time_scale:
            source, outside = scaled_steps(changes.pace, steps)
            tables = [table.gather(0, source).masked_fill_(outside, self.empty) for table in tables]
        y = nn.functional.one_hot(labels, number).float()
        if augmented.cutmix:
            taken, other = _within(changes.cut, steps), self.places.index_select(1, changes.other)
            tables = [other.where(taken, table) for table in tables]
            in_row = self.rows.sum(1, dtype=torch.float32)
            events = torch.stack([in_row[table] for table in tables]).mean(0)
            foreign = ((events * taken).sum(0) / events.sum(0).clamp(min=1)).unsqueeze(1)
            y = y * (1 - foreign) + nn.functional.one_hot(self.labels[changes.other], number) * foreign
        if augmented.time_mask:
            tables = [table.masked_fill(_within(changes.steps, steps), self.empty) for table in tables]
        cells: list[OfCells] = []
        if augmented.blend:
            numbers = _Numbers(augmented.cells.to(order.device), changes.partner_keys)
            cells.append(partial(_blend, self.rows, tables[1], numbers))
        blank = _within(changes.channels, self.frames.channels).T if augmented.channel_mask else None
        if augmented.channel_shift:
            shifted, outside = shifted_channels(changes.shift, self.frames.channels)
            cells.append(partial(_shift, shifted))
            blank = outside if blank is None else outside | blank
        if augmented.thin:
            numbers = _Numbers(augmented.cells.to(order.device), changes.thin_keys)
            cells.append(partial(_thin, numbers, changes.thin_limit.unsqueeze(1)))
        if blank is not None:
            cells.append(partial(_blank, blank))
        return Ordered(self, tables[0], y, cells)


class Ordered:
    """The recordings of an epoch on a device, from which batches are gathered.

    Args:
        frames: the recordings.
        places: int64 (T, M), the row of each step.
        y: labels (M,) or probabilities of the classes (M, K).
        cells: functions that change the cells (one channel in one step) of a batch, applied one after the other.
    """

    def __init__(self, frames: ResidentFrames, places: Tensor, y: Tensor, cells: Sequence[OfCells] = ()) -> None:
        self.frames, self.places, self.y, self.cells = frames, places, y, cells

    def batch(self, part: slice) -> tuple[Tensor, Tensor]:
        """Input (T, B, C), uint8 where the counts are, else float32, and labels (B,) or probabilities (B, K)."""
        x = _rows_of(self.frames.rows, self.places[:, part])
        for change in self.cells:
            x = change(x, part)
        return x if x.dtype == torch.uint8 else x.float(), self.y[part]


class ResidentBatches:
    """The batches of a sampler, on a device: takes the place of a `DataLoader`.

    Args:
        frames: the recordings.
        sampler: gives the positions of each batch, followed by the size of the batch on all processes.
        augmented: the same recordings with their augmentation, or None.
    """

    def __init__(self, frames: ResidentFrames, sampler: Shuffled | InOrder, augmented: Augmented | None = None) -> None:
        self.frames, self.augmented = frames, augmented
        self.batch_sampler = sampler  # where Lightning looks for `set_epoch`

    def __len__(self) -> int:
        return len(self.batch_sampler)

    def __iter__(self) -> Iterator[Batch]:
        batches = list(self.batch_sampler)
        order = torch.tensor([index for *own, _ in batches for index in own], dtype=torch.int64)
        epoch, start = self.frames.epoch(order, self.augmented), 0
        for *own, total in batches:
            part = slice(start, start + len(own))
            yield (*epoch.batch(part), total)
            start = part.stop


def fits(parts: Sequence[Frames], device: torch.device) -> bool:
    """Whether all these recordings take a small share of what is free on a device; only GPUs are asked."""
    if device.type != "cuda":
        return False
    rows = {id(part.rows): part.rows.nbytes for part in parts}
    tables = sum(8 * _TABLES * part.steps * len(part) for part in parts)
    free, _ = torch.cuda.mem_get_info(device)
    return sum(rows.values()) + tables <= _SHARE * free


def _copied_to(tensor: Tensor, device: torch.device) -> Tensor:
    """Copy a tensor to a device without waiting for the work that is queued there."""
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor.to(device)


def _within(stretches: Tensor, size: int) -> Tensor:
    """bool (size, M): which of 0..size are in the stretch (M, 2) of each recording."""
    places = torch.arange(size, device=stretches.device).unsqueeze(1)
    return (places >= stretches[:, 0]) & (places < stretches[:, 1])


class _Numbers(NamedTuple):
    """The random numbers of the cells of M recordings, see `cell_numbers`.

    Attributes:
        table: int32 (T, C).
        keys: int32 (M, 2).
    """

    table: Tensor
    keys: Tensor

    def of(self, part: slice) -> Tensor:
        """The numbers of the B recordings at these positions, int32 (T, B, C)."""
        return cell_numbers(self.table.unsqueeze(1), self.keys[part])


def _blend(rows: Tensor, places: Tensor, numbers: _Numbers, x: Tensor, part: slice) -> Tensor:
    return torch.where(numbers.of(part) < 0, _rows_of(rows, places[:, part]), x)


def _shift(source: Tensor, x: Tensor, part: slice) -> Tensor:
    return x.gather(2, source[part].expand_as(x))


def _thin(numbers: _Numbers, limit: Tensor, x: Tensor, part: slice) -> Tensor:
    return x.masked_fill_(numbers.of(part) < limit[part], 0)


def _blank(channels: Tensor, x: Tensor, part: slice) -> Tensor:
    return x.masked_fill_(channels[part], 0)


def _rows_of(rows: Tensor, places: Tensor) -> Tensor:
    """Inputs (T, B, C) from the numbers of their rows, (T, B)."""
    return rows.index_select(0, places.flatten()).view(*places.shape, -1)
