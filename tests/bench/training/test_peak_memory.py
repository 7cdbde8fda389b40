"""Peak memory of a block."""

from pathlib import Path

import pytest
import torch

from delayplug.bench.training.peak_memory import PeakMemory


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="only Linux can forget an earlier peak")
def test_a_block_that_takes_memory() -> None:
    with PeakMemory() as before:
        pass
    with PeakMemory() as peak:
        torch.ones(50_000_000 // 4).sum()
    with PeakMemory() as after:
        pass
    assert peak.megabytes - before.megabytes == pytest.approx(50, abs=10)
    assert after.megabytes < peak.megabytes - 30  # the peak is the block's own
