"""Methods of a neuron that its hooks do not see, in the hands of the links: resets, and calls with an explicit state.

Each stands on the neuron in the place of the method of its class, and goes with copies of the neuron.
"""

import copy
import weakref
from collections.abc import Callable, Iterable
from typing import Any, Self
from weakref import WeakKeyDictionary

from torch import nn

from ..toolkits.capabilities import streams
from ..toolkits.states import tensors_in
from ..toolkits.toolkit import Toolkit
from .link import Link


class Watched:
    """A method of a neuron that links watch. The neuron, which has it, is not kept alive by it."""

    def __init__(self, neuron: nn.Module, method: str, links: Iterable[Link] = ()) -> None:
        self._neuron, self.method = weakref.ref(neuron), method
        self.links = list(links)

    @property
    def neuron(self) -> nn.Module:
        """Whose method it is."""
        neuron = self._neuron()
        assert neuron is not None, "a method of a neuron that is gone"
        return neuron

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return type(self)(copy.deepcopy(self.neuron, memo), self.method, self.links)

    def __reduce__(self) -> tuple[type[Self], tuple[nn.Module, str, list[Link]]]:
        return type(self), (self.neuron, self.method, self.links)

    def plain(self, *args: Any, **kwargs: Any) -> Any:
        """The method of the neuron's class."""
        return getattr(type(self.neuron), self.method)(self.neuron, *args, **kwargs)

    def of(self, neuron: nn.Module) -> Self:
        """The same for another neuron."""
        return type(self)(neuron, self.method, self.links)


class WatchedReset(Watched):
    """`neuron.reset()`, under whatever name."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        returned = self.plain(*args, **kwargs)
        for link in self.links:
            link.was_reset(self.neuron, returned)
        return returned


class ExplicitCall(Watched):
    """`neuron.method(inputs, states)`, which returns outputs and states: does what the hooks of a call do."""

    def __call__(
        self, inputs: tuple[Any, ...], states: tuple[Any, ...], **kwargs: Any
    ) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
        passed = tuple(tensors_in(states))
        memories = [memory for link in self.links if (memory := link.memory_for(self.neuron)) is not None]
        for memory in memories:
            changed = memory.before(self.neuron, passed, inputs, {})
            inputs = inputs if changed is None else changed[0]
        outputs, states = self.plain(inputs, states, **kwargs)
        for memory in memories:
            memory.after(self.neuron, (), tuple(tensors_in(states)))
        return outputs, states


class Replicated(Watched):
    """What `DataParallel` calls for a replica: its methods are its own."""

    def __call__(self) -> nn.Module:
        replica: nn.Module = self.plain()
        for name, value in list(replica.__dict__.items()):
            if isinstance(value, Watched):
                replica.__dict__[name] = value.of(replica)
        return replica


class _ClassReset:
    """A class method that resets all neurons of a class, which tells the links of those that it has reset.

    It stays on the class, and does what it did where no link watches.
    """

    def __init__(self, plain: Callable[..., Any]) -> None:
        self.plain = plain
        self.neurons: WeakKeyDictionary[nn.Module, Toolkit] = WeakKeyDictionary()

    def __call__(self, kind: type[nn.Module]) -> Any:
        before = {neuron: toolkit.held_state(neuron) for neuron, toolkit in self.neurons.items()}
        returned = self.plain(kind)
        for neuron, held in before.items():
            now = self.neurons[neuron].held_state(neuron)
            if any(new is not old for new, old in zip(now, held, strict=True)):
                for link in links_of(neuron):
                    link.was_reset(neuron, None)
        return returned


_class_resets: dict[tuple[type[nn.Module], str], _ClassReset] = {}


def _watch_class(kind: type[nn.Module], name: str, neuron: nn.Module, toolkit: Toolkit) -> None:
    if (kind, name) not in _class_resets:
        reset = _class_resets[kind, name] = _ClassReset(vars(kind)[name].__func__)
        setattr(kind, name, classmethod(lambda cls: reset(cls)))
    _class_resets[kind, name].neurons[neuron] = toolkit


def links_of(neuron: nn.Module) -> list[Link]:
    """The links that watch the methods of a neuron."""
    watched = [value for value in neuron.__dict__.values() if isinstance(value, WatchedReset)]
    return watched[0].links if watched else []


def watch_methods(neuron: nn.Module, toolkit: Toolkit, link: Link) -> None:
    """Let a link see what its hooks do not see of a neuron."""
    own = streams(toolkit)
    kinds: dict[str, type[Watched]] = dict.fromkeys(own.reset_methods(neuron), WatchedReset)
    if own.explicit_forward(neuron):
        kinds[own.explicit_forward(neuron)] = ExplicitCall
    for kind, name in own.class_resets(neuron):
        _watch_class(kind, name, neuron, toolkit)
    if kinds:
        kinds["_replicate_for_data_parallel"] = Replicated
    for method, made in kinds.items():
        if not isinstance(neuron.__dict__.get(method), made):
            neuron.__dict__[method] = made(neuron, method)
        neuron.__dict__[method].links.append(link)


def unwatch_methods(neuron: nn.Module, link: Link) -> None:
    """Undo `watch_methods`."""
    for name, value in list(neuron.__dict__.items()):
        if isinstance(value, Watched) and link in value.links:
            value.links.remove(link)
            if not value.links:
                del neuron.__dict__[name]
