"""Which tensors are known to hold numbers that bf16 represents exactly, such as spikes and small counts.

Known by the dtype, or by whoever made the tensor, who leaves a mark on its memory. Nobody looks at values: that would
wait for the device. A mark counts for all views of the memory until somebody writes to it. While a CUDA graph is
recorded only marks of the recording count: what others are on may be filled with anything before it is replayed.
"""

import contextlib

import torch
from torch import Tensor

# bf16 has 8 bits: all integers up to 256.
_EXACT = (torch.bool, torch.uint8, torch.int8, torch.bfloat16)
_MARK, _HALF = "_delayplug_exact", "_delayplug_half"


def mark_exact(x: Tensor, half: Tensor | None = None) -> Tensor:
    """Note that all numbers of x, which was just made, are exact in bf16; returns x.

    Args:
        x: any tensor.
        half: the same numbers in the dtype of `_triton.half`, in the same order in memory, if they are there.
    """
    if not torch.compiler.is_compiling() and not x.is_inference():
        with contextlib.suppress(NotImplementedError, RuntimeError):  # within torch.func there is no memory to mark
            storage = x.untyped_storage()
            setattr(storage, _MARK, (x._version, _is_recorded(x)))
            if half is not None:
                setattr(storage, _HALF, (x._version, half))
    return x


def half_of(x: Tensor) -> Tensor | None:
    """The numbers of x in half precision, of its shape, where they are known without a launch."""
    if x.dtype in _EXACT or not is_exact(x) or not x.is_contiguous() or x.storage_offset():
        return None
    version, half = getattr(x.untyped_storage(), _HALF, (-1, None))
    if half is None or version != x._version or half.numel() != x.numel():
        return None
    assert isinstance(half, Tensor)
    return half.view(x.shape)


def is_exact(x: Tensor) -> bool:
    """Whether all numbers of x are known to be exact in bf16."""
    if x.dtype in _EXACT:
        return True
    if torch.compiler.is_compiling() or x.is_inference():
        return False
    try:
        version, recorded = getattr(x.untyped_storage(), _MARK, (-1, False))
    except (NotImplementedError, RuntimeError):
        return False
    return bool(version == x._version and (recorded or not _is_recorded(x)))


def _is_recorded(x: Tensor) -> bool:
    """Whether what is done with x now becomes part of a CUDA graph."""
    return x.is_cuda and torch.cuda.is_current_stream_capturing()
