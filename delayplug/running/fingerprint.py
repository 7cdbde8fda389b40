"""Whether a model is still the one that was looked at: all of it but the values of its tensors."""

import types
from collections.abc import Hashable
from typing import Any

from torch import Tensor, nn

_PLAIN = (bool, int, float, str, type(None))


def fingerprint(model: nn.Module) -> Hashable:
    """What is equal as long as the modules of a model, their attributes, classes and hooks are the same.

    The values of tensors do not count, nor does anything outside of the model, such as global variables. The model must
    live as long as the result is used: objects are told apart by their identity.
    """
    return tuple((name, id(module), type(module), *_attributes(module)) for name, module in model.named_modules())


def _attributes(module: nn.Module) -> tuple[Hashable, ...]:
    methods = (vars(type(module)).get("forward"), vars(module).get("forward"))
    return (*map(id, methods), *((name, _looks(value)) for name, value in vars(module).items()))


def _looks(value: Any) -> Hashable:
    if isinstance(value, _PLAIN):
        return value
    if isinstance(value, Tensor):
        return (value.shape, value.dtype, value.device, value.requires_grad)
    if isinstance(value, list | tuple | set):
        return (type(value), *map(_looks, value))
    if isinstance(value, dict):
        return (type(value), *((_looks(key), _looks(entry)) for key, entry in value.items()))
    if isinstance(value, types.MethodType):  # made anew at each access
        return (id(value.__self__), id(value.__func__))
    return id(value)
