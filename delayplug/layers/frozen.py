"""Layers whose delays are whole steps and no longer learned.

A frozen layer is the learned one with another class: the same object, with the same weights, name and hooks. Its delays
are a buffer of integers and sigma is None. In training and in `eval()` it computes, bit by bit, what the learned layer
does in `eval()`.
"""

from collections.abc import Callable
from typing import Any, NoReturn

import torch
from torch import Tensor

from ..errors import ArgumentError, WiringError
from .base import DelayLayer
from .checks import check_delays
from .conv import ConvDelay, KernelDelay
from .linear import LearnableDelay

DTYPES = (torch.uint8, torch.int16, torch.int32)  # the smallest that holds the largest delay is taken


class Frozen(DelayLayer):
    """Mixin of a layer with whole delays, which `freeze_delays` makes.

    Attributes:
        delays: buffer of integers, of the shape that the learned delays had, in steps.
        sigma: None.
    """

    _unit: Tensor  # of the precision that the layer computes in; not in the state_dict

    def __init__(self) -> None:
        raise TypeError("frozen layers are made by delayplug.freeze_delays(model), out of learned ones")

    @property
    def dtype(self) -> torch.dtype:
        return self._unit.dtype

    @property
    def rounds(self) -> bool:
        return True

    def _in_range(self) -> tuple[Tensor, None]:
        if self._checks_values():
            check_delays(self.delays, self.max_delay, self._named("delays"))
        return self.delays, None

    def _precise(self) -> list[Tensor | None]:
        return [self._unit]

    def _describe(self, size: str, *more: str) -> str:
        parts = (size, f"max_delay={self.max_delay}", f"delays={str(self.delays.dtype).removeprefix('torch.')}")
        return ", ".join((*parts, *more))

    def reset_parameters(self, init: str | float = "uniform") -> NoReturn:
        """Raises WiringError: frozen delays cannot be drawn again."""
        raise WiringError("the delays of this layer are frozen: make a new LearnableDelay or ConvDelay to train one")

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        name, delays = f"{prefix}delays", state_dict.get(f"{prefix}delays")
        if isinstance(delays, Tensor):
            if delays.dtype.is_floating_point or delays.dtype.is_complex or delays.dtype == torch.bool:
                advice = "Load learned delays before delayplug.freeze_delays(model)"
                raise ArgumentError(name, "whole steps, of an integer dtype", delays.dtype, advice)
            if delays.numel():
                check_delays(delays, self.max_delay, name, "Freeze the model with the max_delay of the saved one")
            state_dict[name] = delays.to(self.delays.dtype)
        super()._load_from_state_dict(state_dict, prefix, *args)


class FrozenDelay(Frozen, LearnableDelay):
    """A `LearnableDelay` whose delays are whole steps and do not learn; `freeze_delays` makes it."""


class FrozenConvDelay(Frozen, ConvDelay):
    """A `ConvDelay` whose delays are whole steps and do not learn; `freeze_delays` makes it."""


class FrozenKernelDelay(FrozenConvDelay, KernelDelay):
    """A `FrozenConvDelay` inside of a layer, whose name it leaves to the layer as `KernelDelay` does."""


_FROZEN: dict[type, type[Frozen]] = {
    LearnableDelay: FrozenDelay,
    ConvDelay: FrozenConvDelay,
    KernelDelay: FrozenKernelDelay,
}


def can_freeze(layer: DelayLayer) -> bool:
    """Whether it is one of delayplug's own classes: what a subclass computes when frozen is unknown."""
    return type(layer) in _FROZEN


def smallest(max_delay: int) -> torch.dtype:
    """The smallest integer type that holds all delays."""
    return next(dtype for dtype in DTYPES if max_delay <= torch.iinfo(dtype).max)


def freeze(layer: DelayLayer, delays: Tensor, max_delay: int) -> Callable[[], None]:
    """Make a learned layer a frozen one, in place, out of what has been checked; returns a function that undoes it."""
    kind = type(layer)
    attributes = {name: v.copy() if isinstance(v, dict) else v for name, v in layer.__dict__.items()}
    unit = torch.ones((), dtype=layer.dtype, device=layer.delays.device)
    del layer.delays, layer.sigma
    layer.__class__ = _FROZEN[kind]
    layer.register_buffer("delays", delays.to(unit.device))
    layer.register_buffer("sigma", None)
    layer.register_buffer("_unit", unit, persistent=False)
    layer.max_delay = max_delay
    layer.interpolation = "linear"  # whole delays are the same in all of them, and this one has no width

    def thaw() -> None:
        layer.__dict__.clear()
        layer.__dict__.update(attributes)
        layer.__class__ = kind

    return thaw
