"""The networks of the toolkits' own tutorials and examples on convolutions, with fewer channels.

Each by its user's way of running it over (T, B, 1, 28, 28), as `run`, and over a short example of that, as `drive`.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import norse.torch as norse
import snntorch as snn
import torch
import torch.nn.functional as F  # noqa: N812
from snntorch import utils
from spikingjelly.activation_based import functional, layer, neuron, surrogate
from torch import Tensor, nn

SHAPE = (1, 28, 28)


def images(steps: int = 7, batch: int = 3, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return (torch.rand(steps, batch, *SHAPE, generator=generator) < 0.3).float()


def _snntorch_sequential() -> nn.Module:
    """snnTorch, tutorial 6."""

    def leaky(**options: Any) -> nn.Module:
        return snn.Leaky(beta=0.5, spike_grad=snn.surrogate.fast_sigmoid(25), init_hidden=True, **options)

    first = (nn.Conv2d(1, 4, 5), nn.MaxPool2d(2), leaky())
    second = (nn.Conv2d(4, 8, 5), nn.MaxPool2d(2), leaky())
    return nn.Sequential(*first, *second, nn.Flatten(), nn.Linear(8 * 4 * 4, 10), leaky(output=True))


class SnnTorchClass(nn.Module):
    """snnTorch, tutorial 6, as a class, with its time loop inside."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2, self.fc1 = nn.Conv2d(1, 4, 5), nn.Conv2d(4, 8, 5), nn.Linear(8 * 4 * 4, 10)
        self.lif1, self.lif2, self.lif3 = (snn.Leaky(beta=0.5) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        mem1, mem2, mem3 = self.lif1.init_leaky(), self.lif2.init_leaky(), self.lif3.init_leaky()
        out = []
        for x_t in x:
            spk, mem1 = self.lif1(F.max_pool2d(self.conv1(x_t), 2), mem1)
            spk, mem2 = self.lif2(F.max_pool2d(self.conv2(spk), 2), mem2)
            spk, mem3 = self.lif3(self.fc1(spk.view(x_t.shape[0], -1)), mem3)
            out.append(spk)
        return torch.stack(out)


class SpikingJellyCSNN(nn.Module):
    """SpikingJelly, conv_fashion_mnist: one image (B, 1, 28, 28), repeated, to rates (B, 10)."""

    def __init__(self, steps: int = 5, channels: int = 4) -> None:
        super().__init__()
        self.steps, c = steps, channels

        def spiking() -> nn.Module:
            node: nn.Module = neuron.IFNode(surrogate_function=surrogate.ATan())
            return node

        self.conv_fc = nn.Sequential(
            *(layer.Conv2d(1, c, 3, padding=1, bias=False), layer.BatchNorm2d(c), spiking(), layer.MaxPool2d(2, 2)),
            *(layer.Conv2d(c, c, 3, padding=1, bias=False), layer.BatchNorm2d(c), spiking(), layer.MaxPool2d(2, 2)),
            *(layer.Flatten(), layer.Dropout(0.5), layer.Linear(c * 7 * 7, c * 16, bias=False), spiking()),
            *(layer.Linear(c * 16, 10, bias=False), spiking()),
        )
        functional.set_step_mode(self, "m")

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.conv_fc(x.unsqueeze(0).repeat(self.steps, 1, 1, 1, 1))
        return y.mean(0)


class NorseConvNet(nn.Module):
    """Norse, the MNIST example: (T, B, 1, 28, 28) to voltages (T, B, 10)."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2, self.fc1 = nn.Conv2d(1, 4, 5, 1), nn.Conv2d(4, 8, 5, 1), nn.Linear(4 * 4 * 8, 50)
        p = norse.LIFParameters(method="super", alpha=torch.tensor(100.0))
        self.lif0, self.lif1, self.lif2 = (norse.LIFCell(p=p) for _ in range(3))
        self.out = norse.LILinearCell(50, 10)

    def forward(self, x: Tensor) -> Tensor:
        s0 = s1 = s2 = so = None
        voltages = torch.zeros(*x.shape[:2], 10, device=x.device)
        for ts in range(x.shape[0]):
            z, s0 = self.lif0(self.conv1(x[ts, :]), s0)
            z = F.max_pool2d(z, 2, 2)
            z, s1 = self.lif1(10 * self.conv2(z), s1)
            z = F.max_pool2d(z, 2, 2)
            z, s2 = self.lif2(self.fc1(z.view(-1, 4 * 4 * 8)), s2)
            v, so = self.out(F.relu(z), so)
            voltages[ts] = v
        return voltages


def _stepwise(model: nn.Module, x: Tensor) -> Tensor:
    utils.reset(model)
    y = torch.stack([model(x_t)[0] for x_t in x])
    utils.reset(model)
    return y


def _whole(model: nn.Module, x: Tensor) -> Tensor:
    y: Tensor = model(x)
    return y


def _spikingjelly(model: Any, x: Tensor) -> Tensor:
    functional.reset_net(model)
    y: Tensor = model.conv_fc(x)
    functional.reset_net(model)
    return y


def _one_image(model: nn.Module) -> None:
    functional.reset_net(model)
    model(images(1, 2, seed=9)[0])
    functional.reset_net(model)


@dataclass(frozen=True)
class Tutorial:
    """A network, how its user runs it, and what `to_onnx` and `to_nir` are to be told."""

    make: Callable[[], nn.Module]
    run: Callable[[nn.Module, Tensor], Tensor]
    drive: Callable[[nn.Module], Any]
    options: dict[str, Any] = field(default_factory=dict)


TUTORIALS = {
    "snntorch": Tutorial(_snntorch_sequential, _stepwise, lambda m: _stepwise(m, images(4, 2, seed=9))),
    "snntorch_class": Tutorial(SnnTorchClass, _whole, lambda m: m(images(4, 2, seed=9))),
    "spikingjelly": Tutorial(SpikingJellyCSNN, _spikingjelly, _one_image, {"outputs": ["conv_fc.13"]}),
    "norse": Tutorial(NorseConvNet, _whole, lambda m: m(images(4, 2, seed=9))),
}


def tutorial(name: str) -> tuple[Tutorial, nn.Module]:
    """One of them with weights that make it fire, and batch norms that have seen something."""
    torch.manual_seed(0)
    model = TUTORIALS[name].make()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(3)
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean.uniform_(-0.2, 0.2)  # type: ignore[union-attr]
                module.running_var.uniform_(0.5, 2.0)  # type: ignore[union-attr]
    return TUTORIALS[name], model.eval()
