"""How kernels take the constants of neurons: as numbers, one value, one for each of a run of columns, or one for all.

Shapes: T steps, B batch, N = B * ... columns, one for each neuron of each sample.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

NUMBER, ONE, EACH, FULL = range(4)  # the kinds, as `kernels.membranes.constant` has them


@dataclass(frozen=True)
class Placement:
    """Constants as kernels take them.

    Attributes:
        tensors: of each, with gradients: (), or (size,), each for `repeat` columns; None for a number.
        numbers: of each, 0 where a tensor is.
        kinds: of each, how it is taken.
        size, repeat: a column c has the constant c // repeat % size.
    """

    tensors: tuple[Tensor | None, ...]
    numbers: tuple[float, ...]
    kinds: tuple[int, ...]
    size: int
    repeat: int

    def columns(self, tensor: Tensor | None, leading: int) -> Tensor | None:
        """A tensor (..., B, ...) as (..., N / (size * repeat), size, repeat), after so many leading dimensions."""
        return None if tensor is None else tensor.reshape(*tensor.shape[:leading], -1, self.size, self.repeat)

    def total(self, sums: Tensor, constant: Tensor) -> Tensor:
        """Sums over the steps, one for each column, as the gradient of a constant."""
        return sums.reshape(-1, self.size, self.repeat).sum((0, 2) if constant.dim() else (0, 1, 2))


def as_column(constant: Tensor) -> Tensor:
    """A placed constant in the form that broadcasts to (..., size, repeat)."""
    return constant.unsqueeze(-1) if constant.dim() else constant


def place(values: Sequence[float | Tensor | None], x: Tensor) -> Placement | None:
    """The placement of constants of neurons with the input x (T, B, ...); None if they do not go together with it."""
    placed = [_placed(value, x.device) for value in values]
    if any(isinstance(value, Tensor) and not _fits(value, x) for value in placed):
        return None
    shapes = [value.shape for value in placed if isinstance(value, Tensor) and value.dim()]
    sizes = (1,) * (x.dim() - 1) if not shapes else torch.broadcast_shapes(*shapes, (1,) * (x.dim() - 1))
    varying = [place for place, size in enumerate(sizes) if size > 1] or [0]
    first, last = varying[0], varying[-1] + 1
    run = x.shape[1:][first:last]
    size, repeat = (math.prod(run), math.prod(x.shape[1 + last :])) if shapes else (1, 1)
    tensors: list[Tensor | None] = []
    numbers, kinds = [], []
    for value in placed:
        if not isinstance(value, Tensor):
            tensors.append(None)
        elif value.dim():
            aligned = value.reshape((1,) * (x.dim() - 1 - value.dim()) + value.shape)
            tensors.append(aligned.reshape(aligned.shape[first:last]).expand(run).reshape(size).contiguous())
        else:
            tensors.append(value)
        numbers.append(value if isinstance(value, float) else 0.0)
        kinds.append(NUMBER if not isinstance(value, Tensor) else EACH if value.dim() else ONE)
    return Placement(tuple(tensors), tuple(numbers), tuple(kinds), size, repeat)


def _placed(value: float | Tensor | None, device: torch.device) -> float | Tensor:
    """A constant as a number, a tensor () in float32 on the device, or as it is if it has more elements."""
    if not isinstance(value, Tensor):
        return 0.0 if value is None else float(value)
    if value.numel() != 1:
        return value
    if value.device.type == "cpu" and device.type != "cpu" and not value.requires_grad:
        return float(value)  # a number in torch's own operations, too
    return value.reshape(()).to(device, torch.float32)


def _fits(value: Tensor, x: Tensor) -> bool:
    """Whether a constant broadcasts to a step of x and leaves its shape and dtype as they are."""
    if value.dim() == 0:
        return True
    if value.dtype != torch.float32 or value.device != x.device or value.dim() > x.dim() - 1:
        return False
    return all(a in (1, b) for a, b in zip(reversed(value.shape), reversed(x.shape[1:]), strict=False))
