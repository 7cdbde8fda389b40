"""Delays inside of a layer that stays the user's own.

A delayed layer is the user's module with its class exchanged for a subclass made here, and a child `delay` in it. Its
weight and bias are the very Parameters it had; its name, its place, its `isinstance` and the name of its class are
unchanged; undoing it puts the class back.

Inputs that are under way between two calls are in a `DelayState`. Where a container hands every child its state
(Norse's `SequentialState`), the delayed layer takes and returns one like any stateful module. Everywhere else a
`Memory` has it.
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, SupportsIndex

import torch
from torch import Tensor, fx, nn

from ..layers.base import DelayLayer
from ..layers.conv import Convolution
from ..layers.state import DelayState
from ..layers.tracing import refuse_other_exporters, traced_call
from ..neurons.loops import eager
from ..toolkits.toolkit import Toolkit
from ..toolkits.vocabulary import Granularity, Mode, TimeAxis, Turns
from .called import remove_hooks
from .classes import mixed, mixed_in, put_in, take_out
from .inner import InnerMemory
from .patch import replaced, replaced_forward
from .sequence import Memory
from .watched import unwatch_methods, watch_methods


@dataclass(frozen=True)
class Place:
    """Where a delay sits in a layer, and how the layer lies in time.

    Attributes:
        granularity: "synaptic" (in place of the weights), "axonal" (before the layer) or "dendritic" (after it).
        turns: how the calls of the layer and of its neuron follow each other.
        time: where the time is in the input of the layer: first, second, or folded into the batch (T B, ...).
        inner: name of the child that holds the weights; "" if the layer itself does.
        space: number of dimensions behind the channels.
        affine: the layer computes what a linear layer or a convolution of torch does, so that its output without input
            is its bias.
        weight: name of the attribute by which a neuron weighs its input itself, for a delay at each of its synapses.
    """

    granularity: Granularity
    turns: Turns = Turns.TOGETHER
    time: TimeAxis = TimeAxis.FIRST
    inner: str = ""
    space: int = 0
    affine: bool = True
    weight: str = ""

    def weights_of(self, layer: nn.Module) -> nn.Module:
        """The module that holds the weights of a layer with this place: the layer itself, or its child `inner`."""
        return layer.get_submodule(self.inner)

    def __setstate__(self, state: dict[str, Any]) -> None:
        # A model that delayplug 0.1 saved has plain strings here.
        words = {"granularity": Granularity, "turns": Turns, "time": TimeAxis}
        self.__dict__.update(state | {name: word(state[name]) for name, word in words.items()})


# Runs the delay over a value; with the weights of the layer if the delay applies them, else with None.
Through = Callable[[Tensor, Tensor | None], Tensor]


class Delayed(nn.Module):
    """Mixin of a layer with a delay: the layer's own `forward`, and the state in a `Memory`.

    Attributes:
        delay: the delays.
        delay_place: where they are in the layer.
        delay_memory: what is remembered between two calls.
    """

    delay: DelayLayer
    delay_place: Place
    delay_memory: Memory

    @eager
    def forward(self, *args: Any, **kwargs: Any) -> Any:
        if not args:  # the input came as a keyword argument, whatever the layer calls it
            name = next(iter(kwargs))
            args, kwargs = (kwargs[name],), {key: value for key, value in kwargs.items() if key != name}
        if isinstance(args[0], fx.Proxy):
            return traced_call(self, args, kwargs)
        refuse_other_exporters(self, within=True)
        memory, x, rest = self.delay_memory, args[0], args[1:]

        def remembering(value: Tensor, weight: Tensor | None) -> Tensor:
            frame = self._frame(value, weight)
            y, state = frame.advance(self.delay, memory.read(frame.step_shape, frame.steps), weight)
            memory.write(state)
            return y

        y = self._run(remembering, x, rest, kwargs)
        # Hooks of the user's have seen this output; it cannot be taken back.
        memory.delivered(y, None if self._forward_hooks else functools.partial(self._run_from, x, rest, kwargs))
        return y

    def _run_from(
        self, x: Any, args: tuple[Any, ...], kwargs: dict[str, Any], state: DelayState | None
    ) -> tuple[Any, DelayState | None]:
        """The layer from a state of its delay; returns the output and the next state."""
        after = state

        def through(value: Tensor, weight: Tensor | None) -> Tensor:
            nonlocal after
            y, after = self._frame(value, weight).advance(self.delay, state, weight)
            return y

        return self._run(through, x, args, kwargs), after

    def _frame(self, value: Tensor, weight: Tensor | None) -> "_Frame":
        memory, place = self.delay_memory, self.delay_place
        time = place.time if memory.mode() is Mode.SEQUENCE else None
        return _Frame(value, time, memory.folded_steps, place.space, per_channel=weight is None)

    def delayed_sequence(self, x: Any, steps: int) -> Any:
        """The layer over a whole sequence from a fresh state, the time folded into the batch (T B, ...)."""
        space = self.delay_place.space

        def through(value: Tensor, weight: Tensor | None) -> Tensor:
            frame = _Frame(value, TimeAxis.FOLDED, steps, space, per_channel=weight is None)
            run = self.delay.repeated if self.delay.repeats(frame.value, weight) else self.delay
            return frame.back(run(frame.value) if weight is None else run(frame.value, weight=weight))

        return self._run(through, x, (), {})

    def _run(self, through: Through, x: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        place, plain = self.delay_place, super().forward
        # Norse's Lift may be called with (x, state), and hands the state on.
        value, rest = (x[0], x[1:]) if isinstance(x, tuple) else (x, None)
        if place.weight:
            # The neuron gets the current that the delayed synapses make of its input, and multiplies it by one.
            current = through(value, getattr(self, place.weight))
            with replaced(self, place.weight, torch.eye(current.shape[-1], dtype=current.dtype, device=current.device)):
                return plain(current if rest is None else (current, *rest), *args, **kwargs)
        if place.granularity is Granularity.SYNAPTIC:
            layer = _affine(self)
            if not place.inner:
                return _plus(through(value, layer.weight), _bias(self))
            # A call of the child that holds the weights, for its hooks: weight norm and pruning make the weight there.
            with replaced_forward(layer, lambda value: _plus(through(value, layer.weight), _bias(self))):
                return layer(value)
        if place.granularity is Granularity.AXONAL:
            value = through(value, None)
            return plain(value if rest is None else (value, *rest), *args, **kwargs)
        y = plain(x, *args, **kwargs)
        silent = self._silent(value, plain, args, kwargs)  # the output without input is not delayed
        return _plus(through(_plus(y, None if silent is None else -silent), None), silent)

    def _silent(self, x: Tensor, plain: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor | None:
        """The output without input: the bias, or the output for one sample of zeros."""
        if self.delay_place.affine:
            return _bias(self)
        has_time = self.delay_memory.mode() is Mode.SEQUENCE and self.delay_place.time is not TimeAxis.FOLDED
        answer: Tensor = plain(torch.zeros_like(x[:1, :1] if has_time else x[:1]), *args, **kwargs)
        return answer

    def _replicate_for_data_parallel(self) -> "Delayed":
        # A replica lives for one call, and is one of several: it shares no memory with them.
        replica: Delayed = super()._replicate_for_data_parallel()  # type: ignore[no-untyped-call]
        replica.delay_memory = self.delay_memory.replica()
        return replica

    def _load_from_state_dict(self, state_dict: dict[str, object], prefix: str, *args: object) -> None:
        # The checkpoint of the plain network has no delays: it loads, and the delays stay as they are.
        inner = f"{prefix}delay."
        if not any(key.startswith(inner) for key in state_dict):
            state_dict.update({inner + key: value for key, value in self.delay.state_dict().items()})
        super()._load_from_state_dict(state_dict, prefix, *args)

    def __reduce_ex__(self, protocol: SupportsIndex) -> tuple[object, ...]:
        reduced = super().__reduce_ex__(protocol)
        assert isinstance(reduced, tuple)
        parts = mixed_in(type(self))
        if type(self) is not mixed(*parts):  # another tool made a class out of it: copies are that tool's business
            return reduced
        # The class is made at run time and cannot be imported by name; its two parents can.
        return (_blank, parts, *reduced[2:])


class StatefulDelayed(Delayed):
    """Mixin of a layer with a delay in a container that hands out states: `forward(x, state)` -> (y, state)."""

    RESET = "a call without the state that was returned"  # what marks a new sequence, as text

    @eager
    def forward(self, x: Any, state: DelayState | None = None) -> tuple[Any, DelayState | None]:
        refuse_other_exporters(self, within=True)
        return self._run_from(x, (), {}, state)


class _Frame:
    """A value that goes through a delay, with its dimensions brought into the delay's own order, and back.

    The order is (T, *batch, I) for the synapses of a linear layer, and else (T, B, C, *space); a step is without T.
    """

    def __init__(self, value: Tensor, time: TimeAxis | None, fold: int, space: int, *, per_channel: bool) -> None:
        """`time` is where the value has it, None for a step; `fold` the number of steps if that is in the batch."""
        self.time = time
        if time is TimeAxis.SECOND:
            value = value.movedim(1, 0)
        elif time is TimeAxis.FOLDED:
            value = value.unflatten(0, (fold, -1))
        self.leading = 0 if time is None else 1
        behind = value.dim() - space - 1
        self.batch: torch.Size | None = value.shape[self.leading : behind]
        if (not per_channel and space == 0) or len(self.batch) == 1:
            self.batch = None  # a linear layer takes any batch
        else:
            value = value.reshape(*value.shape[: self.leading], -1, *value.shape[behind:])
        self.value = value

    @property
    def steps(self) -> int | None:
        return None if self.time is None else self.value.shape[0]

    @property
    def step_shape(self) -> torch.Size:
        return self.value.shape[self.leading :]

    def advance(self, delay: DelayLayer, state: DelayState | None, weight: Tensor | None) -> tuple[Tensor, DelayState]:
        """The value through the delay, in the order it came in, and the next state."""
        run = delay.step if self.time is None else delay.chunk
        y, state = run(self.value, state, weight)
        return self.back(y), state

    def back(self, y: Tensor) -> Tensor:
        """The output of the delay, with its dimensions in the order of the value."""
        if self.batch is not None:
            y = y.reshape(*y.shape[: self.leading], *self.batch, *y.shape[self.leading + 1 :])
        if self.time is TimeAxis.SECOND:
            return y.movedim(0, 1)
        return y.flatten(0, 1) if self.time is TimeAxis.FOLDED else y


def attach(
    layer: nn.Module,
    delay: DelayLayer,
    neuron: nn.Module,
    toolkit: Toolkit,
    place: Place,
    *,
    stateful: bool = False,
    fold: nn.Module | None = None,
) -> Memory:
    """Give a layer a delay. The neuron's hooks are part of it; the caller puts the memory into a `ModelWatch`.

    Args:
        layer: what gets the delay; a neuron itself for a delay of its input.
        delay: its delays.
        neuron: what it feeds.
        toolkit: knows the neuron.
        place: where the delay sits.
        stateful: a container hands the layer its state.
        fold: the module whose input still has the time, for a time that is folded into the batch.
    """
    memory = InnerMemory(neuron, toolkit) if place.turns is Turns.INSIDE else Memory(neuron, toolkit, place.turns)
    put_in(StatefulDelayed if stateful else Delayed, layer)
    assert isinstance(layer, Delayed)
    layer.delay, layer.delay_place, layer.delay_memory = delay, place, memory
    if not stateful:
        neuron.register_forward_pre_hook(memory.link.before_neuron, with_kwargs=True)
        neuron.register_forward_hook(memory.link.after_neuron, with_kwargs=True)
        watch_methods(neuron, toolkit, memory.link)
    if fold is not None:
        fold.register_forward_pre_hook(memory.link.see_fold, with_kwargs=True)
    return memory


def undo(layer: Delayed, model: nn.Module) -> None:
    """Undo `attach` in a model that has the layer."""
    memory = layer.delay_memory
    for module in {*model.modules(), memory.neuron}:
        unwatch_methods(module, memory.link)
        for own in (memory.link, memory):  # the memory's are of a model that delayplug 0.1 saved
            remove_hooks(module, own)
    del layer.delay, layer.delay_place, layer.delay_memory
    layer.__dict__.pop("delay_handles", None)  # of such a model, too
    take_out(layer)


def _blank(mixin: type[Delayed], plain: type[nn.Module]) -> object:
    return object.__new__(mixed(mixin, plain))


def weights_of(layer: nn.Module) -> nn.Module:
    """The module that holds the weights of a layer: the layer itself, or the child that a layer with delays wraps."""
    return layer.delay_place.weights_of(layer) if isinstance(layer, Delayed) else layer


def _affine(layer: Delayed) -> nn.Linear | Convolution:
    """The module with the weights, of a layer that computes what one of torch does."""
    weights = weights_of(layer)
    assert isinstance(weights, nn.Linear | Convolution)
    return weights


def _bias(layer: Delayed) -> Tensor | None:
    """The bias, such that it broadcasts over the output."""
    bias = _affine(layer).bias
    return None if bias is None else bias.view(-1, *(1,) * layer.delay_place.space)


def _plus(y: Tensor, bias: Tensor | None) -> Tensor:
    return y if bias is None else y + bias
