"""Delays as numbers: how many steps each layer may have, what it begins with, and what it has learned.

Shapes: S that of a layer's delays without the dimension for taps: (O, I) of a linear layer, that of its weight of a
convolution, (C,) per channel.
"""

import fnmatch
import math
from collections.abc import Iterable, Mapping, Sequence
from numbers import Integral, Real
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from ..errors import ArgumentError, WiringError, did_you_mean
from ..layers.base import DelayLayer
from ..layers.checks import HALF, check_delays
from ..layers.frozen import Frozen
from ..layers.taps import round_delays
from .find import all_delays

Value = TypeVar("Value")
Delays = float | Tensor | np.ndarray[Any, Any] | Sequence[Any]  # for one layer, in steps or, with dt, in seconds
Init = str | Delays | Mapping[str, str | Delays]
MaxDelay = float | Mapping[str, float]

_LONGEST = 1000  # steps that a time may be: more is rather a number of steps, or of milliseconds
_ROUNDING = 1e-6  # of a number of steps, which a time is divided into


def delays(model: nn.Module, *, rounded: bool = False, dt: float | None = None) -> dict[str, np.ndarray[Any, Any]]:
    """The delays of a model as they are now, by the name of the layer: copies, as numpy arrays.

    Args:
        model: with delays of `add_delays`, or layers of delays of its own.
        rounded: whole steps, as in `eval()`, halves up; by default they are what is learned, between whole steps.
        dt: length of a step in seconds; with it the delays are in seconds, and else in steps.

    Returns:
        For each layer an array of the shape of its weight, (out, in) or that of a convolution's kernel; per channel
        (channels,). With several taps, these are the last dimension. Rounded and frozen delays are integers, unless in
        seconds. `set_delays` writes such arrays back.

    Raises:
        ArgumentError: the model has no delays.
    """
    unit = 1.0 if dt is None else _checked_dt(dt)
    found: dict[str, np.ndarray[Any, Any]] = {}
    for name, delay in all_delays(model):
        value = delay.delays.detach().reshape(_shape(delay)).cpu()
        value = value.float() if value.dtype in HALF else value
        whole = value.long() if isinstance(delay, Frozen) else round_delays(value).long() if rounded else value.clone()
        found[name] = whole.numpy() if dt is None else whole.double().numpy() * unit
    return found


def set_delays(model: nn.Module, values: Mapping[str, Delays], *, dt: float | None = None) -> None:
    """Write delays into a model, in place: the reverse of `delays`. Everything is checked before anything is written.

    Args:
        model: with learned delays.
        values: for each layer to be changed, by its name or by a pattern such as "conv*", a number for all of its
            delays, or an array or tensor of the shape that `delays` gives.
        dt: length of a step in seconds, if the values are in seconds.

    Raises:
        ArgumentError: a name matches no layer with delays, a shape does not fit, or a delay is not in 0..max_delay.
        WiringError: the delays are frozen.
    """
    if not isinstance(values, Mapping):
        raise ArgumentError("values", "a mapping from names of layers to delays", type(values).__name__)
    write(dict(all_delays(model)), values, "values", dt)


def initialise(layers: Mapping[str, DelayLayer], init: Init, dt: float | None) -> None:
    """Give delays their first values: what `add_delays` was passed as `init`."""
    if isinstance(init, Mapping):
        write(layers, init, "init", dt)
    elif isinstance(init, str | Real):
        for delay in layers.values():
            delay.reset_parameters(init if isinstance(init, str) else _in_steps(float(init), dt))
    elif len(layers) == 1:
        write(layers, dict.fromkeys(layers, init), "init", dt)
    else:
        advice = f"{len(layers)} layers get delays, {', '.join(layers)}: pass a mapping from their names"
        raise ArgumentError("init", "a number or 'uniform' for all layers", type(init).__name__, advice)


def write(layers: Mapping[str, DelayLayer], values: Mapping[str, Any], argument: str, dt: float | None) -> None:
    """Write delays into the layers whose names or patterns are in a mapping, after all were checked."""
    chosen = by_layer(argument, values, layers)
    frozen = [name for name in chosen if isinstance(layers[name], Frozen)]
    if frozen:
        raise WiringError(f"the delays of {', '.join(frozen)} are frozen: set them before freeze_delays")
    ready: dict[str, Tensor | str] = {}
    for name, (key, value) in chosen.items():
        if isinstance(value, str):
            ready[name] = value
        else:
            ready[name] = _tensor(layers[name], value, f"{argument}[{key!r}]", dt)
    for name, made in ready.items():
        if isinstance(made, str):
            layers[name].reset_parameters(made)
            continue
        with torch.no_grad():
            layers[name].delays.copy_(made)


def _tensor(delay: DelayLayer, value: Any, argument: str, dt: float | None) -> Tensor:
    """The delays of a layer in steps, of their own shape; checked."""
    try:
        given = torch.as_tensor(value).detach().to("cpu", torch.float64)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ArgumentError(argument, "a number, an array or a tensor", f"{type(value).__name__} ({error})") from None
    given = given if dt is None else given / _checked_dt(dt)
    shape = _shape(delay)
    if given.dim() and given.shape not in (shape, delay.delays.shape):
        raise ArgumentError(argument, f"a number or shape {tuple(shape)}, that of the weight", tuple(given.shape))
    if dt is not None:  # a time that was a whole number of steps is one again
        given = torch.where((given - given.round()).abs() < _ROUNDING * (1 + given.abs()), given.round(), given)
    check_delays(given, delay.max_delay, argument)
    return (given.reshape(delay.delays.shape) if given.dim() else given.expand(delay.delays.shape)).to(delay.delays)


def _shape(delay: DelayLayer) -> torch.Size:
    """The shape of a layer's delays, without the dimension for its taps if there is one tap."""
    shape = delay.delays.shape
    return shape[:-1] if len(shape) > 1 and shape[-1] == 1 else shape


# ------------------------------------------------------------------------------------------------ the longest delay


def longest(
    max_delay: MaxDelay, layers: Iterable[str], dt: float | None, left_out: Mapping[str, str]
) -> dict[str, int]:
    """The largest delay of each layer, in steps.

    Args:
        max_delay: in steps, or in seconds if there is a dt; one for all, or by names or patterns of layers.
        layers: their names.
        dt: length of a step in seconds.
        left_out: layers that get no delays, with the reason, for the error if one of them is named.
    """
    layers = [*layers]
    if not isinstance(max_delay, Mapping):
        return dict.fromkeys(layers, _whole("max_delay", max_delay, dt))
    chosen = by_layer("max_delay", max_delay, layers, left_out)
    missing = [name for name in layers if name not in chosen]
    if missing:
        advice = "Add them, or '*' for all that are not named; filter_fn leaves layers out"
        raise ArgumentError(
            "max_delay", "an entry for each layer with delays", f"none for {', '.join(missing)}", advice
        )
    return {name: _whole(f"max_delay[{chosen[name][0]!r}]", chosen[name][1], dt) for name in layers}


def by_layer(
    argument: str, values: Mapping[str, Value], layers: Iterable[str], left_out: Mapping[str, str] | None = None
) -> dict[str, tuple[str, Value]]:
    """For each layer its entry (key, value) in a mapping by names or patterns; names come before patterns.

    Patterns are those of `fnmatch`, such as "conv*" or "*"; of several that match, the first one counts.

    Raises:
        ArgumentError: a key matches no layer.
    """
    layers = [*layers]
    for key in values:
        if not isinstance(key, str) or not (key in layers or fnmatch.filter(layers, key)):
            reason = (left_out or {}).get(key) if isinstance(key, str) else None
            advice = f"{key} gets no delays: {reason}" if reason else did_you_mean(key, layers)
            raise ArgumentError(argument, f"names among {', '.join(layers)}", key, advice)
    chosen: dict[str, tuple[str, Value]] = {}
    for name in layers:
        keys = [name] if name in values else [key for key in values if fnmatch.fnmatchcase(name, key)]
        if keys:
            chosen[name] = (keys[0], values[keys[0]])
    return chosen


def _whole(argument: str, value: object, dt: float | None) -> int:
    """A number of steps, out of steps or of seconds."""
    if dt is None:
        if isinstance(value, Integral) and not isinstance(value, bool) and int(value) >= 0:
            return int(value)
        is_time = isinstance(value, Real) and not isinstance(value, Integral)
        advice = "For a time in seconds pass dt=, the length of a step in seconds, too" if is_time else ""
        raise ArgumentError(argument, "an integer >= 0", repr(value), advice)
    if not isinstance(value, Real) or isinstance(value, bool) or not math.isfinite(value) or value < 0:
        raise ArgumentError(argument, "a time >= 0 in seconds", repr(value))
    dt = _checked_dt(dt)
    steps = float(value) / dt
    if steps >= _LONGEST:
        raise ArgumentError(
            argument,
            f"a time in seconds, of less than {_LONGEST} steps of dt={dt:g} s",
            f"{value:g} s, which are {steps:.0f} steps",
            f"If it is in milliseconds, pass {value / 1000:g}; if it is a number of steps, leave dt out",
        )
    if abs(steps - round(steps)) > _ROUNDING * max(1.0, steps):
        below, above = math.floor(steps) * dt, math.ceil(steps) * dt
        raise ArgumentError(
            argument,
            f"a whole number of steps of dt={dt:g} s",
            f"{value:g} s, which are {steps:g} steps",
            f"Pass {below:g} or {above:g}",
        )
    return round(steps)


def _in_steps(value: float, dt: float | None) -> float:
    """A number of steps, which need not be whole, out of steps or of seconds."""
    if dt is None:
        return value
    steps = value / _checked_dt(dt)
    return float(round(steps)) if abs(steps - round(steps)) < _ROUNDING * max(1.0, abs(steps)) else steps


def _checked_dt(dt: object) -> float:
    if not isinstance(dt, Real) or isinstance(dt, bool) or not math.isfinite(dt) or dt <= 0:
        raise ArgumentError("dt", "the length of a step in seconds, > 0", repr(dt))
    return float(dt)
