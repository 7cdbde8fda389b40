"""Whether a model is still the one that was looked at: all of it but the values of its tensors."""

import types
from collections.abc import Container, Hashable
from typing import Any

from torch import Tensor, nn

_PLAIN = (bool, int, float, str, type(None))


def fingerprint(model: nn.Module, neurons: Container[str] = ()) -> Hashable:
    """What is equal as long as the modules of a model, their attributes, classes and hooks are the same.

    The values of tensors do not count, nor does anything outside of the model, such as global variables. The model must
    live as long as the result is used: objects are told apart by their identity.

    Args:
        model: any module.
        neurons: names of modules whose tensors have the shape of the last batch, which does not count.
    """
    return tuple(
        (name, id(module), type(module), *_attributes(module, shapes=name not in neurons))
        for name, module in model.named_modules()
    )


def _attributes(module: nn.Module, *, shapes: bool) -> tuple[Hashable, ...]:
    methods = (vars(type(module)).get("forward"), vars(module).get("forward"))
    return (*map(id, methods), *((name, _looks(value, shapes)) for name, value in vars(module).items()))


def _looks(value: Any, shapes: bool) -> Hashable:
    if isinstance(value, _PLAIN):
        return value
    if isinstance(value, Tensor):
        return (value.shape if shapes else None, value.dtype, value.device, value.requires_grad)
    if isinstance(value, list | tuple | set):
        return (type(value), *(_looks(entry, shapes) for entry in value))
    if isinstance(value, dict):
        return (type(value), *((_looks(key, shapes), _looks(entry, shapes)) for key, entry in value.items()))
    if isinstance(value, types.MethodType):  # made anew at each access
        return (id(value.__self__), id(value.__func__))
    return id(value)
