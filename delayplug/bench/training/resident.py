"""Recordings in the memory of a device, where batches are gathered and augmented: nothing is copied there in between.

Shapes: T steps, N recordings, M recordings of an epoch, B of a batch, E rows, C channels, K classes.
"""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from ...data import Augmented, Frames
from .batches import Batch, InOrder, Shuffled

# A row's place is an int64 for each step of each recording: the table itself, its order of an epoch, and what
# augmentation makes of it.
_TABLES = 6
_SHARE = 0.25  # of the memory that is free, the rest of which is for the network


class ResidentFrames:
    """Frames whose rows lie on a device. Several `Frames` of the same rows, such as parts of a file, share the memory.

    Args:
        frames: the recordings.
        device: to put them on.
        sharing: others on this device.

    Attributes:
        rows: (E + 1, C), as in `Frames`; the last one is empty.
        places: int64 (T, N), the row of each step, E behind the end of a recording.
        labels: int64 (N,).
    """

    def __init__(self, frames: Frames, device: torch.device, sharing: "Sequence[ResidentFrames]" = ()) -> None:
        self.frames = frames
        shared = [other.rows for other in sharing if other.frames.rows is frames.rows]
        empty = frames.rows.new_zeros(1, frames.channels)
        self.rows: Tensor = shared[0] if shared else torch.cat((frames.rows, empty)).to(device)
        starts, lengths, self.labels = (each.to(device) for each in (frames.starts, frames.lengths, frames.labels))
        step = torch.arange(frames.steps, device=device).unsqueeze(1)
        self.places = (starts + step).where(step < lengths, len(frames.rows))

    def epoch(self, order: Tensor, augmented: Augmented | None = None) -> "Ordered":
        """All recordings of an epoch, in the order in which they are used, and with its augmentation.

        Args:
            order: int64 (M,), positions of recordings.
            augmented: these frames, with the changes of this epoch.
        """
        order = order.to(self.labels.device)
        places, labels = self.places.index_select(1, order), self.labels[order]
        if augmented is None:
            return Ordered(self, places, labels)
        drawn = augmented.changes()
        changes = (each.to(order.device)[order] for each in (drawn.other, drawn.cut, drawn.steps, drawn.channels))
        other, cut, steps, channels = changes
        number, empty = len(self.frames.classes), len(self.rows) - 1
        if augmented.cutmix:
            taken = _within(cut, len(places))
            places = self.places.index_select(1, other).where(taken, places)
            events = self.rows.sum(1, dtype=torch.float32)[places]
            foreign = ((events * taken).sum(0) / events.sum(0).clamp(min=1)).unsqueeze(1)
            own, others = (nn.functional.one_hot(each, number) for each in (labels, self.labels[other]))
            y = own * (1 - foreign) + others * foreign
        else:
            y = nn.functional.one_hot(labels, number).float()
        if augmented.time_mask:
            places = places.masked_fill(_within(steps, len(places)), empty)
        blank = _within(channels, self.frames.channels).T if augmented.channel_mask else None
        return Ordered(self, places, y, blank)


class Ordered:
    """The recordings of an epoch on a device, from which batches are gathered.

    Args:
        frames: the recordings.
        places: int64 (T, M), the row of each step.
        y: labels (M,) or probabilities of the classes (M, K).
        blank: bool (M, C), the channels that are emptied; None for none.
    """

    def __init__(self, frames: ResidentFrames, places: Tensor, y: Tensor, blank: Tensor | None = None) -> None:
        self.frames, self.places, self.y, self.blank = frames, places, y, blank

    def batch(self, part: slice) -> tuple[Tensor, Tensor]:
        """Input (T, B, C), uint8 where the counts are, else float32, and labels (B,) or probabilities (B, K)."""
        places = self.places[:, part]
        x = self.frames.rows.index_select(0, places.flatten()).view(*places.shape, -1)
        if self.blank is not None:
            x = x.masked_fill_(self.blank[part], 0)
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


def _within(stretches: Tensor, size: int) -> Tensor:
    """bool (size, M): which of 0..size are in the stretch (M, 2) of each recording."""
    places = torch.arange(size, device=stretches.device).unsqueeze(1)
    return (places >= stretches[:, 0]) & (places < stretches[:, 1])
