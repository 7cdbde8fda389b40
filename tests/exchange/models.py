"""Small networks of each toolkit with delays, how their users run them, and a slow and obvious reference for neurons.

Weights are multiples of 1/8 and leaks of 1/4: sums and products are exact in float32, so that equal means equal, also
where a membrane comes to the threshold exactly.
"""

from collections.abc import Callable
from typing import Any

import norse.torch as norse
import snntorch as snn
import torch
from snntorch import utils
from spikingjelly.activation_based import functional, layer, neuron
from torch import Tensor, nn

import delayplug
from delayplug import Cell, Reset
from tests.devices import DEVICE

F, H, O = 5, 6, 4  # noqa: E741
MAX_DELAY = 4
TOOLKITS = ("snntorch", "norse", "spikingjelly")
KINDS = ("snntorch", "norse", "spikingjelly-s", "spikingjelly-m")


def from_nir(*args: Any, **options: Any) -> Any:
    """`delayplug.from_nir`, whose network is brought to the device of the tests."""
    return delayplug.from_nir(*args, **options).to(DEVICE)


def toolkit_of(kind: str) -> str:
    return kind.split("-")[0]


def box(leak: float, threshold: float = 1.0) -> nn.Module:
    parameters = norse.LIFBoxParameters(tau_mem_inv=torch.tensor(leak), v_th=torch.tensor(threshold))
    return norse.LIFBoxCell(parameters, dt=1.0)


def leaky(leak: float, threshold: float = 1.0, **options: Any) -> nn.Module:
    options = {"reset_mechanism": "zero", "init_hidden": True, **options}
    return snn.Leaky(beta=1 - leak, threshold=threshold, **options)


def node(leak: float, threshold: float = 1.0, **options: Any) -> nn.Module:
    return neuron.LIFNode(tau=1 / leak, decay_input=False, v_threshold=threshold, **options)


def make(kind: str, leak: float = 0.5, threshold: float = 1.0, bias: bool = True) -> nn.Module:
    """Two layers and two neurons."""
    linear = layer.Linear if kind == "spikingjelly-m" else nn.Linear
    spiking = {"snntorch": leaky, "norse": box}.get(kind, node)
    parts = [linear(F, H, bias=bias), spiking(leak, threshold), linear(H, O, bias=bias), spiking(leak, threshold)]
    return finish(kind, parts, 1 / leak if kind == "norse" else 1.0)


def make_conv(kind: str, leak: float = 0.5) -> nn.Module:
    """Images (2, 8, 8): a convolution, a pool, a depthwise convolution, and a linear layer."""
    spiking = {"snntorch": leaky, "norse": box}.get(kind, node)
    parts = [
        nn.Conv2d(2, 3, 3, stride=2, padding=1),
        spiking(leak),
        nn.AvgPool2d(2),
        nn.Conv2d(3, 6, 2, groups=3),
        spiking(leak),
        nn.Flatten(),
        nn.Linear(6, O),
        spiking(leak),
    ]
    return finish(kind, parts, 1 / leak if kind == "norse" else 1.0, lift=2)


def finish(kind: str, parts: list[nn.Module], scale: float, lift: int = 0) -> nn.Module:
    model: nn.Module = norse.SequentialState(*parts) if kind == "norse" else nn.Sequential(*parts)
    if kind == "spikingjelly-m":
        functional.set_step_mode(model, "m")
    with torch.no_grad():
        for parameter in model.parameters():
            low, high = (-5 + lift, 9 + lift) if parameter.dim() > 1 else (-1, 3)
            eighths = torch.randint(low, high, parameter.shape)
            parameter.copy_(eighths / 8 * scale)
    return model


def delayed(model: nn.Module, granularity: Any = "synaptic", **options: Any) -> nn.Module:
    delayplug.add_delays(model, MAX_DELAY, granularity=granularity, **options)
    return model.eval()


def spikes(steps: int = 9, batch: int = 3, shape: tuple[int, ...] = (F,), seed: int = 1) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return (torch.rand(steps, batch, *shape, generator=generator) < 0.4).float()


@torch.no_grad()
def run(kind: str, model: Any, x: Tensor) -> Tensor:
    """The whole sequence as a user of the toolkit runs it, from a fresh state."""
    if kind == "norse":
        state, outputs = None, []
        for x_t in x:
            y, state = model(x_t, state)
            outputs.append(y)
        return torch.stack(outputs)
    reset: Callable[[Any], Any] = utils.reset if kind == "snntorch" else functional.reset_net
    reset(model)
    y = model(x) if kind == "spikingjelly-m" else torch.stack([model(x_t) for x_t in x])
    reset(model)
    return y


def drive(kind: str, shape: tuple[int, ...] = (F,)) -> Callable[[nn.Module], Any]:
    return lambda model: run(kind, model, spikes(4, 2, shape, seed=9))


class Net(nn.Module):
    """Two layers, two neurons, and something of the user's between them. (T, B, F) to (T, B, O)."""

    def __init__(self, between: Any = None, last: Any = None, **options: Any) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(F, F), nn.Linear(F, O)
        options = {"beta": 0.5, "reset_mechanism": "zero", **options}
        self.lif1, self.lif2 = snn.Leaky(**options), snn.Leaky(**options)
        self.offset = nn.Parameter(torch.ones(F))
        self.between = between or (lambda net, spikes, mem, x: net.fc2(spikes))
        self.last = last or (lambda spk, mem: spk)
        with torch.no_grad():
            for fc in (self.fc1, self.fc2):
                fc.weight.copy_(torch.randint(-3, 9, fc.weight.shape, generator=torch.Generator().manual_seed(1)) / 4)

    def forward(self, x: Tensor) -> Any:
        mem1, mem2, out = self.lif1.reset_mem(), self.lif2.reset_mem(), []
        for x_t in x:
            spk, mem1 = self.lif1(self.fc1(x_t), mem1)
            spk, mem2 = self.lif2(self.between(self, spk, mem1, x_t), mem2)
            out.append(self.last(spk, mem2))
        return torch.stack(out)


X = spikes(6, 2)  # for Net


def reference(cell: Cell, x: Tensor) -> Tensor:
    """What a cell gives for (T, ...), in float64, one neuron and one step at a time."""
    flat = x.double().reshape(x.shape[0], -1)
    out = torch.zeros_like(flat)
    numbers: dict[str, list[float]] = {}
    for name in ("leak", "gain", "rest", "threshold", "reset", "synapse"):
        value = getattr(cell, name)
        numbers[name] = [] if value is None else value.expand(x.shape[1:]).flatten().tolist()
    for n in range(flat.shape[1]):
        leak, gain, rest, reset = (numbers[name][n] for name in ("leak", "gain", "rest", "reset"))
        v, i = rest if leak else reset, 0.0
        above = False
        for t, given in enumerate(flat[:, n].tolist()):
            i = (1 - numbers["synapse"][n]) * i + given if numbers["synapse"] else given
            v = v + leak * (rest - v) + gain * i
            if not numbers["threshold"]:
                out[t, n] = v
                continue
            threshold = numbers["threshold"][n]
            v = v - threshold if cell.rule is Reset.SUBTRACT_NEXT_STEP and above else v
            above = v > threshold
            out[t, n] = float(above)
            if above and cell.rule is Reset.VALUE:
                v = reset
            elif above and cell.rule is Reset.SUBTRACT:
                v -= threshold
    return out.view(x.shape)
