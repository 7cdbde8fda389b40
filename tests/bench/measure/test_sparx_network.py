"""`sparx_network`: the paper's network in JAX, where sparx is installed."""

import importlib.util

import numpy as np
import pytest

from delayplug import ArgumentError
from delayplug.bench.measure.sparx_network import training_step

X = np.ones((6, 4, 5), dtype=np.float32)
INSTALLED = importlib.util.find_spec("sparx") is not None


@pytest.mark.skipif(INSTALLED, reason="sparx is installed")
def test_without_the_package_the_message_says_what_to_do() -> None:
    with pytest.raises(ArgumentError, match=r"against: expected a package that is installed.*pip install 'sparxml"):
        training_step((5, 4, 3), X)


@pytest.mark.skipif(not INSTALLED, reason="needs sparx, which needs Python 3.12")
def test_a_step_runs_again_and_again() -> None:
    run = training_step((5, 4, 3), X, max_delay=2)
    run()
    run()
