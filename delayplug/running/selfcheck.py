"""Comparing two ways to run a model on a short sequence, where its structure does not show that they are equal.

Shapes: T steps, B batch.
"""

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from ..surgery.find import named_delays

_ROUNDING = 1e-4  # relative and absolute: sums in another order


def longest_delay(model: nn.Module) -> int:
    """The largest number of steps that a delay of the model may hold something back, 0 without delays."""
    return max((delay.max_delay for _, delay in named_delays(model)), default=0)


def noise_like(step: Tensor, steps: int) -> Tensor:
    """A sequence (steps, B, ...) of noise for a model that takes steps (B, ...); of integers, that step repeated.

    Half of the values are zero, the others one, times a power of two that differs from step to step: some of the steps
    make a network fire, and one that stays silent shows nothing.
    """
    if not step.is_floating_point():
        return step.expand(steps, *step.shape)
    generator = torch.Generator().manual_seed(0)
    scale = 2 ** (6 * torch.rand(steps, *(1,) * step.dim(), generator=generator, device="cpu"))
    return ((torch.rand(steps, *step.shape, generator=generator, device="cpu") < 0.5) * scale).to(step)


def differing(expected: Tensor, got: Tensor) -> int:
    """The number of values that differ by more than rounding; all, and at least one, where the shapes differ."""
    if expected.shape != got.shape:
        return max(1, expected.numel())
    return int((~torch.isclose(got.double(), expected.double(), atol=_ROUNDING, rtol=_ROUNDING)).sum())


def agree(expected: object, got: object, *, share: float = 0.0) -> bool:
    """Whether two results, tensors or containers of them, are equal to rounding.

    Args:
        expected, got: containers may be of different kinds; what is no tensor is not compared.
        share: of the values of each expected tensor that are not zero, how many may differ.
    """
    wanted, results = tree_leaves(expected), tree_leaves(got)
    return len(wanted) == len(results) and all(
        isinstance(b, Tensor) and differing(a, b) <= share * int((a != 0).sum())
        for a, b in zip(wanted, results, strict=True)
        if isinstance(a, Tensor)
    )
