"""How exact products of float32 numbers are: what `torch.set_float32_matmul_precision` says, for every engine alike.

    "highest"   torch's default: outputs and gradients within 1e-5 of float64
    "high"      within 1e-3: TF32 in the products of torch's that engines are made of
    "medium"    within 1e-2: factors rounded to bf16, sums in float32

Errors are norms of the difference over norms of the result. cuDNN by itself uses TF32 in convolutions unless told
otherwise, whatever this setting is; no engine lets it. Autocast changes nothing: taps have more digits than half
precision. Other dtypes than float32 are computed in their own precision.
"""

import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch


def setting() -> str:
    """The setting: "highest", "high" or "medium"; "highest" while `torch.compile` traces, which cannot ask."""
    if torch.compiler.is_compiling():
        return "highest"
    try:
        return torch.get_float32_matmul_precision()
    except RuntimeError:  # torch keeps apart what `torch.backends.cuda.matmul.fp32_precision` was set to
        return "high" if torch.backends.cuda.matmul.fp32_precision == "tf32" else "highest"


def parts() -> int:
    """How many numbers of bf16 a float32 factor is cut into for tensor cores: 2, which is 16 bits, or 1."""
    return 1 if setting() == "medium" else 2


def allows_tf32() -> bool:
    """Whether products may round their factors to TF32, 11 bits."""
    return setting() != "highest"


def full_precision(device: torch.device) -> AbstractContextManager[None]:
    """Within the block, autocast is off, and cuDNN's convolutions use TF32 only if the setting allows it.

    For what runs within the block: the backward pass of a convolution of torch's does not. While `torch.compile`
    traces, what cuDNN may use is left to its own setting.
    """
    kind = device.type
    if torch.is_autocast_enabled(kind):
        return _without_autocast(kind)
    return nullcontext() if _leaves_cudnn(kind) else _without_tf32()


def _leaves_cudnn(kind: str) -> bool:
    return kind != "cuda" or torch.compiler.is_compiling() or allows_tf32()


@contextmanager
def _without_autocast(kind: str) -> Iterator[None]:
    with torch.autocast(kind, enabled=False), nullcontext() if _leaves_cudnn(kind) else _without_tf32():
        yield


# The setting is one for all threads, of which autograd has one for each GPU: the first that comes changes it, and the
# last one that leaves restores it.
_lock = threading.Lock()
_within: list[object] = []  # what it was before, once for each block that runs


@contextmanager
def _without_tf32() -> Iterator[None]:
    # torch 2.9 made a setting of it for convolutions alone; asking for the one before is an error once that is set.
    cudnn = torch.backends.cudnn
    holder, name = (cudnn.conv, "fp32_precision") if hasattr(cudnn, "conv") else (cudnn, "allow_tf32")
    with _lock:
        _within.append(_within[0] if _within else getattr(holder, name))
        setattr(holder, name, "ieee" if name == "fp32_precision" else False)
    try:
        yield
    finally:
        with _lock:
            before = _within.pop()
            if not _within:
                setattr(holder, name, before)
