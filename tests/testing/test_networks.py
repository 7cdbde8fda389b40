"""A network of the laws: the same for the same seed, with spikes of its density."""

import torch
from torch import nn

from delayplug.testing import Network


def network(**changes: object) -> Network:
    options: dict[str, object] = {"density": 0.25, "sees": {"0": "sequences"}, **changes}
    return Network("toy", lambda: nn.Linear(5, 2), (5,), ("0",), lambda net, x, state: (net(x), state), **options)


def test_a_seed_makes_the_same_network() -> None:
    made = network()
    assert torch.equal(made.build(3).weight, made.build(3).weight)
    assert not torch.equal(made.build(3).weight, made.build(4).weight)


def test_samples_are_spikes_of_the_density() -> None:
    x = network().sample(steps=200, batch=10)
    assert x.shape == (200, 10, 5)
    assert set(x.unique().tolist()) == {0.0, 1.0}
    assert abs(x.mean() - 0.25) < 0.02


def test_a_run_goes_from_a_fresh_state() -> None:
    begun = []
    made = network(start=lambda net: begun.append(net))
    net = made.build()
    assert torch.equal(made.run(net, made.sample()), net(made.sample()))
    assert begun == [net]
    made.example(net)
    assert begun == [net, net]


def test_what_a_layer_sees_is_one_for_all_or_by_layer() -> None:
    assert network().sees_of("0") == "sequences"
    assert network(sees="folded").sees_of("0") == "folded"
    assert str(network()) == "toy"
