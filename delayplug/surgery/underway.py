"""What is under way in the delays of a model, in the hands of its user: say what the next call goes on from.

Needed only where that cannot be seen: see docs/guide/sequences.md, and `plan_delays`, which tells what marks a new
sequence. Delays whose state travels with the caller's, as in Norse's `SequentialState`, keep nothing here.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager

import torch
from torch import Tensor, nn

from ..errors import ArgumentError
from ..layers.state import DelayState
from .delayed import Delayed, StatefulDelayed
from .find import delayed_layers


def reset_delays(model: nn.Module) -> None:
    """Begin a new sequence with the next call, whatever the state of the neurons is.

    Inputs that have not arrived yet are forgotten. Where the caller passes the delays' state, pass None there.
    """
    for layer in _remembering(model).values():
        layer.delay_memory.forget()


def detach_delays(model: nn.Module) -> None:
    """Cut the inputs that have not arrived yet off from the graph, as for truncated backpropagation through time.

    Needed only where the neurons' own state is not detached in a way that can be seen. Where the caller passes the
    delays' state, detach that (`DelayState.detach`).
    """
    for layer in _remembering(model).values():
        layer.delay_memory.detach()


def delay_state(model: nn.Module) -> dict[str, DelayState | None]:
    """What is under way in the delays after the last call, for `set_delay_state`; it does not change with later calls.

    Save it with a copy of the neurons' states, and put both back: then the model goes on from there. The inputs have
    their graph; `torch.save` and `copy.deepcopy` take states without one (`DelayState.detach`).

    Returns:
        Names of the delayed layers to their states; None where nothing is under way.
    """
    return {name: layer.delay_memory.state for name, layer in _remembering(model).items()}


def set_delay_state(model: nn.Module, state: Mapping[str, DelayState | None]) -> None:
    """Go on from this state with the next call, whatever the state of the neurons is.

    Args:
        model: with delays.
        state: what `delay_state` returned, for this model or a copy of it, on any device; None begins a sequence.

    Raises:
        ArgumentError: it is not a state of this model. Nothing was changed.
    """
    layers = _remembering(model)
    if not isinstance(state, Mapping) or state.keys() != layers.keys():
        got = ", ".join(map(str, state)) if isinstance(state, Mapping) else type(state).__name__
        raise ArgumentError("state", f"what delay_state returned, for {', '.join(layers) or 'no layer'}", got)
    for name, part in state.items():
        _check_state(name, part, layers[name])
    for name, part in state.items():
        device = layers[name].delay.delays.device
        if part is not None and part.history.device != device:
            part = DelayState(part.past().to(device))
        layers[name].delay_memory.go_on_from(part)


def select_delays(model: nn.Module, index: slice | Tensor | Sequence[int], *, new: int = 0) -> None:
    """Cut, permute or repeat the batch of what is under way after the last call; the next call goes on from that.

    For states of neurons that were cut or permuted by a copy, such as `mem[mask]` or `mem[order]`: the same index. A
    slice such as `mem[:n]` needs nothing.

    Args:
        model: with delays.
        index: of the samples: a slice, whole numbers (n,), repeated ones too, or a mask (B,) of bool.
        new: samples to add behind them for which nothing is under way.

    Raises:
        ArgumentError: the index does not fit the batch of the last call. Nothing was changed.
    """
    layers = _remembering(model)
    selected: dict[str, DelayState] = {}
    for name, layer in layers.items():
        state, batch = layer.delay_memory.state, layer.delay_memory.batch
        if state is not None:
            if batch is not None and batch != state.history.shape[1]:
                expected = f"a model whose batch has one dimension; {name} has all of several in one"
                raise ArgumentError("model", expected, tuple(state.history.shape[1:]), "Use set_delay_state")
            selected[name] = state.select(_checked(index, state.history)).extended(new)
    for name, part in selected.items():
        layers[name].delay_memory.go_on_from(part)


@contextmanager
def new_sequence(model: nn.Module) -> Iterator[None]:
    """A block that is one sequence: it begins with the first call in it, and every call goes on from the one before.

    For programs that change the state of their neurons in ways that cannot be followed, such as
    `mem = mem.clamp(-1, 1)` after every step. What is done to the order or the size of the batch has to be said, with
    `select_delays`.
    """
    with ExitStack() as stack:
        for layer in _remembering(model).values():
            stack.enter_context(layer.delay_memory.one_sequence())
        yield


def _remembering(model: nn.Module) -> dict[str, Delayed]:
    """The layers whose delays keep a state, by name."""
    return {name: layer for name, layer in delayed_layers(model) if not isinstance(layer, StatefulDelayed)}


def _check_state(name: str, state: object, layer: Delayed) -> None:
    if state is None:
        return
    depth = layer.delay.max_delay
    if not isinstance(state, DelayState):
        raise ArgumentError(f"state[{name!r}]", "a DelayState or None", type(state).__name__)
    if state.history.shape[0] != depth:
        expected = f"a history of the last {depth} inputs, ({depth}, B, ...)"
        raise ArgumentError(f"state[{name!r}]", expected, tuple(state.history.shape))


def _checked(index: slice | Tensor | Sequence[int], history: Tensor) -> slice | Tensor:
    """The index, with whole numbers of the batch of a history (D, B, ...)."""
    if isinstance(index, slice):
        return index
    try:
        index = torch.as_tensor(index, device=history.device)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ArgumentError("index", "a slice, whole numbers or a mask", repr(index)) from error
    if index.dtype == torch.bool or history.dim() < 2:
        return index
    if index.numel() == 0:
        return index.long()
    low, high = torch.stack((index.min(), index.max())).tolist()
    batch = history.shape[1]
    if index.is_floating_point() or low < -batch or high >= batch:
        raise ArgumentError("index", f"whole numbers from {-batch} to {batch - 1}", f"{low} to {high}")
    return index
