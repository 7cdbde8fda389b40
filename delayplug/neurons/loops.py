"""Neurons over a sequence: the loop over steps, its compiled form, and what has to stay out of compiled graphs.

One file, since the three belong together: `over_steps` compiles segments of the loop within `compiled_loops`, and the
other way around `eager` keeps functions out of a model that the user compiles.
"""

import types
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch._compile import _disable_dynamo
from torch.utils._pytree import tree_map

F = TypeVar("F", bound=Callable[..., Any])

# step(neuron, input, state) gives the output and the next state
Step = Callable[[nn.Module, Tensor, Any], tuple[Any, Any]]
# loop(step, neuron, inputs over time, state) gives the outputs over time and the next state
Loop = Callable[[Step, nn.Module, Tensor, Any], tuple[Any, Any]]

_compiles: ContextVar[bool] = ContextVar("delayplug_compiles", default=False)
_compiled: "WeakKeyDictionary[nn.Module, dict[Step, Loop]]" = WeakKeyDictionary()
_MOST_STEPS = 16  # in one graph: longer ones take longer to compile and are hardly faster


def eager(function: F) -> F:
    """Keep a function out of compiled graphs: a compiled model breaks its graph at the call and continues after it.

    What watches over sequences compares objects and memory addresses, which a compiler would freeze into its guards.
    This is `torch.compiler.disable`, in the form that torch's own optimizers use: the compiler, which takes as long to
    import as torch itself, is imported with the first call rather than with this package.
    """
    return _disable_dynamo(function)  # type: ignore[return-value]


@contextmanager
def compiled_loops(wanted: bool = True) -> Iterator[None]:
    """Within the block, `over_steps` compiles its loop: seconds at the first call, much less time at all others."""
    token = _compiles.set(wanted)
    try:
        yield
    finally:
        _compiles.reset(token)


def over_steps(step: Step, neuron: nn.Module, x: Tensor, state: Any) -> Any:
    """A neuron over a sequence (T, B, ...), step by step; every tensor of its outputs is stacked over time.

    Args:
        step: of the neuron. A function at the top of a module, or at least the same object at every call: compiled
            loops are cached by it and the neuron.
        x: the input, time first.
        state: before the first step, in whatever form `step` takes.

    Returns:
        The outputs (T, ...); of whatever is not a tensor in them, the last.
    """
    length = _segment(x.shape[0] - 1) if _compiles.get() and not torch.compiler.is_compiling() else 0
    if length < 2:
        return _loop(step, neuron, x, state)[0]
    first, state = step(neuron, x[0], state)  # stays out of the graph: it makes the state
    segment, pieces = _compiled_segment(step, neuron), [stacked([first])]
    for xs in x[1:].split(length):
        run = segment if xs.shape[0] == length else _loop
        outs, state = run(step, neuron, xs, state)
        pieces.append(outs)
    return tree_map(lambda *parts: torch.cat(parts) if isinstance(parts[0], Tensor) else parts[-1], *pieces)


def _loop(step: Step, neuron: nn.Module, xs: Tensor, state: Any) -> tuple[Any, Any]:
    outputs = []
    for x_t in xs.unbind(0):  # xs[t] in the loop would cost a full-size gradient per step
        out, state = step(neuron, x_t, state)
        outputs.append(out)
    return stacked(outputs), state


def stacked(outputs: list[Any]) -> Any:
    """The outputs of single steps as those of a sequence: every tensor stacked over time, of all else the last."""
    return tree_map(lambda *steps: torch.stack(steps) if isinstance(steps[0], Tensor) else steps[-1], *outputs)


def _segment(steps: int) -> int:
    """Steps in one graph, such that few are left over."""
    return min(range(min(steps, _MOST_STEPS), _MOST_STEPS // 2, -1), key=lambda n: steps % n, default=steps)


def _compiled_segment(step: Step, neuron: nn.Module) -> Loop:
    loops = _compiled.setdefault(neuron, {})
    if step not in loops:
        # torch keeps a limited number of graphs for each code object: every neuron has its own.
        own = types.FunctionType(_loop.__code__.replace(), _loop.__globals__, "loop")
        loops[step] = _or_plain(torch.compile(own, dynamic=False), loops, type(neuron).__name__)
    return loops[step]


def _or_plain(compiled: Loop, loops: dict[Step, Loop], name: str) -> Loop:
    """The compiled loop; from the first failure to compile on, the plain one."""

    def run(step: Step, neuron: nn.Module, xs: Tensor, state: Any) -> tuple[Any, Any]:
        try:
            return compiled(step, neuron, xs, state)
        except Exception as error:  # a compiler can fail in any way; an error of the neuron's own is raised again below
            outputs = _loop(step, neuron, xs, state)
            reason = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
            warnings.warn(f"{name} does not compile and runs in a plain loop ({reason})", stacklevel=2)
            loops[step] = _loop
            return outputs

    return run
