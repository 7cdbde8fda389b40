"""Delays inside of a layer that stays the user's own.

A delayed layer is the user's module with its class exchanged for a subclass made here, and a `LearnableDelay` in it.
Its weight and bias are the very Parameters it had; its name, its place and its `isinstance` are unchanged; undoing it
puts the class back.

What is under way between two calls lives in a `DelayState`. Where a container hands every child its state (Norse's
`SequentialState`), the delayed layer takes and returns one like any stateful module. Everywhere else it is kept in a
`Memory`, which learns from the neurons that the layer feeds when a new sequence begins.
"""

import dataclasses
import functools
import warnings
from typing import Any, Literal, NoReturn, Protocol

import torch
from torch import Tensor, nn

from .errors import SequenceError
from .layers import DelayState, LearnableDelay

Granularity = Literal["synaptic", "axonal", "dendritic"]
Mode = Literal["step", "sequence"]


# What every module has, and what a delayed layer adds: no place for a state of the user's.
_NOT_A_STATE = frozenset((*nn.Module().__dict__, "delay_memory", "delay_handles"))


class Probe(Protocol):
    """What a delay asks a toolkit about a neuron. `delayplug.backend.Toolkit` implements it."""

    def mode(self, neuron: nn.Module) -> Mode:
        """Whether a call of the neuron is one step or a whole sequence, as it is set now."""

    def held_state(self, neuron: nn.Module) -> tuple[object, ...]:
        """The objects on the neuron that each call and each reset replaces."""

    def passed_state(
        self, neuron: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[Tensor, ...] | None:
        """The state in the arguments of a call: () for a fresh start, None to go on from what the neuron holds."""

    def returned_state(self, neuron: nn.Module, output: Any) -> tuple[Tensor, ...]:
        """The state tensors in the result of a call."""


class Memory:
    """What a delayed layer keeps between calls, and its watch over the neuron that tells when a sequence begins.

    A sequence begins when

    - the neuron's own state is no longer the object that its last call left (it was reset), or
    - for a neuron whose caller keeps the state: the model is called without the state that the neuron returned last, or
    - the shape of the batch changes, or
    - `forget` is called.

    A neuron whose state was cut off from the graph has its delay cut off too. Layer and neuron must take turns: where
    one of them runs over the time and the other one steps, there is nothing to be kept in step with.
    """

    def __init__(self, neuron: nn.Module, probe: Probe) -> None:
        self.neuron, self.probe = neuron, probe
        self.state: DelayState | None = None
        self._held: tuple[object, ...] | None = None  # what the neuron's last call left on it
        self._versions: tuple[int, ...] = ()  # of these
        self._dropped = False  # the model was called without the state that the neuron returned last
        self._caller_keeps_state = False  # in that call
        self._returned: tuple[Tensor, ...] = ()  # state of the last call, detached: it shares storage with the caller's
        self._had_graph = False
        self._continues = False
        self._length = 0  # of the present sequence, in calls
        self._single = 0  # sequences in a row that had one step
        self._missed = 0  # calls of the model in a row in which the layer ran and the neuron did not
        self._on_its_way = False  # the layer has run, the neuron not yet
        self._steps: int | None = None  # that the layer took in that run, if it takes sequences
        self._is_fed = False  # this call of the neuron is the one that the layer ran for

    def read(self, batch: torch.Size, steps: int | None = None) -> DelayState | None:
        """The state to go on from, None at the beginning of a sequence.

        `batch` is the shape of one input step; `steps` are those in this call, None if it is a single one.
        """
        if self.state is not None and self.state.history.shape[1:] != batch:
            self.state = None
        never_ran = self._held is None  # since the sequence began
        if not never_ran:
            held = self.probe.held_state(self.neuron)
            if not self._is_held() or _zeroed(held, self._versions):
                self.state = None
            elif self.state is not None and self._had_graph and held and not _has_graph(held):
                self.detach()
        if self._on_its_way and (never_ran or self.state is not None):
            self._fail("was not called between two calls of its delayed input")
        self._continues = self.state is not None
        self._count(steps)
        self._on_its_way, self._steps = True, steps
        return self.state

    def _count(self, steps: int | None) -> None:
        """Warn where every step is a sequence of its own: then no delay ever delivers anything."""
        if self._continues:
            self._length += 1
            return
        self._single = self._single + 1 if self._length == 1 and steps is None else 0
        self._length = 1
        if self._single == 3:
            warnings.warn(
                f"every call of {type(self.neuron).__name__} seems to begin a new sequence, so that what is delayed "
                "never arrives. Carry its state from step to step, as the very tensors that it returned (or tuples, "
                "lists, dicts or dataclasses of them)",
                stacklevel=2,
            )

    def forget(self) -> None:
        """The next call begins a sequence."""
        self.state, self._held, self._returned = None, None, ()
        self._on_its_way = self._dropped = False

    def detach(self) -> None:
        """Cut what is under way off from the graph."""
        if self.state is not None:
            self.state = self.state.detach()
        self._had_graph = False

    def model_begins(self) -> None:
        """The model is called: whatever was on its way in the last call, which an error may have ended, is gone."""
        if self._on_its_way:
            self._missed += 1
            if self._missed > 1:
                self._fail("was not called after its delayed input")
            self.forget()

    def model_called(self, tensors: list[Tensor]) -> None:
        """The model is called, and `tensors` are all that its caller can have kept a state in."""
        if self.state is None or not self._caller_keeps_state:
            return
        kept = {_storage(tensor): tensor for tensor in self._returned}
        carried = [tensor for tensor in tensors if _storage(tensor) in kept]
        if not carried:
            self.forget()
            self._dropped = True
        elif self._had_graph and not _has_graph(carried):
            self.detach()

    def before_neuron(self, neuron: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Forward pre-hook of the neuron: does it agree that this is not the first step?"""
        passed = self.probe.passed_state(neuron, args, kwargs)
        known = {_storage(tensor) for tensor in self._returned}
        goes_on = passed is None or any(_storage(tensor) in known for tensor in passed)
        self._is_fed, self._on_its_way, self._missed = self._on_its_way, False, 0
        if not self._is_fed:  # a neuron may be shared, as Norse's are: then this call is another layer's
            if goes_on and self.state is not None and self._is_held():
                self._fail("was called twice for one call of its delayed input")
            return
        self._caller_keeps_state = passed is not None
        inputs = tensors_in((args[:1], kwargs))
        if self._steps is not None and inputs and inputs[0].shape[0] != self._steps:
            self._fail(f"takes {inputs[0].shape[0]} steps where its delayed input was given {self._steps}")
        if self._dropped and passed and any(bool(tensor.any()) for tensor in passed):
            warnings.warn(
                f"{type(neuron).__name__} was given a state that it did not return, so its delayed input starts with "
                "nothing under way. To carry a state, pass on the very tensors (detaching them is fine)",
                stacklevel=2,
            )
        self._dropped = False
        if passed is None or not self._continues or goes_on:
            return
        if _has_graph(passed) or (passed and not any(bool(tensor.any()) for tensor in self._returned)):
            return  # an edited state, of which zeros can be one
        if not any(bool(tensor.any()) for tensor in passed):  # none, or zeros, is a new one
            self.forget()
            raise SequenceError(
                f"{type(neuron).__name__} was given a new state in the middle of what its delayed input takes for one "
                "sequence. Call delayplug.reset_delays(model) before each sequence, or run the whole sequence in one "
                "call model(...), not model.forward(...), of the module that was given to add_delays. (States kept on "
                "the model, such as recordings, look like states carried on.)"
            )

    def after_neuron(self, neuron: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        """Forward hook of the neuron: remember the state it is left in."""
        self._held = self.probe.held_state(neuron)
        self._versions = tuple(map(_version, self._held))
        if not self._is_fed:
            return
        returned = self.probe.returned_state(neuron, output)
        self._had_graph = _has_graph((*self._held, *returned))
        self._returned = tuple(tensor.detach() for tensor in returned)

    def _is_held(self) -> bool:
        """Whether the neuron still holds the very state that its last call left."""
        held = self.probe.held_state(self.neuron)
        if self._held is None or len(held) != len(self._held):
            return False
        return all(now is then for now, then in zip(held, self._held, strict=True))

    def _fail(self, what: str) -> NoReturn:
        self.forget()
        raise SequenceError(
            f"{type(self.neuron).__name__} {what}. A delayed layer and its neuron must take turns, both step by step "
            "or both over whole sequences with time first; leave this layer out with filter_fn otherwise"
        )

    def __getstate__(self) -> dict[str, Any]:
        # A tensor with a graph cannot be copied; whoever copies a model between two steps wants its values.
        return {**self.__dict__, "state": None if self.state is None else self.state.detach()}


class ModelWatch:
    """Forward pre-hook of the whole model: shows the memories what its caller passes."""

    def __init__(self) -> None:
        self.memories: list[Memory] = []

    def __call__(self, model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        for memory in self.memories:
            memory.model_begins()
        waiting = [memory for memory in self.memories if memory.state is not None]
        if waiting:
            # A state may also be kept on a module of the user's own, as an attribute or a buffer.
            neurons = {id(memory.neuron) for memory in self.memories}
            kept = [_attributes(m, len(neurons)) for m in model.modules() if id(m) not in neurons]
            tensors = tensors_in((args, kwargs, kept))
            for memory in waiting:
                memory.model_called(tensors)


class Delayed:
    """Mixin of a layer with a delay: `forward(x)`, the state kept in a `Memory`."""

    delay: LearnableDelay
    delay_granularity: Granularity
    delay_memory: Memory
    delay_inner: str  # name of the child that holds the weights, "" for the layer itself

    def forward(self, x: Tensor) -> Tensor:
        memory = self.delay_memory
        mode = memory.probe.mode(memory.neuron)
        steps = x.shape[0] if mode == "sequence" else None
        y, memory.state = self._run(x, memory.read(_inputs(self, x, mode), steps), mode)
        return y

    def _run(self, x: Tensor, state: DelayState | None, mode: Mode) -> tuple[Tensor, DelayState]:
        delay, layer = self.delay, _linear(self)
        if self.delay_granularity == "synaptic":
            y, state = _advance(delay, x, state, mode, layer.weight)
            return y if layer.bias is None else y + layer.bias, state
        plain = super().forward  # type: ignore[misc]
        if self.delay_granularity == "axonal":
            x, state = _advance(delay, x, state, mode)
            return plain(x), state
        y = plain(x)
        if layer.bias is None:
            return _advance(delay, y, state, mode)
        y, state = _advance(delay, y - layer.bias, state, mode)  # the bias is not delayed
        return y + layer.bias, state

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        # The checkpoint of the plain network loads: it has nothing to say about delays, so they stay as they are.
        inner = f"{prefix}delay."
        if not any(key.startswith(inner) for key in state_dict):
            state_dict.update({inner + key: value for key, value in self.delay.state_dict().items()})
        super()._load_from_state_dict(state_dict, prefix, *args)  # type: ignore[misc]

    def __reduce_ex__(self, protocol: Any) -> Any:
        # The class is made at run time and cannot be found by name; its two parents can.
        mixin, plain = type(self).__bases__
        return (_blank, (mixin, plain), *super().__reduce_ex__(protocol)[2:])


class StatefulDelayed(Delayed):
    """Mixin of a layer with a delay in a container that hands out states: `forward(x, state)` -> (y, state)."""

    def forward(self, x: Tensor, state: DelayState | None = None) -> tuple[Tensor, DelayState]:  # type: ignore[override]
        memory = self.delay_memory
        return self._run(x, state, memory.probe.mode(memory.neuron))


def attach(
    layer: nn.Module,
    delay: LearnableDelay,
    neuron: nn.Module,
    probe: Probe,
    *,
    granularity: Granularity,
    inner: str = "",
    stateful: bool = False,
) -> Memory:
    """Give a layer a delay. The neuron's hooks are part of it; the caller puts the memory into a `ModelWatch`."""
    memory = Memory(neuron, probe)
    delayed: Any = layer
    plain: Any = type(layer)
    delayed.__class__ = _delayed_class(StatefulDelayed if stateful else Delayed, plain)
    delayed.delay = delay
    delayed.delay_granularity, delayed.delay_memory, delayed.delay_inner = granularity, memory, inner
    handles = []
    if not stateful:
        handles.append(neuron.register_forward_pre_hook(memory.before_neuron, with_kwargs=True))
        handles.append(neuron.register_forward_hook(memory.after_neuron, with_kwargs=True))
    delayed.delay_handles = handles
    return memory


def undo(delayed: Any) -> None:
    """Undo `attach`."""
    for handle in delayed.delay_handles:
        handle.remove()
    for name in ("delay", "delay_granularity", "delay_memory", "delay_inner", "delay_handles"):
        delattr(delayed, name)
    delayed.__class__ = type(delayed).__bases__[1]


def tensors_in(value: Any) -> list[Tensor]:
    """All tensors in nested tuples, lists, dictionaries and dataclasses."""
    if isinstance(value, Tensor):
        return [value]
    if dataclasses.is_dataclass(value) and not isinstance(value, type | nn.Module):
        value = vars(value)
    if isinstance(value, dict):
        value = list(value.values())
    return [t for item in value for t in tensors_in(item)] if isinstance(value, list | tuple) else []


@functools.cache
def _delayed_class(mixin: Any, plain: Any) -> type:
    return type(f"Delayed{plain.__name__}", (mixin, plain), {"__doc__": f"{plain.__name__} with learnable delays."})


def _blank(mixin: type, plain: type) -> Any:
    cls: Any = _delayed_class(mixin, plain)
    return cls.__new__(cls)


def _linear(layer: Any) -> Any:
    return getattr(layer, layer.delay_inner) if layer.delay_inner else layer


def _inputs(layer: Delayed, x: Tensor, mode: Mode) -> torch.Size:
    """The shape of what one step of the delay takes, when the layer takes x."""
    batch = x.shape if mode == "step" else x.shape[1:]
    return batch if layer.delay_granularity != "dendritic" else torch.Size((*batch[:-1], layer.delay.in_features))


def _advance(
    delay: LearnableDelay, x: Tensor, state: DelayState | None, mode: Mode, weight: Tensor | None = None
) -> tuple[Tensor, DelayState]:
    if mode == "sequence":
        return delay.chunk(x, state, weight=weight)
    return delay.step(x, state, weight=weight)


def _attributes(module: nn.Module, neurons: int) -> list[Any]:
    """What a module of the user's keeps that can be the states of so many neurons; a longer list is a recording."""
    own = [value for name, value in module.__dict__.items() if name not in _NOT_A_STATE]
    own = [value for value in own if not isinstance(value, list) or len(value) <= neurons]
    return [*own, *module._buffers.values()]


def _has_graph(values: Any) -> bool:
    return any(isinstance(value, Tensor) and value.grad_fn is not None for value in values)


def _version(value: object) -> int:
    return value._version if isinstance(value, Tensor) and not value.is_inference() else 0


def _zeroed(held: tuple[object, ...], versions: tuple[int, ...]) -> bool:
    """Whether a state was reset in place since its versions were taken."""
    changed = [h for h, v in zip(held, versions, strict=True) if isinstance(h, Tensor) and _version(h) != v]
    return bool(changed) and not any(bool(tensor.any()) for tensor in changed)


def _storage(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()
