"""The one place where the forward of a module, or another attribute of it, is replaced for a while."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

from torch import nn


@contextmanager
def replaced(module: nn.Module, name: str, value: object) -> Iterator[None]:
    """Within the block, a module has another value for a method, a parameter or an attribute.

    Blocks may be nested: each puts back what it replaced.
    """
    attributes = vars(module)  # an attribute of the object hides the method of its class, and a parameter
    before = {key: old for key, old in attributes.items() if key == name}
    attributes[name] = value
    try:
        yield
    finally:
        del attributes[name]
        attributes.update(before)


def replaced_forward(module: nn.Module, forward: Callable[..., object]) -> AbstractContextManager[None]:
    """Within the block, a call of the module runs `forward`; its hooks run as before.

    Also around a module whose forward the user has replaced.
    """
    return replaced(module, "forward", forward)
