"""The cases that laws run on: networks, granularities, modes."""

import unittest
from typing import Any

import torch
from torch import Tensor, nn

from ..surgery.apply import add_delays
from ..toolkits import plugins
from ..toolkits.toolkit import Toolkit
from ..toolkits.vocabulary import Granularity
from .networks import Network
from .oracle import MAX_DELAY

GRANULARITIES = tuple(Granularity)


class Cases:
    """What all laws share: the backend and the networks of a test class, and the variants in which a law is run.

    Attributes:
        backend: name of the backend.
        networks: networks of its toolkit, at least one for each way of keeping time and state that it has.
        tolerance: absolute and relative, for outputs that should be equal.
    """

    backend: str
    networks: tuple[Network, ...]
    tolerance: float = 1e-4

    def pytest_generate_tests(self, metafunc: Any) -> None:
        """Run every law on every network, and where it matters for all granularities, while training and not."""
        if not self.networks:
            raise ValueError(f"{type(self).__name__}.networks: expected at least one Network, got none")
        names = metafunc.fixturenames
        if "network" in names:
            law = metafunc.function.__name__
            cases = [n for n in self.networks if ("carried" if n.cut is None else "refused") not in law]
            metafunc.parametrize("network", cases, ids=str)
        if "granularity" in names:
            metafunc.parametrize("granularity", GRANULARITIES)
        if "tau" in names:
            metafunc.parametrize("tau", (1.005, 1.5, 2.0))
        if "training" in names:
            metafunc.parametrize("training", (True, False), ids=("train", "eval"))

    def delayed(self, network: Network, seed: int = 0, **options: Any) -> nn.Module:
        """The network with delays."""
        options = {"interpolation": "linear", "max_delay": MAX_DELAY, **options}
        return add_delays(network.build(seed), example=network.example, **options)

    def assert_equal(self, got: Tensor, expected: Tensor) -> None:
        torch.testing.assert_close(got, expected, atol=self.tolerance, rtol=self.tolerance)

    @property
    def toolkit(self) -> Toolkit:
        """The toolkit of the backend."""
        return plugins.toolkit(self.backend)

    def skip_without(self, capability: type) -> None:
        """Skip the law if the toolkit does not have a capability."""
        if not isinstance(self.toolkit, capability):
            raise unittest.SkipTest(f"the backend {self.backend} has no {capability.__name__}")
