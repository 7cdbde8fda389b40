"""The one place where the forward of a module is replaced for a while."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from torch import nn


@contextmanager
def replaced_forward(module: nn.Module, forward: Callable[..., object]) -> Iterator[None]:
    """Within the block, a call of the module runs `forward`; its hooks run as before.

    Blocks may be nested, also around a module whose forward the user has replaced: each puts back what it replaced.
    """
    attributes = vars(module)  # an attribute of the object hides the method of its class
    replaced = {name: value for name, value in attributes.items() if name == "forward"}
    attributes["forward"] = forward
    try:
        yield
    finally:
        del attributes["forward"]
        attributes.update(replaced)
