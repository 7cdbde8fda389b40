"""A state of a network, whatever it is made of, as plain tensors and numbers, and back.

States are tensors in tuples, lists, dictionaries, named tuples and dataclasses, a `DelayState` or none among them. What
is saved are the leaves alone, without the classes around them: a file of them is read by `torch.load` with
`weights_only=True`, and the classes come from a template, the state of a network that runs.
"""

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

from torch import Tensor, nn

from ..errors import ArgumentError
from ..layers.state import DelayState

Leaf = Tensor | int | float | bool | str | None
_PLAIN = (int, float, bool, str, type(None))


def tensors_in(value: Any, *, objects: bool = False) -> list[Tensor]:
    """All tensors in nested tuples, lists, dictionaries and dataclasses; with `objects`, in what objects hold, too."""
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, type | nn.Module | str | bytes):
        return []
    if dataclasses.is_dataclass(value) or (objects and not isinstance(value, dict) and hasattr(value, "__dict__")):
        # An object that is no container of its own kind is looked into once: it may point back to itself.
        objects = objects and dataclasses.is_dataclass(value)
        names = [f.name for f in dataclasses.fields(value)] if dataclasses.is_dataclass(value) else [*vars(value)]
        value = [getattr(value, name) for name in names]
    if isinstance(value, dict):
        value = list(value.values())
    return [t for item in value for t in tensors_in(item, objects=objects)] if isinstance(value, list | tuple) else []


def to_leaves(state: Any, name: str = "state") -> dict[str, Leaf]:
    """The leaves of a state by their paths, tensors copied and without a graph.

    Raises:
        ArgumentError: something in it is no tensor, number, text or container.
    """
    return {path: leaf.detach().clone() if isinstance(leaf, Tensor) else leaf for path, leaf in _leaves(state, name)}


def from_leaves(template: Any, leaves: dict[str, Any], name: str = "state") -> Any:
    """The state that has the form of a template and the content of the leaves.

    Raises:
        ArgumentError: a leaf is missing, is left over, or has another kind, shape or dtype than that of the template.
    """
    left = dict(leaves)

    def fill(path: str, like: Leaf) -> Leaf:
        if path not in left:
            raise ArgumentError(name, f"an entry {path}", "none", "Is it the state of another network?")
        return _checked(path, left.pop(path), like)

    result = _rebuilt(template, name, fill)
    if left:
        raise ArgumentError(name, "nothing but the network's own entries", ", ".join(map(str, sorted(left, key=str))))
    return result


def with_own_containers(state: Any) -> Any:
    """The same leaves in new containers, for those who write into them."""
    return mapped(state, lambda leaf: leaf)


def mapped(state: Any, change: Callable[[Any], Any]) -> Any:
    """The same containers with changed leaves; a `DelayState` is one."""
    return _rebuilt(state, "", lambda path, leaf: change(leaf), keep=True)


def _checked(path: str, value: Any, like: Leaf) -> Leaf:
    if not isinstance(like, Tensor):
        if not isinstance(value, _PLAIN) or type(value) is not type(like):
            raise ArgumentError(path, f"a value like {like!r}", _named(value))
        return value
    if not isinstance(value, Tensor):
        raise ArgumentError(path, f"a tensor of shape {tuple(like.shape)}", _named(value))
    if value.shape != like.shape or value.dtype != like.dtype:
        raise ArgumentError(
            path, f"{like.dtype} of shape {tuple(like.shape)}", f"{value.dtype} of shape {tuple(value.shape)}"
        )
    if value.is_floating_point() and not bool(value.isfinite().all()):
        raise ArgumentError(path, "finite values", "NaN or infinity")
    return value.detach().to(like.device, copy=True)


def _named(value: Any) -> str:
    return repr(value) if isinstance(value, _PLAIN) else type(value).__name__


def _parts(value: Any) -> dict[str, Any] | None:
    """What a container holds, by name; None if it is no container."""
    if isinstance(value, DelayState):  # kernels and tapes are rebuilt from the layer and the history
        return {"history": value.history} | ({} if value.pending is None else {"pending": value.pending})
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return dict(zip(value._fields, value, strict=True))
    if isinstance(value, list | tuple):
        return {str(i): part for i, part in enumerate(value)}
    return {str(key): part for key, part in value.items()} if isinstance(value, dict) else None


def _leaves(value: Any, path: str) -> Iterator[tuple[str, Leaf]]:
    parts = _parts(value)
    if parts is not None:
        for name, part in parts.items():
            yield from _leaves(part, f"{path}.{name}")
    elif isinstance(value, (Tensor, *_PLAIN)):
        yield path, value
    else:
        raise ArgumentError(path, "tensors and numbers in containers", type(value).__name__, "It cannot be saved")


def _rebuilt(value: Any, path: str, leaf: Callable[[str, Any], Any], *, keep: bool = False) -> Any:
    """The same containers around leaf(path, what was there); with `keep`, a `DelayState` counts as a leaf."""
    parts = None if keep and isinstance(value, DelayState) else _parts(value)
    if parts is None:
        return leaf(path, value)
    new = {name: _rebuilt(part, f"{path}.{name}", leaf, keep=keep) for name, part in parts.items()}
    if isinstance(value, DelayState):
        return DelayState(new["history"], pending=new.get("pending"))
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclasses.replace(value, **new)
    if isinstance(value, dict):
        return type(value)(zip(value, new.values(), strict=True))
    return type(value)(*new.values()) if hasattr(value, "_fields") else type(value)(new.values())
