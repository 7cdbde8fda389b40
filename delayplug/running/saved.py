"""The state of a stream as a plain dictionary, which is checked when it is read."""

import math
from typing import TypedDict, TypeGuard

import torch
from torch import Tensor

from ..errors import ArgumentError
from ..toolkits.states import Leaf, to_leaves
from .carried import Carried

_MOST_ELEMENTS = 1 << 28  # of a step that a saved state may ask for


class SavedState(TypedDict):
    """What `Stream.state` returns: numbers, text and tensors only.

    Keys:
        steps: pushed since the beginning; 0 with everything else empty.
        shape, dtype: of a step, such as [2, 700] and "float32".
        state: the tensors and numbers that the network carries, by their paths.
    """

    steps: int
    shape: list[int]
    dtype: str
    state: dict[str, Leaf]


def saved(steps: int, step: Tensor, carried: Carried) -> SavedState:
    """The state after some steps; `step` has the shape and dtype of one.

    Raises:
        ArgumentError: something in `carried` is no tensor, number or container of them.
    """
    dtype = str(step.dtype).removeprefix("torch.")
    return {"steps": steps, "shape": list(step.shape), "dtype": dtype, "state": to_leaves(carried)}


def read_saved(state: object) -> tuple[int, Tensor | None, dict[str, Leaf]]:
    """(steps, a step of zeros or None at the beginning, entries of the state), checked but for the entries.

    Raises:
        ArgumentError: it is not what `saved` returns.
    """
    keys = SavedState.__required_keys__
    if not isinstance(state, dict) or set(state) != keys or not isinstance(state["state"], dict):
        got = sorted(map(str, state)) if isinstance(state, dict) else type(state).__name__
        raise ArgumentError("state", f"what Stream.state() returned, with {', '.join(sorted(keys))}", got)
    steps, shape, dtype = state["steps"], state["shape"], state["dtype"]
    if type(steps) is not int or steps < 0:
        raise ArgumentError("state", "a number of steps >= 0", repr(steps))
    if steps == 0:
        return 0, None, {}
    kind = getattr(torch, dtype, None) if isinstance(dtype, str) else None
    if not _is_shape(shape) or not isinstance(kind, torch.dtype):
        raise ArgumentError("state", "the shape and dtype of a step", f"{shape!r} and {dtype!r}")
    return steps, torch.zeros(shape, dtype=kind), state["state"]


def _is_shape(value: object) -> TypeGuard[list[int]]:
    if not isinstance(value, list) or not value or not all(type(n) is int and n > 0 for n in value):
        return False
    return math.prod(value) <= _MOST_ELEMENTS
