"""How constants of neurons are passed to kernels: as numbers, or as tensors of one value, or with one for each neuron.

Shapes: T steps, B batch, N = B * ... columns, one for each neuron of each sample. A constant of shape (size,)
holds for `repeat` neighbouring columns each, and starts again after size * repeat columns.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

# The kinds of a constant, as `kernels.membranes.constant` reads them: a number; a tensor with one value; a tensor with
# `size` values; a tensor with a value for each column.
NUMBER, ONE, EACH, FULL = range(4)


@dataclass(frozen=True)
class Placement:
    """Constants in the form in which kernels read them.

    Attributes:
        tensors: of each constant, differentiable: (), or (size,); None for a number.
        numbers: of each constant; 0 where it is a tensor.
        kinds: of each constant: NUMBER, ONE or EACH.
        size, repeat: column c has element c // repeat % size of a constant (size,).
    """

    tensors: tuple[Tensor | None, ...]
    numbers: tuple[float, ...]
    kinds: tuple[int, ...]
    size: int
    repeat: int

    def columns(self, tensor: Tensor | None, leading: int) -> Tensor | None:
        """Reshape (..., B, ...), with `leading` dimensions before B, to (..., N / (size * repeat), size, repeat)."""
        return None if tensor is None else tensor.reshape(*tensor.shape[:leading], -1, self.size, self.repeat)

    def total(self, sums: Tensor, constant: Tensor) -> Tensor:
        """The gradient of a constant, () or (size,), from sums over the steps for each column, (N,)."""
        return sums.reshape(-1, self.size, self.repeat).sum((0, 2) if constant.dim() else (0, 1, 2))


def as_column(constant: Tensor) -> Tensor:
    """A constant () or (size,) in a shape that broadcasts to (..., size, repeat)."""
    return constant.unsqueeze(-1) if constant.dim() else constant


def place_constants(values: Sequence[float | Tensor | None], x: Tensor) -> Placement | None:
    """Bring constants of neurons into the form in which kernels read them.

    Args:
        values: numbers, or tensors that broadcast to (B, ...); None counts as 0.
        x: the input of the neurons, (T, B, ...).

    Returns:
        None if a tensor is not float32 or on another device than x, or does not broadcast to (B, ...).
    """
    constants = [_number_or_tensor(value, x.device) for value in values]
    if any(isinstance(value, Tensor) and not _fits(value, x) for value in constants):
        return None
    shapes = [value.shape for value in constants if isinstance(value, Tensor) and value.dim()]
    sizes = (1,) * (x.dim() - 1) if not shapes else torch.broadcast_shapes(*shapes, (1,) * (x.dim() - 1))
    varying = [dimension for dimension, size in enumerate(sizes) if size > 1] or [0]
    first, last = varying[0], varying[-1] + 1
    shape = x.shape[1:][first:last]  # of the dimensions over which constants vary
    size, repeat = (math.prod(shape), math.prod(x.shape[1 + last :])) if shapes else (1, 1)
    tensors: list[Tensor | None] = []
    numbers, kinds = [], []
    for value in constants:
        if not isinstance(value, Tensor):
            tensors.append(None)
        elif value.dim():
            aligned = value.reshape((1,) * (x.dim() - 1 - value.dim()) + value.shape)
            tensors.append(aligned.reshape(aligned.shape[first:last]).expand(shape).reshape(size).contiguous())
        else:
            tensors.append(value)
        numbers.append(value if isinstance(value, float) else 0.0)
        kinds.append(NUMBER if not isinstance(value, Tensor) else EACH if value.dim() else ONE)
    return Placement(tuple(tensors), tuple(numbers), tuple(kinds), size, repeat)


def _number_or_tensor(value: float | Tensor | None, device: torch.device) -> float | Tensor:
    """A constant as a number, as a tensor () in float32 on the device, or unchanged if it has several elements."""
    if not isinstance(value, Tensor):
        return 0.0 if value is None else float(value)
    if value.numel() != 1:
        return value
    if value.device.type == "cpu" and device.type != "cpu" and not value.requires_grad:
        return float(value)  # torch's own operations also read such a tensor as a number
    return value.reshape(()).to(device, torch.float32)


def _fits(value: Tensor, x: Tensor) -> bool:
    """Whether a constant broadcasts to a step of x, (B, ...), without changing its shape or dtype."""
    if value.dim() == 0:
        return True
    if value.dtype != torch.float32 or value.device != x.device or value.dim() > x.dim() - 1:
        return False
    return all(a in (1, b) for a, b in zip(reversed(value.shape), reversed(x.shape[1:]), strict=False))
