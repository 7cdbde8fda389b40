"""Whether a state that no call has left is that of a beginning, and where a neuron keeps its state."""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from ..toolkits.states import tensors_in
from ..toolkits.toolkit import Toolkit
from .identity import version_of
from .lineage import Record

Answer = Tensor | bool  # a tensor of one bool, which is not read before all questions are asked


class Beginnings(NamedTuple):
    """The state from which a sequence began that was known to begin, to know it again by its values."""

    values: tuple[tuple[Tensor, int], ...] = ()  # and the version of each

    @classmethod
    def of(cls, tensors: list[Tensor]) -> "Beginnings":
        return cls(tuple((tensor.detach(), version_of(tensor)) for tensor in tensors))

    @classmethod
    def before_call(cls, names: tuple[str, ...], attributes: "Attributes") -> "Beginnings":
        """What attributes held before the first call that changed them."""
        before = (entry for name in names for entry in attributes.get(name, ()))
        return cls(tuple((tensor.detach(), version) for tensor, version in before))

    def value(self, place: int) -> Tensor | None:
        """The value of the tensor at a place in the state, None if it has been overwritten."""
        if place >= len(self.values):
            return None
        tensor, version = self.values[place]
        return tensor if version_of(tensor) == version else None


def is_beginning(
    toolkit: Toolkit, neuron: nn.Module, state: list[Tensor], beginnings: Beginnings
) -> tuple[Answer, Answer]:
    """Whether a state has the values of one from which a sequence begins.

    Returns:
        Whether they are what the toolkit makes by itself; and whether they are those of an earlier beginning, or
        parameters: an initial state that is learned.
    """
    by_toolkit = toolkit.is_fresh(neuron, tuple(state))
    known = _all([_is_known(tensor, beginnings.value(i)) for i, tensor in enumerate(state)])
    return (False if by_toolkit is None else by_toolkit), known


def begins_for_sure(state: tuple[Answer, Answer], left: tuple[Answer, Answer], record: Record | None) -> bool:
    """Whether a state is a beginning, and no copy of the one that the last call left with inputs under way.

    Args:
        state: what `is_beginning` says of it.
        left: the same of the state that the last call left.
        record: of that call; None if it does not matter.
    """
    under_way: Answer = False
    if record is not None and record.state is not None and any(answer is not False for answer in left):
        under_way = record.state.history.detach().any()
    *values, is_under_way = _read([*state, *left, under_way])
    return any(new and not (is_under_way and old) for new, old in zip(values[:2], values[2:], strict=True))


def _read(answers: list[Answer]) -> list[bool]:
    """The answers, all with one wait for a device."""
    tensors = [answer.reshape(()) for answer in answers if isinstance(answer, Tensor)]
    values = iter(torch.stack(tensors).tolist() if tensors else [])
    return [next(values) if isinstance(answer, Tensor) else answer for answer in answers]


def is_learned(tensor: Tensor) -> bool:
    """Whether a tensor is a parameter that learns, or a view of one: an initial state of the user's."""
    base = tensor if tensor._base is None else tensor._base
    return isinstance(base, nn.Parameter) and base.requires_grad


def _is_known(tensor: Tensor, value: Tensor | None) -> Answer:
    # Not by the values of parameters: after one step from zero a membrane is the bias of its layer.
    return is_learned(tensor) or (value is not None and _equal(tensor, value))


def _equal(tensor: Tensor, value: Tensor) -> Answer:
    """Whether they are equal, the value repeated along the batch."""
    tensor, value = tensor.detach(), value.detach()
    if tensor.dtype != value.dtype or tensor.device != value.device:
        return False
    if tensor.shape == value.shape:
        return (tensor == value).all()
    if tensor.shape[1:] == value.shape[1:] and tensor.dim() == value.dim() and value.shape[0] > 0:
        return _all([(tensor == value[:1]).all(), (value == value[:1]).all()])
    return False


def _all(answers: list[Answer]) -> Answer:
    if any(answer is False for answer in answers):
        return False
    tensors = [answer for answer in answers if isinstance(answer, Tensor)]
    return torch.stack(tensors).all() if tensors else bool(answers)


# ------------------------------------------------------------------------------------------ where a state is kept


def held_by(toolkit: Toolkit, neuron: nn.Module, names: tuple[str, ...]) -> tuple[object, ...]:
    """What a neuron holds as its state: what its toolkit names, and attributes that were seen to change."""
    if not names:
        return toolkit.held_state(neuron)
    return (*toolkit.held_state(neuron), *tensors_in([_attribute(neuron, name) for name in names]))


def _attribute(neuron: nn.Module, name: str) -> object:
    """An attribute of a neuron, or of a module inside of it, by a dotted name; None if it is gone."""
    value: object = neuron
    for part in name.split("."):
        value = getattr(value, part, None)
    return value


Attributes = dict[str, tuple[tuple[Tensor, int], ...]]


def tensor_attributes(neuron: nn.Module) -> Attributes:
    """The attributes of a neuron, and of modules inside of it, that hold tensors: these and their versions.

    Without parameters, and without what torch's own modules, such as a batch norm, count and average.
    """
    found: Attributes = {}
    for prefix, module in neuron.named_modules():
        if type(module).__module__.startswith("torch.nn."):
            continue
        attributes = {k: v for k, v in module.__dict__.items() if k not in _NOT_A_STATE} | module._buffers
        for name, value in attributes.items():
            tensors = tensors_in(value)
            if tensors or isinstance(value, list):
                found[f"{prefix}.{name}" if prefix else name] = tuple((t, version_of(t)) for t in tensors)
    return found


def changed_attributes(neuron: nn.Module, before: Attributes) -> tuple[str, ...]:
    """The names of attributes that hold other tensors, or other values, than before.

    A list that has become longer is a recording.
    """

    def same(name: str, now: tuple[tuple[Tensor, int], ...]) -> bool:
        old = before.get(name)
        if old is None:
            return not now
        if len(old) == len(now):
            return all(t is other and v == version for (t, v), (other, version) in zip(now, old, strict=True))
        return isinstance(_attribute(neuron, name), list)

    return tuple(name for name, now in tensor_attributes(neuron).items() if not same(name, now))


# What every module has: no place for a state.
_NOT_A_STATE = frozenset(nn.Module().__dict__)
