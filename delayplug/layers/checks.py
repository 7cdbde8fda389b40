"""Arguments that several places check: counts, delays, inputs."""

import math
from numbers import Integral

import torch
from torch import Tensor

from ..errors import ArgumentError
from .autograd import is_transformed

HALF = (torch.float16, torch.bfloat16)


def check_count(name: str, value: object, least: int) -> None:
    """Raise ArgumentError unless `value` is an integer of at least `least`."""
    if not isinstance(value, Integral) or isinstance(value, bool) or value < least:
        raise ArgumentError(name, f"an integer >= {least}", repr(value))


def check_delays(delays: Tensor, max_delay: int, name: str, advice: str = "") -> None:
    """Raise ArgumentError unless all delays are in 0..max_delay; waits for the device."""
    # NaN fails both comparisons: all must be inside, rather than none outside.
    if not bool(((delays >= 0) & (delays <= max_delay)).all()):
        got = f"values from {delays.min().item():g} to {delays.max().item():g}"
        raise ArgumentError(name, f"delays between 0 and {max_delay} steps", got, advice)


def check_not_diverged(values: Tensor, name: str) -> None:
    """Raise ArgumentError if delays or widths are not all finite; waits for the device."""
    if not _is_finite(values.detach()):
        bad = values.numel() - int(values.isfinite().sum())
        raise ArgumentError(
            name,
            "finite values in steps",
            f"NaN or infinity in {bad} of {values.numel()}",
            "Training diverged: load an earlier checkpoint, and lower the learning rate or clip the gradients",
        )


def output_steps(steps_in: int, taps: int, steps: int | None) -> int:
    """The length of a convolution's result: that of the input if `steps` is None, else `steps`, at most T + K - 1."""
    if steps is None:
        return steps_in
    longest = steps_in + taps - 1
    if not 1 <= steps <= longest:
        raise ArgumentError("steps", f"a length between 1 and T + K - 1 = {longest}", steps)
    return steps


def check_input(x: object, features: int, *, channels_last: bool, leading: int) -> None:
    """Raise ArgumentError unless x is a finite real tensor with `features` in its place.

    Args:
        x: (*leading, *batch, features) with `channels_last`, else (*leading, B, features, ...) or (*leading, features).
        features: their number.
        channels_last: where they are.
        leading: number of dimensions of time, 0 or 1.
    """
    if not isinstance(x, Tensor):
        raise ArgumentError("x", "a tensor", type(x).__name__)
    dims = x.dim() - leading
    if dims < 1 or x.shape[-1 if channels_last else min(dims - 1, 1) + leading] != features:
        time = "T, " if leading else ""
        shape = f"({time}*batch, {features})" if channels_last else f"({time}B, {features}, ...)"
        raise ArgumentError("x", f"shape {shape}", tuple(x.shape))
    check_finite(x, leading)


def check_finite(x: Tensor, leading: int) -> None:
    """Raise ArgumentError unless x holds real finite values and, with a dimension of time, at least one step."""
    if leading and x.shape[0] == 0:
        raise ArgumentError("x", "at least one step", tuple(x.shape))
    if x.is_complex():
        raise ArgumentError("x", "real values", x.dtype)
    # On a GPU the check would wait for the device; there a NaN is passed on, as in any layer. Transforms of torch.func
    # have no single value to check.
    if x.device.type != "cpu" or torch.compiler.is_compiling() or is_transformed():
        return
    if not _is_finite(x.detach()):
        raise ArgumentError("x", "finite values", "NaN or infinity")


def _is_finite(x: Tensor) -> bool:
    # The sum is the quick check; that of large finite values may overflow.
    return math.isfinite(x.sum().item()) or bool(x.isfinite().all())
