"""Hooks that a user registers for all stateful children of a container: not for ours."""

from typing import Any

from torch import nn

from ..toolkits.capabilities import containers
from ..toolkits.toolkit import Toolkit
from .delayed import StatefulDelayed
from .watched import Watched


class StateHooks(Watched):
    """The method of a container that registers hooks for those children that it hands a state.

    A layer that has become stateful by its delay was not in the user's mind: its state is no neuron's.
    """

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        container = self.neuron
        ours = [(n, m) for n, m in container.named_children() if isinstance(m, StatefulDelayed)]
        for name, layer in ours:
            containers(layer.delay_memory.toolkit).set_stateful(container, name, False)
        try:
            return self.plain(*args, **kwargs)
        finally:
            for name, layer in ours:
                containers(layer.delay_memory.toolkit).set_stateful(container, name, True)


def watch_state_hooks(container: nn.Module, toolkit: Toolkit) -> None:
    """Keep our layers in a container out of its user's hooks."""
    method = containers(toolkit).state_hooks(container)
    if method and method not in container.__dict__:
        container.__dict__[method] = StateHooks(container, method)


def unwatch_state_hooks(container: nn.Module) -> None:
    """Undo `watch_state_hooks` where no such layer is left."""
    if any(isinstance(module, StatefulDelayed) for module in container.children()):
        return
    for name, value in list(container.__dict__.items()):
        if isinstance(value, StateHooks):
            del container.__dict__[name]
