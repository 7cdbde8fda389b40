"""Step by step over a sequence: a model, with or without an argument for its state, and a neuron of single steps.

Shapes: T steps, B batch.
"""

import functools
import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from .. import _triton
from ..neurons.fused import run_fused
from ..neurons.loops import compiled_loops, over_steps, stacked
from ..surgery.dataflow import preserved
from ..surgery.inventory import Network
from ..surgery.underway import reset_delays
from ..toolkits.capabilities import FusedNeurons, streams
from ..toolkits.toolkit import Toolkit

Result = TypeVar("Result")
Forward = Callable[..., Any]
# step(input, state) gives the output and the next state
Step = Callable[[Tensor, Any], tuple[Any, Any]]


class Continuing(nn.Module, ABC):
    """A module over sequences that goes on from an explicit state: `stream` runs it by its `chunk`."""

    @abstractmethod
    def chunk(self, x: Tensor, state: Any = None) -> tuple[Any, Any]:
        """A part of a sequence, (T, B, ...), from a state, None for a fresh one: the outputs, and the next state."""


def step_by_step(step: Step, x: Tensor, state: Any = None) -> tuple[Any, Any]:
    """A loop over time.

    Args:
        step: runs one step from a state.
        x: its input, (T, B, ...).
        state: to begin with.

    Returns:
        The outputs with every tensor stacked over time, (T, B, ...), and of all else the last value; the last state.
    """
    outputs = []
    for x_t in x.unbind(0):
        y, state = step(x_t, state)
        outputs.append(y)
    return stacked(outputs), state


# --------------------------------------------------------------------------------------------------- a model


def call(model: nn.Module, x: Tensor, state: Any = None) -> tuple[Any, Any]:
    """One call of a model: (output, next state); the state is None for a model that takes none.

    A model takes a state if its forward has an argument of that name; then it returns the next one with its output.
    `functools.partial(call, model)` is the step of `step_by_step`.
    """
    parameter = inspect.signature(model.forward).parameters.get("state")
    if parameter is None:
        return model(x), None
    begins = state is None and parameter.default is not parameter.empty  # by the model's own default
    y, state = model(x) if begins else model(x, state=state)
    return y, state


def reset_states(network: Network) -> None:
    """Bring all neurons, delays and other modules with a memory back to a fresh state."""
    reset_delays(network.model)
    for module in network.modules.values():
        streams(network.toolkit).reset(module)


def from_fresh_state(network: Network, run: Callable[[], Result]) -> Result:
    """What `run` returns, called in a fresh state of the network, which is left in a fresh state, too."""
    reset_states(network)
    try:
        return run()
    finally:
        reset_states(network)


def has_loop(network: Network, x: Tensor) -> bool:
    """Whether the forward of a model loops over a sequence x (T, B, ...): then its neurons run once for each step."""
    once, twice = (calls_of_neurons(network, x[:1, :1].expand(steps, *x[0, :1].shape)) for steps in (1, 2))
    return once is not None and twice == 2 * once


def calls_of_neurons(network: Network, x: Tensor) -> int | None:
    """How often a call of the model in evaluation runs its first neuron; None if it does not run on x."""
    calls = list[None]()
    hook = next(iter(network.neurons.values())).register_forward_pre_hook(lambda *_: calls.append(None))
    with hook, preserved(network.model), torch.no_grad():
        network.model.eval()
        try:
            from_fresh_state(network, lambda: network.model(x))
        except Exception:
            return None
    return len(calls)


# -------------------------------------------------------------------------------------------------- a neuron


def over_time(toolkit: Toolkit, neuron: nn.Module, forward: Forward, x: Tensor) -> Any:
    """A neuron of single steps over a whole sequence, from a fresh state: in a kernel, its toolkit's way, or its loop.

    Args:
        toolkit: the neuron's.
        neuron: it holds no state, or the caller resets it before.
        forward: what runs one step of it: `neuron.forward`, or what it was before it was replaced.
        x: its input, (T, B, ...).

    Returns:
        What its forward returns, with every tensor stacked over time.
    """
    is_own = getattr(forward, "__func__", None) is type(neuron).forward  # nobody has replaced it
    if is_own and isinstance(toolkit, FusedNeurons) and _triton.runs_on(x.device):
        activity = run_fused(toolkit.dynamics(neuron), x)
        if activity is not None:
            return toolkit.fused_output(neuron, activity)
    block = streams(toolkit).as_sequence(neuron)
    if block is not None:
        with block:
            return forward(x)
    step = _holding if toolkit.held_state(neuron) else _carrying
    if is_own:
        return over_steps(step, neuron, x, ())
    with compiled_loops(False):  # a compiled loop would be cached for a function that the next call does not use
        return over_steps(functools.partial(step, forward=forward), neuron, x, ())


# At the top of the module, as `over_steps` wants its steps.


def _holding(neuron: nn.Module, x: Tensor, state: Any, forward: Forward | None = None) -> tuple[Any, tuple[()]]:
    """A step of a neuron that holds its state."""
    return (forward or functools.partial(type(neuron).forward, neuron))(x), ()


def _carrying(neuron: nn.Module, x: Tensor, state: Any, forward: Forward | None = None) -> tuple[Any, Any]:
    """A step of a neuron that returns its state behind its output."""
    out = (forward or functools.partial(type(neuron).forward, neuron))(x, *state)
    return out, out[1:] if isinstance(out, tuple) else ()
