"""What a run computes on, by name, and how exactly."""

import platform
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from ..errors import RunError, shortened

# How torch says it, in errors that have no class of their own.
_NO_MEMORY = re.compile("allocat|out of memory|overflow")


def device_name(device: torch.device) -> str:
    """The model of a device, such as "NVIDIA H100 80GB HBM3"; of a CPU, where the system does not say, its kind."""
    if device.type == "cuda":
        return str(torch.cuda.get_device_name(device))
    return _processor() if device.type == "cpu" else device.type


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:  # not Linux
        lines = []
    models = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(models, "") or platform.processor() or platform.machine()


@contextmanager
def matmul_precision(precision: str) -> Iterator[None]:
    """Within the block products of float32 numbers are so exact, as `torch.set_float32_matmul_precision` has it."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(precision)
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


@contextmanager
def within_memory(what: str) -> Iterator[None]:
    """Raise RunError if the block asks for more memory than there is; `what` begins the message."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and not _NO_MEMORY.search(str(error)):
            raise
        got = shortened(str(error).partition("\n")[0] or "more")
        advice = "Take a smaller --hidden, --batch-size, --max-delay or --taps"
        raise RunError(f"{what}: expected a network and batches that fit into memory, got: {got}. {advice}") from error
