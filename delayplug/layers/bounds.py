"""Parameters that live in an interval, and are brought back into it after every optimizer step.

What is global, and since when: importing this module changes nothing. The first parameter with a range, which is that
of the first layer with delays, registers one hook with all torch optimizers of the process, and the hook stays. After
each step it looks up the parameters of the optimizer that has stepped, one dictionary look-up each, and clamps those
that have a range; without any such parameter in the process it returns at once. Ranges are held beside the parameters
by weak references, and go when the parameters go: a copied or unpickled parameter has none until the layer that owns it
sets it again, which `DelayLayer` does for its own.
"""

import functools
import math
import weakref
from typing import NamedTuple

import torch
from torch import Tensor
from torch.optim.optimizer import register_optimizer_step_post_hook

Bound = float | Tensor


class _Range(NamedTuple):
    parameter: "weakref.ref[Tensor]"
    low: float
    high: Bound


# By id, since tensors compare entry by entry. The weak reference removes the entry before its id can be used again.
_ranges: dict[int, _Range] = {}


def limit(parameter: Tensor, low: float, high: Bound) -> None:
    """Give a parameter its range, whose upper end may differ by entry; a copy of the parameter has to get its own."""
    key, ranges = id(parameter), _ranges

    def forget(gone: "weakref.ref[Tensor]") -> None:
        if key in ranges and ranges[key].parameter is gone:
            del ranges[key]

    _ranges[key] = _Range(weakref.ref(parameter, forget), low, high)
    _watch_optimizers()


def unlimit(parameter: Tensor) -> None:
    """Take the range away, and the weak reference with it: `torch.utils.swap_tensors` accepts no such reference."""
    _ranges.pop(id(parameter), None)


def clamp(parameter: Tensor, low: float, high: Bound) -> None:
    """Bring a parameter into an interval. Infinity is in none: it becomes NaN, so that it is noticed.

    Through `.data`: repeating it between a forward and its backward pass changes no value, so autograd need not know.
    """
    data = parameter.data.nan_to_num_(math.nan, math.nan, math.nan)
    if isinstance(high, Tensor):
        data.clamp_(min=low).clamp_(max=high)
    else:
        data.clamp_(low, high)


def clamped(value: Tensor, low: float, high: Bound) -> Tensor:
    """The same of a value that is not to be changed; differentiable."""
    finite = value.nan_to_num(math.nan, math.nan, math.nan)
    return finite.clamp(min=low).clamp(max=high) if isinstance(high, Tensor) else finite.clamp(low, high)


def _clamp_stepped(optimizer: torch.optim.Optimizer, *_: object) -> None:
    if not _ranges:
        return
    parameter: Tensor
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            known = _ranges.get(id(parameter))
            if known is not None and known.parameter() is parameter:
                clamp(parameter, known.low, known.high)


@functools.cache
def _watch_optimizers() -> None:
    register_optimizer_step_post_hook(_clamp_stepped)
