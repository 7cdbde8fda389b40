"""The laws of `delayplug.testing`, over networks as the users of each toolkit write them."""

import pytest
import snntorch

from delayplug.testing.laws import Laws
from tests.corpus import FAST_NETWORKS, norse_networks, snntorch_networks, spikingjelly_networks

pytestmark = [
    pytest.mark.filterwarnings("ignore::UserWarning:snntorch"),
    pytest.mark.filterwarnings("ignore:The .grad"),
]


@pytest.fixture(autouse=True)
def few_instances() -> None:
    """snnTorch's utils.reset looks at every neuron ever made, and never forgets one."""
    snntorch.SpikingNeuron.instances.clear()


class TestSnnTorch(Laws):
    backend = "snntorch"
    networks = snntorch_networks.NETWORKS


class TestNorse(Laws):
    backend = "norse"
    networks = norse_networks.NETWORKS


class TestSpikingJelly(Laws):
    backend = "spikingjelly"
    networks = spikingjelly_networks.NETWORKS


def test_the_fast_tests_have_networks_of_every_toolkit() -> None:
    for laws in (TestSnnTorch, TestNorse, TestSpikingJelly):
        names = {network.name for network in laws.networks}
        assert FAST_NETWORKS[laws.backend]
        assert names >= FAST_NETWORKS[laws.backend]
