"""Which tensors are known to hold numbers that bf16 represents exactly, such as spikes and small counts.

Known by the dtype, or by whoever made the tensor, who leaves a mark on its memory. Nobody looks at values: that would
wait for the device. A mark counts for all views of the memory until somebody writes to it.
"""

import contextlib

import torch
from torch import Tensor

# bf16 has 8 bits: all integers up to 256.
_EXACT = (torch.bool, torch.uint8, torch.int8, torch.bfloat16)
_MARK = "_delayplug_exact"


def mark_exact(x: Tensor) -> Tensor:
    """Note that all numbers of x, which was just made, are exact in bf16; returns x."""
    if not torch.compiler.is_compiling() and not x.is_inference():
        with contextlib.suppress(NotImplementedError, RuntimeError):  # within torch.func there is no memory to mark
            setattr(x.untyped_storage(), _MARK, x._version)
    return x


def is_exact(x: Tensor) -> bool:
    """Whether all numbers of x are known to be exact in bf16."""
    if x.dtype in _EXACT:
        return True
    if torch.compiler.is_compiling() or x.is_inference():
        return False
    try:
        return getattr(x.untyped_storage(), _MARK, None) == x._version
    except (NotImplementedError, RuntimeError):
        return False
