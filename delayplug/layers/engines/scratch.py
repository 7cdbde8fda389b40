"""Reused memory for temporary results: new memory costs more than the arithmetic on it."""

import math
import threading

import torch
from torch import Tensor

# Of memory on the CPU that waits for its next use, in bytes; what is smaller than a piece is left to the allocator.
_MOST_SPARE = 128 * 2**20
_LEAST_PIECE = 2**20


class Scratch:
    """Tensors by name, in the dtype and on the device of `like`; no more than the largest of each name.

    On a CPU the memory serves the next ones when this object is gone: an operating system takes longer to hand out
    and to clear new pages than it takes to compute what is written to them.
    """

    def __init__(self, like: Tensor) -> None:
        self.like = like
        self._buffers: dict[str, Tensor] = {}  # not dict[...](), which torch.export of PyTorch 2.6 does not take
        self._borrowed: list[Tensor] = []
        # Not what stands in for a tensor while a model is traced.
        plain = type(like) in (Tensor, torch.nn.Parameter) and not torch.compiler.is_compiling()
        self._reuses = plain and like.device.type == "cpu"

    def __call__(self, name: str, *shape: int) -> Tensor:
        """Of this shape, uninitialised; the same memory for the same name."""
        size = math.prod(shape)
        if name not in self._buffers or self._buffers[name].numel() < size:
            self._buffers[name] = self._memory(size)
        return self._buffers[name][:size].view(shape)

    def _memory(self, size: int) -> Tensor:
        nbytes = size * self.like.element_size()
        if not self._reuses or nbytes < _LEAST_PIECE:
            return self.like.new_empty(size)
        memory = _spare.take(nbytes)
        self._borrowed.append(memory)
        return memory[:nbytes].view(self.like.dtype)

    def __del__(self) -> None:
        for memory in self._borrowed:
            _spare.give(memory)


class _Spare:
    """Pieces of memory that nobody uses, uint8, at most `_MOST_SPARE` bytes. Safe among threads."""

    def __init__(self) -> None:
        # By id. Collected garbage gives its memory back at any moment, within these methods, too.
        self._pieces, self._lock = dict[int, Tensor](), threading.RLock()

    def take(self, nbytes: int) -> Tensor:
        """The smallest piece with so many bytes that is not much larger, or new memory."""
        with self._lock:
            fitting = [piece for piece in tuple(self._pieces.values()) if nbytes <= piece.numel() <= 2 * nbytes]
            if fitting and (piece := self._pieces.pop(id(min(fitting, key=Tensor.numel)), None)) is not None:
                return piece
        with torch.inference_mode(False):  # or it could be used in inference mode alone
            return torch.empty(nbytes, dtype=torch.uint8, device="cpu")

    def give(self, piece: Tensor) -> None:
        """Put back a piece; those that have waited longest are freed."""
        with self._lock:
            self._pieces[id(piece)] = piece
            while self.nbytes > _MOST_SPARE:
                del self._pieces[next(iter(self._pieces))]

    @property
    def nbytes(self) -> int:
        """Of all pieces."""
        return sum(piece.numel() for piece in tuple(self._pieces.values()))

    def clear(self) -> None:
        """Free all pieces."""
        with self._lock:
            self._pieces.clear()


_spare = _Spare()


def clear_spare() -> None:
    """Free the memory that waits for its next use."""
    _spare.clear()
