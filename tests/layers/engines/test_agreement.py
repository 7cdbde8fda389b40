"""How exact all engines are at each precision: outputs and gradients against float64, norms over norms.

On a GPU if there is one; else on the CPU, kernels in Triton's interpreter.
"""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from delayplug import ConvDelay, LearnableDelay, _triton
from tests.layers.kernels import DEVICE, matmul_precision, running

SETTINGS = {"highest": 1e-5, "high": 1e-3, "medium": 1e-2}


def error(found: Tensor, expected: Tensor) -> float:
    return float((found.detach() - expected.detach()).norm() / expected.detach().norm())


def in_float64(layer: nn.Module, make: Callable[[], nn.Module]) -> nn.Module:
    """A layer with the same parameters in float64."""
    same = make().double().to(DEVICE)
    same.load_state_dict({name: value.double() for name, value in layer.state_dict().items()})
    return same


def worst(layer: nn.Module, same: nn.Module, x: Tensor, **weights: Tensor) -> float:
    """The largest error of the output and of the gradients for the input and all parameters."""
    exact, double = x.detach().double().requires_grad_(), {n: w.double() for n, w in weights.items()}
    with running():
        y = layer(x, **weights)
        upstream = torch.randn(y.shape, device=DEVICE)
        found = [y, *torch.autograd.grad(y, [x, *layer.parameters()], upstream)]
    z = same(exact, **double)
    expected = [z, *torch.autograd.grad(z, [exact, *same.parameters()], upstream.double())]
    return max(error(a, b) for a, b in zip(found, expected, strict=True))


@pytest.mark.parametrize("setting", SETTINGS)
@pytest.mark.parametrize("engine", ["fft", "direct", "products", "dcls"])
def test_delays_per_synapse(engine: str, setting: str) -> None:
    if engine == "products" and not _triton.is_installed():
        pytest.skip("needs Triton")
    make = LearnableDelay(20, 18, max_delay=6, sigma=1.5, engine=engine).to(DEVICE)
    same = in_float64(make, lambda: LearnableDelay(20, 18, max_delay=6, sigma=1.5, engine="direct"))
    x = torch.randn(20, 4, 20, device=DEVICE, requires_grad=True)
    with matmul_precision(setting):
        assert worst(make, same, x) <= SETTINGS[setting]


@pytest.mark.parametrize("setting", SETTINGS)
def test_delays_per_channel(setting: str) -> None:
    layer = LearnableDelay(20, max_delay=6, sigma=1.5).to(DEVICE)
    same = in_float64(layer, lambda: LearnableDelay(20, max_delay=6, sigma=1.5))
    x = torch.randn(20, 4, 20, device=DEVICE, requires_grad=True)
    with matmul_precision(setting):
        assert worst(layer, same, x) <= SETTINGS[setting]


@pytest.mark.parametrize("setting", SETTINGS)
@pytest.mark.parametrize("groups", [1, 2])
def test_delays_of_convolutions(groups: int, setting: str) -> None:
    conv = nn.Conv2d(4, 6, 3, groups=groups, bias=False)
    layer = ConvDelay(conv, max_delay=3, sigma=1.5).to(DEVICE)
    same = in_float64(layer, lambda: ConvDelay(conv, max_delay=3, sigma=1.5))
    x = torch.randn(8, 2, 4, 6, 6, device=DEVICE, requires_grad=True)
    with matmul_precision(setting):
        assert worst(layer, same, x, weight=conv.weight.detach().to(DEVICE)) <= SETTINGS[setting]


@pytest.mark.parametrize("width", [0.5, 3.0, 12.0])
def test_kernels(width: float) -> None:
    layer = LearnableDelay(20, 18, max_delay=24, sigma=width).to(DEVICE)
    same = in_float64(layer, lambda: LearnableDelay(20, 18, max_delay=24, sigma=width))
    upstream = torch.randn(25, 18, 20, device=DEVICE)
    with running() if _triton.is_installed() else matmul_precision("highest"):
        taps = layer.kernel()
        found = [taps, *torch.autograd.grad(taps, list(layer.parameters()), upstream)]
    taps = same.kernel()
    expected = [taps, *torch.autograd.grad(taps, list(same.parameters()), upstream.double())]
    assert max(error(a, b) for a, b in zip(found, expected, strict=True)) <= 1e-5
