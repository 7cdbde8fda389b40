"""Networks with one input for all steps: unrolled as their loop computes, or refused with a reason."""

import norse.torch as norse
import pytest
import snntorch
import torch
from spikingjelly.activation_based import functional, layer, neuron
from torch import Tensor, nn
from torch.nn.functional import max_pool2d

from delayplug import ArgumentError, UnrollError, add_delays, named_delays, reset_delays, unroll

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:snntorch")

T, B = 9, 3


class Tutorial(nn.Module):
    """As in snnTorch's tutorial 5."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.lif1 = nn.Linear(6, 12), snntorch.Leaky(beta=0.9)
        self.fc2, self.lif2 = nn.Linear(12, 4), snntorch.Leaky(beta=0.9)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        mem1, mem2 = self.lif1.init_leaky(), self.lif2.init_leaky()
        spikes, membranes = [], []
        for _ in range(T):
            spk1, mem1 = self.lif1(self.fc1(x), mem1)
            spk2, mem2 = self.lif2(self.fc2(spk1), mem2)
            spikes.append(spk2)
            membranes.append(mem2)
        return torch.stack(spikes, dim=0), torch.stack(membranes, dim=0)


class Pooled(nn.Module):
    """As in snnTorch's tutorial 6, with batch norm; what it returns is last, a list, and summed."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm, self.lif1 = nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), snntorch.Leaky(beta=0.8)
        self.act = nn.ReLU(inplace=True)
        self.fc, self.lif2 = nn.Linear(4 * 4, 5), snntorch.Leaky(beta=0.8)

    def forward(self, x: Tensor) -> tuple[Tensor, list[Tensor], Tensor]:
        mem1, mem2, record = self.lif1.init_leaky(), self.lif2.init_leaky(), []
        for _ in range(T):
            spk1, mem1 = self.lif1(max_pool2d(self.act(self.norm(self.conv(x)) * 2), 2), mem1)
            spk2, mem2 = self.lif2(self.fc(spk1.flatten(1)), mem2)
            record += [spk2]
        return mem2, record, torch.cat([spk.unsqueeze(0) for spk in record]).sum(0)


class Cells(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.lif1, self.fc2, self.out = nn.Linear(6, 12), norse.LIFCell(), nn.Linear(12, 4), norse.LICell()

    def forward(self, x: Tensor) -> Tensor:
        s1, s2, voltages = None, None, []
        for _ in range(T):
            z, s1 = self.lif1(self.fc1(x), s1)
            v, s2 = self.out(self.fc2(z), s2)
            voltages.append(v)
        return torch.stack(voltages).max(0).values


class Held(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(layer.Linear(6, 12), neuron.LIFNode(), layer.Linear(12, 4), neuron.LIFNode())

    def forward(self, x: Tensor) -> Tensor:
        functional.reset_net(self)
        return torch.stack([self.net(x) for _ in range(T)], dim=1)


IMAGE = (1, 6, 6)
NETWORKS = {"tutorial": (Tutorial, (6,)), "pooled": (Pooled, IMAGE), "cells": (Cells, (6,)), "held": (Held, (6,))}


def build(name: str, *, delayed: bool) -> tuple[nn.Module, Tensor]:
    torch.manual_seed(0)
    kind, shape = NETWORKS[name]
    net, x = kind(), torch.rand(B, *shape) * 4
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.mul_(6 if parameter.dim() > 1 else 1)
    return (add_delays(net, 4, example=x) if delayed else net), x


def run(net: nn.Module, x: Tensor) -> object:
    reset_delays(net)
    return net(x)


@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
@pytest.mark.parametrize("delayed", [False, True], ids=["plain", "delayed"])
@pytest.mark.parametrize("name", NETWORKS)
def test_equal_to_the_loop_in_the_model(name: str, delayed: bool, training: bool) -> None:
    (net, x), (other, _) = build(name, delayed=delayed), build(name, delayed=delayed)
    other.load_state_dict(net.state_dict())
    net.train(training)
    other.train(training)
    for _ in range(2):
        expected, got = run(net, x), unroll(other, x, steps=T)
        torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-5)
    assert torch.utils._pytree.tree_leaves(got)[0].any()
    for (name, value), new in zip(net.named_buffers(), other.buffers(), strict=True):
        if "running" in name:  # of batch norm
            torch.testing.assert_close(new, value, rtol=1e-4, atol=1e-5)
    for out, model in ((expected, net), (got, other)):
        sum(leaf.sum() for leaf in torch.utils._pytree.tree_leaves(out)).backward()
        assert all(delay.delays.grad is not None for _, delay in named_delays(model)) or not training
    for (key, p), q in zip(net.named_parameters(), other.named_parameters(), strict=True):
        if p.grad is not None:
            torch.testing.assert_close(q[1].grad, p.grad, rtol=1e-3, atol=1e-4, msg=key)


@pytest.mark.parametrize("delayed", [False, True], ids=["plain", "delayed"])
def test_equal_to_a_loop_around_the_model(delayed: bool) -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(8, 5), snntorch.Leaky(beta=0.9, init_hidden=True, threshold=0.3))
    x = torch.rand(B, 2, 4)
    if delayed:
        add_delays(net, 3)
    expected = torch.stack([net(x) for _ in range(T)])
    assert expected.any()
    torch.testing.assert_close(unroll(net, x, steps=T), expected)
    multi = nn.Sequential(layer.Linear(4, 3), neuron.LIFNode(v_threshold=0.2))
    functional.set_step_mode(multi, "m")
    if delayed:
        add_delays(multi, 3)
    expected = multi(x.expand(T, B, 2, 4))
    functional.reset_net(multi)
    torch.testing.assert_close(unroll(multi, x, steps=T), expected)


class Summed(Tutorial):
    def forward(self, x: Tensor) -> Tensor:
        mem1, total = self.lif1.init_leaky(), torch.zeros(12, device=x.device)
        for _ in range(T):
            spk1, mem1 = self.lif1(self.fc1(x), mem1)
            total = total + spk1
        return total


class Fed(Tutorial):
    def forward(self, x: Tensor) -> Tensor:
        mem1, spk1, spikes = self.lif1.init_leaky(), torch.zeros(12, device=x.device), []
        for _ in range(T):
            spk1, mem1 = self.lif1(self.fc1(x) + 0.1 * spk1, mem1)
            spikes.append(spk1)
        return torch.stack(spikes)


class Decayed(Tutorial):
    def forward(self, x: Tensor) -> Tensor:
        mem1, spikes = self.lif1.init_leaky(), []
        for _ in range(T):
            spk1, mem1 = self.lif1(self.fc1(x), 0.5 * mem1)
            spikes.append(spk1)
        return torch.stack(spikes)


class Noisy(Tutorial):
    def forward(self, x: Tensor) -> Tensor:
        mem1, spikes = self.lif1.init_leaky(), []
        for step in range(T):
            spk1, mem1 = self.lif1(self.fc1(x * (1 + step)), mem1)
            spikes.append(spk1)
        return torch.stack(spikes)


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        (Summed, "sum over steps"),
        (Fed, "makes something else|takes another input|does not give"),
        (Decayed, "state of lif1 is changed|makes something else"),
        (Noisy, "makes something else|takes another input|does not give"),
    ],
)
@pytest.mark.parametrize("check", [True, False])
def test_refused_with_a_reason(kind: type[nn.Module], reason: str, check: bool) -> None:
    torch.manual_seed(0)
    net, x = kind(), torch.rand(B, 6) * 4
    del net.fc2, net.lif2
    expected = net(x)
    with pytest.raises(UnrollError, match=reason):
        unroll(net, x, steps=T, check=check)
    assert torch.equal(net(x), expected), "the model was changed"


def test_what_is_not_a_number_of_its_steps() -> None:
    net, x = build("tutorial", delayed=False)
    with pytest.raises(UnrollError, match="has 9 steps over this input, and steps=8"):
        unroll(net, x, steps=8)
    with pytest.raises(ArgumentError, match="steps"):
        unroll(net, x, steps=0)
    with pytest.raises(UnrollError, match="steps="):
        unroll(net, x.expand(T, B, 6), check=False)


def test_a_missing_number_of_steps_is_named() -> None:
    """Images (B, ...) without `steps`: so far an inner layer complained about a shape."""
    net, _ = build("tutorial", delayed=True)
    images = torch.rand(5, 6)
    with pytest.raises(UnrollError, match=r"unroll\(model, x, steps=9\)"):
        unroll(net, images)
    assert unroll(net, images, steps=9)[0].shape == (9, 5, 4)


@pytest.mark.parametrize("own_forward", [True, False])
def test_a_missing_batch_is_named(own_forward: bool) -> None:
    class Own(nn.Sequential):
        def forward(self, x: Tensor) -> Tensor:
            for module in self:
                x = module(x)
            return x

    net = (Own if own_forward else nn.Sequential)(nn.Linear(6, 4), snntorch.Leaky(beta=0.9, init_hidden=True))
    add_delays(net, 3, example=torch.rand(2, 6))
    x = torch.rand(8, 6)
    with pytest.raises(UnrollError, match=r"one sample \(T, ...\) is x.unsqueeze\(1\)"):
        unroll(net, x)
    assert unroll(net, x.unsqueeze(1)).shape == (8, 1, 4)
