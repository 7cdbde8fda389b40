"""Reused memory for temporary results: new memory costs more than the arithmetic on it."""

import math

from torch import Tensor


class Scratch:
    """Tensors by name, in the dtype and on the device of `like`; no more than the largest of each name."""

    def __init__(self, like: Tensor) -> None:
        self._like, self._buffers = like, dict[str, Tensor]()

    def __call__(self, name: str, *shape: int) -> Tensor:
        """Of this shape, uninitialised; the same memory for the same name."""
        size = math.prod(shape)
        if name not in self._buffers or self._buffers[name].numel() < size:
            self._buffers[name] = self._like.new_empty(size)
        return self._buffers[name][:size].view(shape)
