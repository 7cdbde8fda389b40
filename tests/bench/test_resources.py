"""Resources of runs."""

import pytest

from delayplug import ArgumentError
from delayplug.bench.resources import Resources


def test_devices_in_words() -> None:
    assert Resources().label == "auto"
    assert Resources("gpu", devices=4, nodes=2).label == "8 x gpu"


@pytest.mark.parametrize("threads", [0, -1, 100_000_000])
def test_threads_that_would_end_the_process(threads: int) -> None:
    with pytest.raises(ArgumentError, match=f"threads: expected an integer in 1..1024, got {threads}"):
        Resources(threads=threads)
