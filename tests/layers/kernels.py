"""What tests of Triton kernels share: the device that they run on, and the block in which they do."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch

from delayplug import _triton

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")

needs_triton = pytest.mark.skipif(not _triton.is_installed(), reason="needs Triton")


@contextmanager
def running() -> Iterator[None]:
    """Within the block kernels run: on a GPU if there is one, else on the CPU in the interpreter."""
    if DEVICE.type == "cuda":
        assert _triton.runs_on(DEVICE)
        yield
        return
    with _triton.interpreted():
        yield


@contextmanager
def matmul_precision(setting: str) -> Iterator[None]:
    """Within the block it is `torch.set_float32_matmul_precision`'s."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(setting)
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)
