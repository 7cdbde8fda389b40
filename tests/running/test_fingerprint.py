"""Whether a model is the one that was looked at: everything but the values of tensors counts."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from delayplug.running.fingerprint import fingerprint


class Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc, self.scale, self.flags, self.steps = nn.Linear(3, 2), 0.5, {"loops": [1, 2]}, (1, 2)
        self.register_buffer("mem", torch.zeros(0))
        self.act = torch.relu
        self.method = self.forward

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(x)


class Other(Model):
    pass


CHANGES: dict[str, Callable[[Any], object]] = {
    "attribute": lambda net: setattr(net, "scale", 0.25),
    "new attribute": lambda net: setattr(net, "new", None),
    "inside of a container": lambda net: net.flags["loops"].append(3),
    "function": lambda net: setattr(net, "act", torch.sigmoid),
    "mode": lambda net: net.eval(),
    "module": lambda net: setattr(net, "fc", nn.Linear(3, 2)),
    "class": lambda net: setattr(net, "__class__", Other),
    "hook": lambda net: net.fc.register_forward_hook(print),
    "forward": lambda net: setattr(net.fc, "forward", torch.relu),
    "shape": lambda net: setattr(net, "mem", torch.zeros(2)),
    "learned": lambda net: net.fc.weight.requires_grad_(False),
    "method": lambda net: setattr(net, "method", net.fc.forward),
}


@pytest.mark.parametrize("name", CHANGES)
def test_changes_are_seen(name: str) -> None:
    net = Model()
    before = fingerprint(net)
    CHANGES[name](net)
    assert fingerprint(net) != before


def test_shapes_of_a_neuron_do_not_count() -> None:
    net = Model()
    net.fc.trace, before = torch.zeros(2), fingerprint(net)
    alike = fingerprint(net, ["fc"])
    net.fc.trace = torch.zeros(3)
    assert fingerprint(net, ["fc"]) == alike
    assert fingerprint(net) != before
    net.fc.trace = None
    assert fingerprint(net, ["fc"]) != alike


def test_values_do_not_count() -> None:
    net = Model()
    before = fingerprint(net)
    with torch.no_grad():
        net.fc.weight.add_(1)
    net(torch.rand(2, 3)).sum().backward()
    net.method = net.forward
    assert fingerprint(net) == before
    assert hash(fingerprint(net)) == hash(before)
