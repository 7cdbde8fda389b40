"""Peak memory of a block."""

import subprocess
import sys
from pathlib import Path

import pytest

# In a process of its own, whose allocator has no freed memory to use again.
PROGRAM = """
import torch
from delayplug.bench.training.peak_memory import PeakMemory

with PeakMemory() as before:
    pass
with PeakMemory() as peak:
    torch.ones(50_000_000 // 4).sum()
with PeakMemory() as after:
    pass
print(before.megabytes, peak.megabytes, after.megabytes)
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="only Linux can forget an earlier peak")
def test_a_block_that_takes_memory() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True, timeout=120)
    before, peak, after = map(float, done.stdout.split())
    assert peak - before == pytest.approx(50, abs=10)
    assert after < peak - 30  # the peak is the block's own
