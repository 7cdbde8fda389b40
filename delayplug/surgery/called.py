"""How the whole model is called: whether a state came in with the call, or is made inside of it."""

import itertools
import threading
import weakref
from collections.abc import Callable, Hashable
from typing import Any, Protocol

from torch import Tensor, nn

from ..neurons.loops import eager
from ..toolkits.states import tensors_in
from .identity import mark_of, memory_of
from .lineage import BEGIN, Conflict, Start, found_start

_serials = itertools.count(1)


class Call:
    """A call of a model that is under way.

    Attributes:
        serial: number of the call.
        model: which is called.
    """

    def __init__(self, model: nn.Module, tensors: list[Tensor], neurons: frozenset[int]) -> None:
        """`tensors` are the arguments; `neurons` the ids of the modules whose attributes do not count."""
        self.serial, self.model = next(_serials), model
        self._arguments = [weakref.ref(tensor) for tensor in tensors]
        self._neurons = neurons
        self._attributes: list[weakref.ref[Tensor]] | None = None

    def tensors(self) -> list[Tensor]:
        """All tensors that can have carried a state into the call: arguments, and attributes of the user's modules."""
        if self._attributes is None:
            modules = (m for m in self.model.modules() if id(m) not in self._neurons)
            values = [_attributes(m, len(self._neurons)) for m in modules]
            self._attributes = [weakref.ref(tensor) for tensor in tensors_in(values, objects=True)]
        references = (*self._arguments, *self._attributes)
        return [tensor for reference in references if (tensor := reference()) is not None]

    def start(self, key: Hashable) -> Start:
        """Where the call goes on from, as far as the states that came in tell; without one, or with many, it begins."""
        arguments = [tensor for reference in self._arguments if (tensor := reference()) is not None]
        marked = [t for t in arguments if _has_record(t, key)] or [t for t in self.tensors() if _has_record(t, key)]
        try:
            start = found_start(marked, key) if marked else None
        except Conflict:
            start = None
        return BEGIN if start is None else start

    def made_inside(self, state: list[Tensor], key: Hashable) -> bool:
        """Whether these tensors were made within the call, and not from a state that came in with it."""
        memories = [memory_of(tensor) for tensor in state]
        shapes = {tensor.shape for tensor in state}
        for tensor in self.tensors():
            if mark_of(tensor, key) is not None or any(memory_of(tensor) is memory for memory in memories):
                return False
            if tensor.shape in shapes and not isinstance(tensor, nn.Parameter):
                return False  # it can be a copy of a state
        return True


def _has_record(tensor: Tensor, key: Hashable) -> bool:
    marked = mark_of(tensor, key)
    return marked is not None and marked.note is not None


class Calls(threading.local):
    """The calls of a model that are under way in this thread, the innermost last."""

    def __init__(self) -> None:
        self.stack: list[Call] = []

    @property
    def current(self) -> Call | None:
        """The innermost call."""
        return self.stack[-1] if self.stack else None


class FollowsCalls(Protocol):
    """What the hooks of a model know of a delayed layer's memory."""

    neuron: nn.Module

    @property
    def calls(self) -> Calls:
        """The calls of the model, as the memory sees them."""
        ...

    def length_after(self, call: int) -> int:
        """How many steps the present sequence has after the call of the model with this serial; 0 if that ran none."""
        ...

    def interrupted(self) -> None:
        """A call has ended with an error."""


class ModelWatch:
    """Forward hooks of the whole model: show the delays how it is called."""

    def __init__(self) -> None:
        self.memories: list[FollowsCalls] = []
        self.plans: list[object] = []  # by which the delays were made: for `describe_delays`
        self.steps_needed = 0  # a shorter sequence is to be warned of; 0 if that is known or was said
        self.warn_of_short_sequence: Callable[[nn.Module, int, int], None] | None = None  # with steps and stack level
        self.length = 0  # of the sequence after the last call, in steps, while it is not known how many all have
        self.sees_ends = False

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(
            {"sees_ends": False, "steps_needed": 0, "warn_of_short_sequence": None, "length": 0, **state}
        )  # delayplug 0.1 had no hook at the end of a call

    @eager
    def __call__(self, model: nn.Module, args: tuple[object, ...], kwargs: dict[str, object]) -> None:
        if not self.sees_ends:
            self._see_ends(model)
        arguments = [value for value in args if isinstance(value, Tensor)]
        if kwargs or len(arguments) < len(args):
            arguments = tensors_in((args, kwargs), objects=True)
        call = Call(model, arguments, frozenset(id(memory.neuron) for memory in self.memories))
        for memory in self.memories:
            memory.calls.stack.append(call)

    @eager
    def ends(self, model: nn.Module, args: tuple[object, ...], output: object) -> None:
        """Forward hook, called after an error, too: then there is no output."""
        call = None
        for memory in self.memories:
            if output is None:
                memory.interrupted()
            if memory.calls.stack:
                call = memory.calls.stack.pop()
        if self.steps_needed and call is not None:
            self._compare_lengths(model, call)

    def _compare_lengths(self, model: nn.Module, call: Call) -> None:
        """After two calls that leave sequences of the same length each call is one; warn if that is a short one."""
        before, self.length = self.length, max(memory.length_after(call.serial) for memory in self.memories)
        if self.length == before > 1:
            if self.warn_of_short_sequence is not None:
                self.warn_of_short_sequence(model, self.length, 8)
            self.steps_needed = 0  # how long sequences are is known now

    def attach(self, model: nn.Module) -> None:
        """Watch the calls of a model."""
        model.register_forward_pre_hook(self, with_kwargs=True)
        self._see_ends(model)

    def _see_ends(self, model: nn.Module) -> None:
        model.register_forward_hook(self.ends, always_call=True)
        self.sees_ends = True

    def detach(self, model: nn.Module) -> None:
        """Undo `attach`."""
        remove_hooks(model, self)


def remove_hooks(module: nn.Module, owner: object) -> None:
    """Remove the forward hooks of a module that are an object, or methods of it.

    Not by the handles that torch gives out, which a copy of the object would not have.
    """
    for hooks, *options in (
        (module._forward_pre_hooks, module._forward_pre_hooks_with_kwargs),
        (module._forward_hooks, module._forward_hooks_with_kwargs, module._forward_hooks_always_called),
    ):
        for key, hook in list(hooks.items()):
            if hook is owner or getattr(hook, "__self__", None) is owner:
                for registered in (hooks, *options):
                    registered.pop(key, None)  # type: ignore[attr-defined]


def watch_of(model: nn.Module) -> ModelWatch | None:
    """The hook through which a model's delays see how it is called, if it has delays."""
    hooks = model._forward_pre_hooks.values()
    return next((hook for hook in hooks if isinstance(hook, ModelWatch)), None)


# What every module has, and what a delayed layer adds: no place for a state of the user's.
_NOT_A_STATE = frozenset((*nn.Module().__dict__, "delay_memory", "delay_place", "delay_handles"))


def _attributes(module: nn.Module, neurons: int) -> list[Any]:
    """The attributes of a module of the user's that can be states of so many neurons; a longer list is a recording."""
    own = [value for name, value in module.__dict__.items() if name not in _NOT_A_STATE]
    own = [value for value in own if not isinstance(value, list) or len(value) <= neurons]
    return [*own, *module.buffers(recurse=False)]
