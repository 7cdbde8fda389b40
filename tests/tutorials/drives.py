"""Ways to drive a network that several tutorials share."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

import delayplug

Pick = Callable[[Any], Tensor]


def louder(net: nn.Module, gain: float = 1.5, mean: float = 0.1) -> nn.Module:
    """The network with weights that make its neurons spike, as after training."""
    with torch.no_grad():
        for module in net.modules():
            if isinstance(module, nn.modules.batchnorm._NormBase):
                module.weight.fill_(2)
                continue
            for name, weight in module.named_parameters(recurse=False):
                if "weight" in name and weight.dim() > 1:
                    weight.add_(mean * weight.abs().max()).mul_(gain)
    return net


def held(net: nn.Module, x: Tensor, pick: Pick = lambda out: out) -> Tensor:
    """Steps of a network that holds its state: outputs (T, B, ...)."""
    return torch.stack([pick(net(x_t)) for x_t in x])


def constant(net: nn.Module, x: Tensor, pick: Pick = lambda out: out) -> Tensor:
    """The same, on the first step of x alone, as often as x has steps."""
    image = x[0]
    return torch.stack([pick(net(image)) for _ in range(len(x))])


def passed(net: nn.Module, x: Tensor, state: Any) -> tuple[Tensor, Any]:
    """Steps of a network that is passed its state."""
    out = []
    for x_t in x:
        y, state = net(x_t, state)
        out.append(y)
    return torch.stack(out), state


def unrolled_constant(net: nn.Module, x: Tensor) -> Tensor:
    """`unroll` for a network that gets the first step of x, as often as x has steps."""
    out: Tensor = delayplug.unroll(net, x[0], steps=len(x))
    return out
