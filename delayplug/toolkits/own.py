"""Neurons of the user's own class: what can be known of them without an adapter.

The user names the classes, and may say whether they take steps or sequences. Where their state is shows when they are
called: it is what a call is passed besides its input, what it returns besides its output, and the attributes that it
changes. What cannot be known from that is refused with `SequenceError` when it matters.
"""

import inspect
from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager
from typing import Any, NoReturn

from torch import Tensor, nn

from ..errors import ArgumentError, ExchangeError, SequenceError
from ..neurons.cell import Cell
from ..neurons.dynamics import Dynamics
from ..neurons.recurrence import NeuronActivity
from .capabilities import (
    Containers,
    Exchanges,
    FusedNeurons,
    OwnWeights,
    Streams,
    containers,
    dynamics,
    exchanges,
    own_weights,
    streams,
)
from .states import tensors_in
from .toolkit import Toolkit
from .vocabulary import Mode, TimeInside

# What users write: classes, or classes with "step" or "sequence".
Neurons = Iterable[type[nn.Module]] | Mapping[type[nn.Module], Mode | str]
Modes = dict[type[nn.Module], Mode | None]


def checked_neurons(neurons: Neurons) -> Modes:
    """The classes that a user names, with what a call takes; None where that is not said.

    Raises:
        ArgumentError: one is no class of modules, or what it takes is neither "step" nor "sequence".
    """
    expected = "classes of your neurons, such as [MyLIF] or {MyLIF: 'step'}"
    if isinstance(neurons, type | nn.Module | str) or not isinstance(neurons, Iterable):
        raise ArgumentError("neurons", expected, repr(neurons))
    modes: Modes = {}
    for kind in neurons:
        if not (isinstance(kind, type) and issubclass(kind, nn.Module)):
            raise ArgumentError("neurons", expected, repr(kind))
        said = neurons[kind] if isinstance(neurons, Mapping) else None
        if said is not None and said not in list(Mode):
            raise ArgumentError(f"neurons[{kind.__name__}]", f"one of {', '.join(Mode)}", repr(said))
        modes[kind] = None if said is None else Mode(said)
    return modes


class OwnNeurons(Toolkit, Containers, OwnWeights, Streams, Exchanges, FusedNeurons):
    """Neurons of the user's own classes, beside those of a toolkit if the model has such.

    Attributes:
        modes: what a call takes, by class.
        base: the toolkit of the other neurons; None if there are none.
    """

    def __init__(self, modes: Mapping[type[nn.Module], Mode | None], base: Toolkit | None) -> None:
        self.modes, self.base = dict(modes), base

    def is_own(self, module: nn.Module) -> bool:
        """Whether the user has named its class, and no adapter knows it better."""
        return isinstance(module, tuple(self.modes)) and not (self.base is not None and self.base.is_neuron(module))

    def _base_of(self, neuron: nn.Module) -> Toolkit | None:
        """The toolkit that answers for a neuron; None for one of the user's own."""
        return None if self.is_own(neuron) else self.base

    def mode_of(self, module: nn.Module) -> Mode | None:
        """What a call of a neuron of the user's own takes, if that is known."""
        return next((mode for kind, mode in self.modes.items() if isinstance(module, kind)), None)

    # ------------------------------------------------------------------------------------------------- neurons

    def is_neuron(self, module: nn.Module) -> bool:
        return isinstance(module, tuple(self.modes)) or (self.base is not None and self.base.is_neuron(module))

    def is_spiking(self, neuron: nn.Module) -> bool:
        base = self._base_of(neuron)
        return base is None or base.is_spiking(neuron)

    def mode(self, neuron: nn.Module) -> Mode:
        base = self._base_of(neuron)
        return base.mode(neuron) if base is not None else self.mode_of(neuron) or Mode.STEP

    def shows_state(self, neuron: nn.Module) -> bool:
        base = self._base_of(neuron)
        return base is not None and base.shows_state(neuron)

    def held_state(self, neuron: nn.Module) -> tuple[object, ...]:
        base = self._base_of(neuron)
        return () if base is None else base.held_state(neuron)

    def passed_state(
        self, neuron: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[Tensor, ...] | None:
        base = self._base_of(neuron)
        if base is not None:
            return base.passed_state(neuron, args, kwargs)
        if not _takes_state(type(neuron)):
            return None
        more = list(kwargs.values()) if args else list(kwargs.values())[1:]
        return tuple(tensors_in((args[1:], more), objects=True))

    def returned_state(self, neuron: nn.Module, output: Any) -> tuple[Tensor, ...]:
        base = self._base_of(neuron)
        if base is not None:
            return base.returned_state(neuron, output)
        tensors = tensors_in(output, objects=True)
        # Some return the membrane alone, or before the spikes.
        all_of_it = _takes_state(type(neuron)) and self.mode(neuron) is Mode.STEP
        return tuple(tensors if all_of_it else tensors[1:])

    def is_fresh(self, neuron: nn.Module, state: tuple[Tensor, ...], x: Tensor | None = None) -> Tensor | bool | None:
        base = self._base_of(neuron)
        return None if base is None else base.is_fresh(neuron, state, x)

    def reset_signal(self, neuron: nn.Module) -> str:
        base = self._base_of(neuron)
        if base is not None:
            return base.reset_signal(neuron)
        if self.mode(neuron) is Mode.SEQUENCE:
            return "each call of the model without a state"
        resets = [f"{name}()" for name in _resets(type(neuron))]
        if _takes_state(type(neuron)):
            resets = ["a call without a state, or with a new one"]
        return f"{' or '.join(resets or ['a new state on the neuron'])}; or delayplug.reset_delays(model)"

    # -------------------------------------------------------------------------------------- containers, weights

    def lifted(self, module: nn.Module) -> str:
        return "" if self.base is None or self.is_own(module) else containers(self.base).lifted(module)

    def in_order(self, container: nn.Module) -> bool:
        return self.base is not None and containers(self.base).in_order(container)

    def time_inside(self, container: nn.Module) -> TimeInside:
        return TimeInside.SAME if self.base is None else containers(self.base).time_inside(container)

    def instead_of(self, container: nn.Module) -> str:
        return "" if self.base is None else containers(self.base).instead_of(container)

    def threads_state(self, container: nn.Module) -> bool:
        return self.base is not None and containers(self.base).threads_state(container)

    def is_stateful(self, container: nn.Module, child: str) -> bool:
        return self.base is not None and containers(self.base).is_stateful(container, child)

    def set_stateful(self, container: nn.Module, child: str, stateful: bool) -> None:
        containers(self.base if self.base is not None else self).set_stateful(container, child, stateful)

    def state_hooks(self, container: nn.Module) -> str:
        return "" if self.base is None else containers(self.base).state_hooks(container)

    def own_input(self, neuron: nn.Module) -> tuple[int, int] | None:
        base = self._base_of(neuron)
        return None if base is None else own_weights(base).own_input(neuron)

    def input_weights(self, neuron: nn.Module) -> str:
        base = self._base_of(neuron)
        return "" if base is None else own_weights(base).input_weights(neuron)

    def recurrent_layer(self, module: nn.Module) -> str | None:
        base = self._base_of(module)
        return None if base is None else own_weights(base).recurrent_layer(module)

    def is_plain(self, layer: nn.Module) -> bool:
        return self.base is not None and own_weights(self.base).is_plain(layer)

    # ------------------------------------------------------------------------------------------------- streams

    def kept_state(self, module: nn.Module) -> dict[str, Any]:
        base = self._base_of(module)
        if base is not None:
            return streams(base).kept_state(module)
        if not self.is_own(module) or _takes_state(type(module)):
            return {}
        values = {**module.__dict__, **module._buffers}
        return {name: v for name, v in values.items() if not name.startswith("_") and (v is None or tensors_in(v))}

    def reset(self, module: nn.Module) -> None:
        base = self._base_of(module)
        if base is not None:
            streams(base).reset(module)
            return
        if not self.is_own(module) or _takes_state(type(module)):
            return
        resets = _resets(type(module))
        if not resets and self.mode(module) is Mode.STEP:
            raise SequenceError(
                f"how {type(module).__name__} begins a sequence is not known: give it a method reset() without "
                "arguments, or let it take its state as an argument and return it"
            )
        for name in resets:
            getattr(module, name)()

    def remembers(self, module: nn.Module) -> bool:
        return self.base is not None and streams(self.base).remembers(module)

    def cuts_graph(self, neuron: nn.Module) -> bool:
        base = self._base_of(neuron)
        return base is not None and streams(base).cuts_graph(neuron)

    def reset_methods(self, neuron: nn.Module) -> tuple[str, ...]:
        base = self._base_of(neuron)
        return _resets(type(neuron)) if base is None else streams(base).reset_methods(neuron)

    def class_resets(self, neuron: nn.Module) -> tuple[tuple[type[nn.Module], str], ...]:
        base = self._base_of(neuron)
        return () if base is None else streams(base).class_resets(neuron)

    def explicit_forward(self, neuron: nn.Module) -> str:
        base = self._base_of(neuron)
        return "" if base is None else streams(base).explicit_forward(neuron)

    def as_sequence(self, neuron: nn.Module) -> AbstractContextManager[None] | None:
        base = self._base_of(neuron)
        return None if base is None else streams(base).as_sequence(neuron)

    # ------------------------------------------------------------------------------------------ what they compute

    def describe(self, neuron: nn.Module) -> Cell:
        base = self._base_of(neuron)
        return self._no_numbers(neuron) if base is None else exchanges(base).describe(neuron)

    def build(self, cell: Cell) -> nn.Module:
        if self.base is None:
            raise ExchangeError("neurons of your own are not built from numbers: name a toolkit")
        return exchanges(self.base).build(cell)

    def _no_numbers(self, neuron: nn.Module) -> NoReturn:
        raise ExchangeError(
            f"what {type(neuron).__name__}, a neuron of your own, computes is not known: only neurons of toolkits are "
            "exported"
        )

    def dynamics(self, neuron: nn.Module) -> Dynamics | None:
        base = self._base_of(neuron)
        return None if base is None else dynamics(base, neuron)

    def fused_output(self, neuron: nn.Module, activity: NeuronActivity) -> Any:
        base = self._base_of(neuron)
        return base.fused_output(neuron, activity) if isinstance(base, FusedNeurons) else activity.output


_known: dict[type, bool] = {}  # what `_takes_state` says, which is asked at every call of a neuron


def _takes_state(kind: type[nn.Module]) -> bool:
    """Whether the forward of a class has an argument, besides its input, that can be a state."""
    if kind not in _known:
        _known[kind] = _has_state_argument(kind)
    return _known[kind]


def _has_state_argument(kind: type[nn.Module]) -> bool:
    try:
        parameters = list(inspect.signature(kind.forward).parameters.values())[2:]
    except (TypeError, ValueError):
        return True
    return any(p.default is p.empty or p.default is None for p in parameters)


def _resets(kind: type[nn.Module]) -> tuple[str, ...]:
    """The methods of a class that reset its state, by their names: those that begin with "reset" and take nothing."""
    names = [name for name in dir(kind) if name.startswith("reset") and name != "reset_parameters"]
    return tuple(name for name in names if _takes_nothing(getattr(kind, name)))


def _takes_nothing(method: object) -> bool:
    if not inspect.isfunction(method):
        return False
    parameters = list(inspect.signature(method).parameters.values())[1:]
    return all(p.default is not p.empty or p.kind in (p.VAR_POSITIONAL, p.VAR_KEYWORD) for p in parameters)
