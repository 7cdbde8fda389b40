"""Delays that no optimizer trains: one warning at the second step, and none where that is meant."""

import gc
import warnings
import weakref
from collections.abc import Callable

import pytest
import snntorch
import torch
from snntorch import utils
from torch import Tensor, nn

import delayplug

Train = Callable[[torch.optim.Optimizer], None]


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 3), snntorch.Leaky(beta=0.9, init_hidden=True))


def delayed(net: nn.Module) -> nn.Module:
    return delayplug.add_delays(net, max_delay=3)


def loss(net: nn.Module) -> Tensor:
    utils.reset(net)
    return torch.stack([net(x) for x in torch.rand(5, 2, 4)]).sum()


def train(net: nn.Module, *optimizers: torch.optim.Optimizer, steps: int = 4) -> list[str]:
    """The warnings of a few steps, each with the number of the step."""
    told = []
    for step in range(1, steps + 1):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            net.zero_grad()
            loss(net).backward()
            for optimizer in optimizers:
                optimizer.step()
        told += [f"{step}: {w.message}" for w in caught if "no optimizer trains" in str(w.message)]
    return told


@pytest.mark.parametrize("kind", [torch.optim.Adam, torch.optim.SGD, torch.optim.AdamW])
def test_an_optimizer_made_before(kind: type[torch.optim.Adam]) -> None:
    net = network()
    optimizer = kind(net.parameters(), lr=1e-3)
    told = train(delayed(net), optimizer)
    assert len(told) == 1
    assert told[0].startswith("2: no optimizer trains the delays of 0: this " + kind.__name__)
    # What it advises works.
    delays = [delay.delays for _, delay in delayplug.named_delays(net)]
    before = delays[0].detach().clone()
    optimizer.add_param_group({"params": delays, "lr": 0.1})
    train(net, optimizer)
    assert not torch.equal(delays[0], before)


def test_an_optimizer_made_afterwards() -> None:
    net = delayed(network())
    assert not train(net, torch.optim.Adam(net.parameters()))
    assert not train(net, torch.optim.Adam(delayplug.parameter_groups(net, lr=1e-3)))


def test_one_optimizer_each() -> None:
    net = delayed(network())
    weights = torch.optim.Adam([net[0].weight])
    delays = torch.optim.Adam([net[0].delay.delays])
    assert not train(net, weights, delays)
    assert not train(delayed(other := network()), torch.optim.SGD([other[0].bias], 0.1), steps=1)


def test_an_optimizer_that_begins_later() -> None:
    net = delayed(network())
    later = torch.optim.Adam([net[0].delay.delays])
    assert not train(net, torch.optim.Adam([net[0].weight]))
    del later
    gc.collect()
    assert train(net, torch.optim.Adam([net[0].weight]))


def test_delays_that_are_not_to_learn() -> None:
    net = delayed(network())
    for _, delay in delayplug.named_delays(net):
        delay.requires_grad_(False)
    assert not train(net, torch.optim.Adam([net[0].weight]))


def test_delays_that_are_trained_by_hand() -> None:
    net = delayed(network())
    delays = net[0].delay.delays
    optimizer = torch.optim.SGD([net[0].weight], lr=0.1)

    def by_hand(*_: object) -> None:
        with torch.no_grad():
            delays.sub_(0.1 * delays.grad)

    optimizer.register_step_post_hook(by_hand)
    assert not train(net, optimizer)


def test_optimizers_of_other_models() -> None:
    net = delayed(network())
    other = nn.Linear(2, 2)
    optimizer = torch.optim.SGD(other.parameters(), lr=0.1)
    loss(net).backward()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(3):
            other(torch.rand(3, 2)).sum().backward()
            optimizer.step()


def test_models_and_optimizers_are_not_held() -> None:
    net = network()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    train(delayed(net), optimizer)
    gone = [weakref.ref(net), weakref.ref(optimizer)]
    del net, optimizer
    gc.collect()
    assert [ref() for ref in gone] == [None, None]


def test_delays_without_weights_and_weights_without_delays() -> None:
    """What is frozen is computed with, and what is not learns."""
    net = delayed(network())
    net.requires_grad_(False)
    for _, delay in delayplug.named_delays(net):
        delay.requires_grad_(True)
    groups = delayplug.parameter_groups(net, lr=1e-3)
    assert [group["name"] for group in groups] == ["delays"]
    before = {name: p.clone() for name, p in net.named_parameters()}
    assert not train(net, torch.optim.Adam(groups))
    assert [n for n, p in net.named_parameters() if not torch.equal(p, before[n])] == ["0.delay.delays"]
