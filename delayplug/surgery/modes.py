"""Whether the user's own neurons take steps or whole sequences, as a run on an example shows it."""

from contextlib import ExitStack
from typing import Any

from torch import Tensor, nn

from ..errors import WiringError
from ..toolkits.own import OwnNeurons
from ..toolkits.states import tensors_in
from ..toolkits.toolkit import Toolkit
from ..toolkits.vocabulary import Mode
from .beginnings import changed_attributes, held_by, tensor_attributes
from .dataflow import Example, drive, preserved
from .offer import input_of


def with_modes(toolkit: Toolkit, model: nn.Module, example: Example | None) -> Toolkit:
    """The toolkit, which knows of the user's own neurons what a call takes.

    Raises:
        WiringError: neither the user nor the example tells, or the model does not run on that.
    """
    if not isinstance(toolkit, OwnNeurons) or None not in toolkit.modes.values():
        return toolkit
    seen: dict[type[nn.Module], set[Mode]] = {kind: set() for kind, mode in toolkit.modes.items() if mode is None}
    if example is not None:
        _watch(toolkit, model, example, seen)
    modes = dict(toolkit.modes)
    for kind, found in seen.items():
        if len(found) != 1:
            name = kind.__name__
            raise WiringError(
                f"whether a call of {name} takes one step (B, ...) or a whole sequence (T, B, ...) is not known"
                f"{'' if example is None else ' from the example'}: pass neurons={{{name}: 'step'}} or "
                f"neurons={{{name}: 'sequence'}}"
                + (", or an example of several steps that drives the model as you do" if example is None else "")
            )
        modes[kind] = found.pop()
    return OwnNeurons(modes, toolkit.base)


def _watch(toolkit: OwnNeurons, model: nn.Module, example: Example, seen: dict[type[nn.Module], set[Mode]]) -> None:
    watches = []
    with preserved(model), ExitStack() as stack:
        for module in model.modules():
            kind = next((kind for kind in seen if isinstance(module, kind)), None)
            if kind is not None and toolkit.is_own(module):
                watches.append(_Watch(toolkit, seen[kind]))
                watches[-1].attach(stack, module)
        try:
            drive(model, example)
        except Exception as error:
            raise WiringError(f"the model does not run on the example: {error!r}") from error
    for watch in watches:
        if watch.calls == 1 and not watch.shows_state and not watch.found:
            watch.found.add(Mode.SEQUENCE)  # what has no state from call to call takes all steps in one


class _Watch:
    """Hooks of a neuron, which add to a set what its calls take, as far as its state tells."""

    def __init__(self, toolkit: OwnNeurons, found: set[Mode]) -> None:
        self.toolkit, self.found = toolkit, found
        self.before = tensor_attributes(nn.Module())
        self.calls = 0
        self.shows_state = False

    def attach(self, stack: ExitStack, neuron: nn.Module) -> None:
        stack.enter_context(neuron.register_forward_pre_hook(self.begins, with_kwargs=True))
        stack.enter_context(neuron.register_forward_hook(self.ends, with_kwargs=True))

    def begins(self, neuron: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self.before = tensor_attributes(neuron)

    def ends(self, neuron: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: object) -> None:
        x = input_of(args, kwargs)
        if x is None:
            return
        self.calls += 1
        if x.dim() <= 2:
            self.found.add(Mode.STEP)
            return
        passed = self.toolkit.passed_state(neuron, args, kwargs) or ()
        names = changed_attributes(neuron, self.before)
        held = [tensor for tensor in held_by(self.toolkit, neuron, names) if isinstance(tensor, Tensor)]
        # What it was passed is a state; what it leaves may be a recording of all steps, which has the time, too.
        for state in passed:
            if state.dim() == x.dim() and state.shape[0] == x.shape[0]:
                self.found.add(Mode.STEP)
        returned = tensors_in(output, objects=True)[1:]
        self.shows_state |= bool(passed or held or returned)
        for state in (*passed, *held, *returned):
            if state.dim() == x.dim() - 1 and state.shape[0] == x.shape[1]:
                self.found.add(Mode.SEQUENCE)
