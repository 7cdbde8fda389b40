"""What a run computes on, by name, and how exactly."""

import platform
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch


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
