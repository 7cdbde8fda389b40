"""Living with torch.compile."""

from collections.abc import Callable
from typing import Any, TypeVar

from torch._compile import _disable_dynamo

F = TypeVar("F", bound=Callable[..., Any])


def eager(function: F) -> F:
    """Keep a function out of compiled graphs: a compiled model breaks its graph there and goes on behind.

    What watches over sequences compares objects and memory addresses, which a compiler would freeze into its guards.
    This is `torch.compiler.disable`, in the form that torch's own optimizers use: the compiler, which takes as long to
    import as torch itself, is imported with the first call rather than with this package.
    """
    return _disable_dynamo(function)  # type: ignore[return-value]
