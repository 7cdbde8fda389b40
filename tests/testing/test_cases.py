"""Which cases a law is run on."""

from types import SimpleNamespace

import pytest
from torch import nn

from delayplug.testing import Laws, Network


class Metafunc:
    """What pytest hands to `pytest_generate_tests`."""

    def __init__(self, law: str, *names: str) -> None:
        self.function, self.fixturenames, self.calls = SimpleNamespace(__name__=law), names, {}

    def parametrize(self, name: str, values: object, ids: object = None) -> None:
        self.calls[name] = list(values)


def network(name: str, cut: object = None) -> Network:
    return Network(name, lambda: nn.Linear(1, 1), (1,), (), lambda net, x, state: (x, state), cut=cut)


class Cases(Laws):
    backend = "norse"
    networks = (network("whole"), network("parts", cut=lambda net, state: state))


@pytest.mark.parametrize(
    ("law", "names"),
    [("test_twice", ["whole", "parts"]), ("test_carried_chunks", ["parts"]), ("test_is_refused", ["whole"])],
)
def test_a_law_runs_on_the_networks_that_it_is_about(law: str, names: list[str]) -> None:
    metafunc = Metafunc(law, "network", "granularity", "training")
    Cases().pytest_generate_tests(metafunc)
    assert [str(network) for network in metafunc.calls["network"]] == names
    assert metafunc.calls["granularity"] == ["synaptic", "axonal", "dendritic"]
    assert metafunc.calls["training"] == [True, False]


def test_no_network_is_an_error() -> None:
    class Empty(Laws):
        backend, networks = "norse", ()

    with pytest.raises(ValueError, match="expected at least one Network, got none"):
        Empty().pytest_generate_tests(Metafunc("test_twice", "network"))
