"""What goes with a layer from step to step: its last inputs, and what its kernel was made from."""

from typing import Self

import torch
from torch import Tensor


class Origin:
    """What a kernel was made from: the tensors themselves, their versions, and flags such as the mode.

    Tensors are compared by identity, and held for that: the id of a tensor that is gone can be that of a new one. A
    class without `__dict__` and not a tuple, so that whoever looks for the tensors of a state does not find these.
    """

    __slots__ = ("_flags", "_sources", "_versions")

    def __init__(self, sources: list[Tensor], flags: tuple[bool, ...]) -> None:
        self._sources, self._flags, self._versions = sources, flags, _versions(sources)

    def is_current(self, sources: list[Tensor], flags: tuple[bool, ...]) -> bool:
        """Whether a kernel made now would be made from the same tensors with the same values."""
        if self._flags != flags or len(self._sources) != len(sources):
            return False
        for own, other in zip(self._sources, sources, strict=True):
            if own is not other:
                return False
        return self._versions == _versions(sources)


def _versions(sources: list[Tensor]) -> list[int]:
    # Tensors made under inference_mode do not count their versions; nor can anything change them in training.
    return [0 if source.is_inference() else source._version for source in sources]


class Tape:
    """Memory that inputs are written to one behind the other, so that a window over the last of them moves for free.

    A state is a place on a tape. What lies before it never changes; an input that comes next is written behind it. If
    another sequence has gone on from the same place, or the tape is full, a new one begins with what is still needed.
    """

    def __init__(self, data: Tensor, written: int) -> None:
        self._data, self._written = data, written

    @classmethod
    def begin(cls, history: Tensor) -> Self:
        """A tape that holds these inputs (D, ...), with room for D + 1 more."""
        size = history.shape[0]
        data = history.new_empty((2 * size + 1, *history.shape[1:]))
        data[:size] = history
        return cls(data, size)

    def has_room(self, place: int) -> bool:
        """Whether the next input can be written here."""
        # What was made in inference mode can be written to only there.
        open_ = torch.is_inference_mode_enabled() or not self._data.is_inference()
        return open_ and place == self._written < self._data.shape[0]

    def write(self, x: Tensor, length: int) -> Tensor:
        """Add an input; returns the last `length` ones, (length, ...), without copying them."""
        self._data[self._written] = x
        self._written += 1
        return self._data[self._written - length : self._written]

    @property
    def written(self) -> int:
        """How many inputs it holds: the place behind the last one."""
        return self._written
