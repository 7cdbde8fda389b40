"""Networks that delay by other means than delayplug."""

import itertools
import sys
from types import ModuleType
from typing import Any

import snntorch as snn
import torch
from DCLS.construct.modules import Dcls1d
from snntorch import utils
from spikingjelly.activation_based import functional, layer, neuron
from torch import Tensor, nn

F, H, O = 5, 6, 4  # noqa: E741


class SynapticDelay(nn.Module):
    """What snnTorch's module of this name computes, after its documentation; the installed version does not have it."""

    def __init__(
        self,
        max_delay: int,
        delay: Any = 0.0,
        channels: int | None = None,
        learn_delay: bool = False,
        kernel: str = "linear",
        sigma: float = 1.0,
        step_mode: bool = True,
    ) -> None:
        super().__init__()
        self.max_delay, self.kernel, self.sigma, self.step_mode = max_delay, kernel, float(sigma), step_mode
        value = torch.as_tensor(delay, dtype=torch.float)
        value = value.expand(channels).clone() if channels is not None and value.dim() == 0 else value
        if learn_delay:
            self.delay = nn.Parameter(value)
        else:
            self.register_buffer("delay", value)
        self.past: list[Tensor] = []

    def reset_delay(self) -> None:
        self.past = []

    def _weights(self, channels: int) -> Tensor:
        away = torch.arange(self.max_delay + 1) - self.delay.clamp(0, self.max_delay).expand(channels).unsqueeze(1)
        if self.kernel == "linear":
            return (1 - away.abs()).clamp(min=0)
        bump = torch.exp(-(away**2) / (2 * self.sigma**2))
        return bump / bump.sum(1, keepdim=True)

    def forward(self, x: Tensor) -> Tensor:
        if not self.step_mode:
            past: list[Tensor] = []
            return torch.stack([self._step(x_t, past) for x_t in x])
        return self._step(x, self.past)

    def _step(self, x: Tensor, past: list[Tensor]) -> Tensor:
        past.insert(0, x)
        del past[self.max_delay + 1 :]
        return sum(w * earlier for w, earlier in zip(self._weights(x.shape[-1]).T, past, strict=False))  # type: ignore[return-value]


SynapticDelay.__module__ = "snntorch._neurons.synapticdelay"  # as that of snnTorch's own
sys.modules.setdefault(SynapticDelay.__module__, ModuleType(SynapticDelay.__module__)).SynapticDelay = SynapticDelay  # type: ignore[attr-defined]


class Steps(nn.Module):
    """snnTorch: a delay between a connection and a neuron, and one between a neuron and a connection."""

    def __init__(self, kernel: str = "linear") -> None:
        super().__init__()
        self.fc1, self.lif1 = nn.Linear(F, H), snn.Leaky(0.5, threshold=0.3)
        self.delay1 = SynapticDelay(8, torch.linspace(0, 8, H), H, learn_delay=True, kernel=kernel, sigma=1.5)
        self.delay2 = SynapticDelay(4, 2.5, kernel=kernel)
        self.fc2, self.lif2 = nn.Linear(H, O), snn.Leaky(0.5, threshold=0.3)

    def forward(self, x: Tensor) -> Tensor:
        self.delay1.reset_delay()
        self.delay2.reset_delay()
        mem1, mem2, out = self.lif1.init_leaky(), self.lif2.init_leaky(), []
        for x_t in x:
            spk, mem1 = self.lif1(self.delay1(self.fc1(x_t)), mem1)
            spk, mem2 = self.lif2(self.fc2(self.delay2(spk)), mem2)
            out.append(mem2)
        return torch.stack(out)


def hidden() -> nn.Module:
    """snnTorch: a Sequential of neurons that keep their state."""
    delay = SynapticDelay(4, torch.tensor([0.0, 1, 2, 3, 4, 0]), H, step_mode=True)
    leaky = [snn.Leaky(0.5, threshold=0.3, init_hidden=True) for _ in range(2)]
    return nn.Sequential(nn.Linear(F, H), delay, leaky[0], nn.Linear(H, O), leaky[1])


def run_hidden(model: Any, x: Tensor) -> Tensor:
    utils.reset(model)
    model[1].reset_delay()
    y = torch.stack([model(x_t) for x_t in x])
    utils.reset(model)
    return y


def fixed(mode: str = "m") -> nn.Module:
    """SpikingJelly: the same delay for all channels, in front of a connection and behind one."""
    parts = [layer.Delay(2), layer.Linear(F, H), neuron.LIFNode(v_threshold=0.3), layer.Linear(H, O), layer.Delay(3)]
    model = nn.Sequential(*parts, neuron.LIFNode(v_threshold=0.3))
    functional.set_step_mode(model, mode)
    return model


def run_fixed(model: nn.Module, x: Tensor) -> Tensor:
    functional.reset_net(model)
    y = model(x) if model[2].step_mode == "m" else torch.stack([model(x_t) for x_t in x])  # type: ignore[index]
    functional.reset_net(model)
    return y


class SnnDelays(nn.Module):
    """The paper's code: DCLS convolutions with padding, batch norm, SpikingJelly's neurons; (T, B, F) to (T', B, O).

    Its state dict has the keys of that code: all modules in a row, in `model`.
    """

    def __init__(
        self, sizes: tuple[int, ...] = (F, H, H, O), size: int = 7, version: str = "gauss", norm: bool = True
    ) -> None:
        super().__init__()
        self.size, self.norm, parts = size, norm, list[nn.Module]()
        options = {"tau": 1.5, "decay_input": False, "detach_reset": True, "step_mode": "m", "store_v_seq": True}
        for n, (i, o) in enumerate(itertools.pairwise(sizes)):
            parts.append(Dcls1d(i, o, kernel_count=1, dilated_kernel_size=size, bias=False, version=version))
            if n == len(sizes) - 2:
                parts.append(neuron.LIFNode(v_threshold=1e9, **options))
                break
            parts += [layer.BatchNorm1d(o, step_mode="m")] if norm else []
            parts += [neuron.LIFNode(v_threshold=1.0, **options), layer.Dropout(0.4, step_mode="m")]
        self.model = nn.Sequential(*parts)
        for module in parts:
            if isinstance(module, Dcls1d):
                nn.init.uniform_(module.P, -(size // 2), size // 2)
                if module.SIG is not None:
                    nn.init.constant_(module.SIG, 1.5)
                    module.SIG.requires_grad_(False)
                nn.init.uniform_(module.weight, -0.5, 2.0)
            elif isinstance(module, layer.BatchNorm1d):
                module.running_mean.uniform_(-0.3, 0.3)
                module.running_var.uniform_(0.2, 0.5)

    def forward(self, x: Tensor) -> Tensor:
        functional.reset_net(self)
        for module in self.model:
            if isinstance(module, layer.BatchNorm1d):
                x = module(x.unsqueeze(3)).squeeze(3)
            elif "Delay" in type(module).__name__ or isinstance(module, Dcls1d):
                x = nn.functional.pad(x.permute(1, 2, 0), (self.size - 1, (self.size - 1) // 2))
                x = module(x).permute(2, 0, 1)
            else:
                x = module(x)
        functional_v: Tensor = self.model[-1].v_seq  # type: ignore[assignment]
        return functional_v

    def round_positions(self) -> None:
        """As that code evaluates: whole positions, and no width."""
        for module in self.model:
            if isinstance(module, Dcls1d):
                module.P.data.round_()
                module.SIG.data.zero_()
                module.version = module.DCK.version = "max"


def spikes(steps: int = 20, batch: int = 3, seed: int = 1) -> Tensor:
    return (torch.rand(steps, batch, F, generator=torch.Generator().manual_seed(seed)) < 0.4).float()
