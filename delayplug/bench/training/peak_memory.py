"""Peak memory of a block."""

import contextlib
import resource
import sys
from pathlib import Path

import torch


class PeakMemory:
    """Peak memory in MB of a `with` block: that of the GPU if one is used, else resident memory of the process.

    Linux can forget an earlier peak; elsewhere it is the peak since the start of the process.
    """

    megabytes = 0.0

    def __enter__(self) -> "PeakMemory":
        if torch.cuda.is_available():
            torch.cuda.reset_peak_memory_stats()
        with contextlib.suppress(OSError):
            Path("/proc/self/clear_refs").write_text("5")
        return self

    def __exit__(self, *exception: object) -> None:
        gpu = torch.cuda.max_memory_allocated() if torch.cuda.is_available() else 0
        self.megabytes = (gpu or _resident_peak()) / 1e6


def _resident_peak() -> float:
    """In bytes."""
    status = Path("/proc/self/status")
    if status.exists():
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return float(line.split()[1]) * 1024
    peak = float(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
    return peak if sys.platform == "darwin" else peak * 1024
