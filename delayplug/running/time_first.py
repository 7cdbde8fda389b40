"""A model that takes its input with the time elsewhere than first, such as (B, T, ...): told where it does not run.

Shapes: T steps, B batch.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import Tensor

from ..errors import DelayplugError
from ..surgery.inventory import Network
from .loop import calls_of_neurons

_FEW = (3, 4, 5, 6, 7, 8)


@contextmanager
def time_must_come_first(network: Network, x: Tensor, failure: type[DelayplugError]) -> Iterator[None]:
    """Within the block, an error becomes `failure` if the model loops over another dimension than the first.

    Args:
        network: the model.
        x: what its user passed, (T, B, ...) or as the model takes it.
        failure: says that the time must come first, and what to do. Other errors are left as they are.
    """
    try:
        yield
    except Exception as error:
        dimension = _loops_over(network, x)
        if dimension is None:
            raise
        where, layout = ("second", "(B, T, ...)") if dimension == 1 else ("last", "(B, ..., T)")
        reason = f"{error}. " if isinstance(error, failure) else ""
        raise failure(
            f"{reason}the model loops over the {where} dimension of its input, {layout}, and time must come first: let "
            "its forward loop over the first one, (T, B, ...), and transpose the input outside of it, or inside of a "
            "module around it. Called as it is, model(x), it works with delays as without"
        ) from error


def _loops_over(network: Network, x: Tensor) -> int | None:
    """1 or -1, the dimension of its input over which the forward of a model loops; None if that cannot be told."""
    layouts = [(x, x.shape[1], 1), (x, x.shape[-1], -1)]
    if x.dim() > 2:  # a few steps of the same, for two samples
        few = next(n for n in _FEW if n not in x.shape[2:])
        part = x[:1, :1].expand(few, 2, *x.shape[2:])
        layouts += [(part.transpose(0, 1), few, 1), (part.movedim(0, -1), few, -1)]
    for layout, steps, dimension in layouts:
        others = [size for size in layout.shape if size == steps]
        if len(others) == 1 and steps > 1 and calls_of_neurons(network, layout) == steps:
            return dimension
    return None
