"""Derivatives of derivatives, and calls within `torch.func` transforms.

The engines write into memory that they reuse, which torch can neither differentiate nor batch. Where that is wanted,
they compute the same with plain operations of torch: in a backward pass that will be differentiated
(`create_graph=True`) or is batched, within `torch.func.grad`, `vmap`, `jvp` and so on, and in forward-mode
differentiation.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.autograd import forward_ad


def is_transformed() -> bool:
    """Whether the present call is within a transform of `torch.func` or forward-mode differentiation."""
    if torch.compiler.is_compiling():
        return False
    return torch._C._are_functorch_transforms_active() or forward_ad._current_level >= 0


def needs_graph() -> bool:
    """Whether the present backward pass will be differentiated itself, or is batched."""
    return not torch.compiler.is_compiling() and (torch.is_grad_enabled() or is_transformed())


def gradients(
    function: Callable[..., Tensor], inputs: Sequence[Tensor], grad: Tensor, wanted: Sequence[bool]
) -> list[Tensor | None]:
    """The gradients of function(*inputs), in plain operations, for those inputs that are wanted; differentiable."""
    places = [place for place, want in enumerate(wanted) if want]

    def of_wanted(*some: Tensor) -> Tensor:
        values = list(inputs)
        for place, value in zip(places, some, strict=True):
            values[place] = value
        return function(*values)

    result: list[Tensor | None] = [None] * len(inputs)
    with torch.autocast(grad.device.type, enabled=False):
        pull_back = torch.func.vjp(of_wanted, *(inputs[place] for place in places))[1]
        for place, value in zip(places, pull_back(grad), strict=True):
            result[place] = value
    return result
