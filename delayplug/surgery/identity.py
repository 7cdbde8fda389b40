"""Whether a neuron's state is the one that its last call left: by identity, memory and version.

Toolkits hand states on as the very tensors, detached, copied, or zeroed in place; each of these is told from the others
here.
"""

from collections.abc import Iterable

import torch
from torch import Tensor


def any_nonzero(tensors: Iterable[Tensor]) -> bool:
    """Whether one of the tensors has a value that is not zero."""
    return any(bool(tensor.any()) for tensor in tensors)


def has_graph(values: Iterable[object]) -> bool:
    """Whether one of the values is a tensor that was computed with gradients."""
    return any(isinstance(value, Tensor) and value.grad_fn is not None for value in values)


def version_of(value: object) -> int:
    """How often a tensor was written to in place; 0 where that is not counted."""
    return value._version if isinstance(value, Tensor) and not value.is_inference() else 0


def is_same_state(now: object, then: object, version: int) -> bool:
    """Whether a state is the one of then, be it cut off from the graph (`v = v.detach()` shares memory and version)."""
    if now is then or not (isinstance(now, Tensor) and isinstance(then, Tensor)):
        return now is then
    return (
        now.shape == then.shape and _address(now) == _address(then) and now.numel() > 0 and version_of(now) == version
    )


def was_zeroed(held: tuple[object, ...], versions: tuple[int, ...]) -> bool:
    """Whether a state was reset in place since its versions were taken."""
    changed = [h for h, v in zip(held, versions, strict=True) if isinstance(h, Tensor) and version_of(h) != v]
    return bool(changed) and not any_nonzero(changed)


def is_copy(tensor: Tensor, returned: Tensor) -> bool:
    """Whether they share memory, or are equal and not just zeros, with which every state begins."""
    if _address(tensor) == _address(returned) and tensor.numel():
        return True
    if tensor.shape != returned.shape or tensor.dtype != returned.dtype or tensor.device != returned.device:
        return False
    return bool(torch.equal(tensor, returned)) and bool(tensor.any())


def _address(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()
