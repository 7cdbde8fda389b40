"""A small corpus of networks as the users of each toolkit write them, and how each user drives theirs.

Shapes: T steps, B batch, F features. Every network takes a sequence (T, B, F) through `Case.run`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import norse.torch as norse
import snntorch
import torch
from snntorch import surrogate, utils
from spikingjelly.activation_based import functional, layer, neuron
from torch import Tensor, nn

T, B, F, H, O = 9, 3, 5, 6, 4  # noqa: E741
MAX_DELAY = 4

Run = Callable[[nn.Module, Tensor, Any], tuple[Tensor, Any]]


@dataclass(frozen=True)
class Case:
    """A network and its user.

    Attributes:
        make: builds the network; use `build`.
        layers: names of the layers that get delays.
        start: begins a sequence, returns the state that the user holds.
        advance: runs a part of a sequence from that state.
        cut: detaches the state, as for truncated backpropagation; None if the network runs whole sequences only.
        ordered: whether the structure alone shows the wiring.
    """

    name: str
    make: Callable[[], nn.Module]
    layers: tuple[str, ...]
    advance: Run
    start: Callable[[nn.Module], Any] = lambda net: None
    cut: Callable[[nn.Module, Any], Any] | None = None
    ordered: bool = True

    def build(self, seed: int = 0) -> nn.Module:
        torch.manual_seed(seed)
        net = self.make()
        with torch.no_grad():
            for module in net.modules():
                if isinstance(module, nn.Linear):
                    module.weight.mul_(GAIN[self.toolkit]).add_(0.1 * GAIN[self.toolkit])
                elif isinstance(module, nn.BatchNorm1d):
                    module.weight.fill_(3.0)
        return net

    @property
    def toolkit(self) -> str:
        return self.name.split("-")[0]

    def run(self, net: nn.Module, x: Tensor) -> Tensor:
        """A whole sequence, as the user runs it."""
        return self.advance(net, x, self.start(net))[0]

    def example(self, net: nn.Module) -> None:
        """What a user would pass as `example=`."""
        self.run(net, sequence(steps=3, batch=2, seed=99))


GAIN = {"snntorch": 2.0, "norse": 60.0, "spikingjelly": 4.0}


def sequence(steps: int = T, batch: int = B, seed: int = 1) -> Tensor:
    """Spikes, (T, B, F)."""
    generator = torch.Generator().manual_seed(seed)
    return (torch.rand(steps, batch, F, generator=generator) < 0.4).float()


def weights_of(net: nn.Module, name: str) -> nn.Linear:
    """The Linear behind the name of a layer."""
    module = net.get_submodule(name)
    return module.lifted_module if isinstance(module, norse.Lift) else module


# --------------------------------------------------------------------------------------------------- snnTorch


class InitLeaky(nn.Module):
    """The network of snnTorch's tutorial 5."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1 = nn.Linear(F, H)
        self.lif1 = snntorch.Leaky(beta=0.8)
        self.fc2 = nn.Linear(H, O)
        self.lif2 = snntorch.Leaky(beta=0.8)

    def forward(self, x: Tensor) -> Tensor:
        mem1 = self.lif1.init_leaky()
        mem2 = self.lif2.init_leaky()
        out = []
        for step in range(x.shape[0]):
            spk1, mem1 = self.lif1(self.fc1(x[step]), mem1)
            spk2, mem2 = self.lif2(self.fc2(spk1), mem2)
            out.append(spk2)
        return torch.stack(out)


class FreshZeros(InitLeaky):
    def forward(self, x: Tensor) -> Tensor:
        mem1, mem2 = torch.zeros(x.shape[1], H), torch.zeros(x.shape[1], O)
        out = []
        for x_t in x:
            spk1, mem1 = self.lif1(self.fc1(x_t), mem1)
            _, mem2 = self.lif2(self.fc2(spk1), mem2)
            out.append(mem2)
        return torch.stack(out)


class ResetMem(nn.Module):
    """With batch norm between, and neurons that keep their state."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1 = nn.Linear(F, H, bias=False)
        self.bn1 = nn.BatchNorm1d(H)
        self.lif1 = snntorch.Leaky(beta=0.8, init_hidden=True)
        self.fc2 = nn.Linear(H, O)
        self.lif2 = snntorch.Leaky(beta=0.8, init_hidden=True, output=True)

    def forward(self, x: Tensor) -> Tensor:
        self.lif1.reset_mem()
        self.lif2.reset_mem()
        return torch.stack([self.lif2(self.fc2(self.lif1(self.bn1(self.fc1(x_t)))))[0] for x_t in x])


def spike(x: Tensor) -> Tensor:
    """A surrogate that can be pickled, unlike those that `surrogate.atan()` makes."""
    return surrogate.ATan.apply(x, 2.0)


class OneStep(nn.Module):
    """The user keeps the states and the loop."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1 = nn.Linear(F, H)
        self.lif1 = snntorch.Leaky(beta=0.8, spike_grad=spike)
        self.fc2 = nn.Linear(H, O)
        self.lif2 = snntorch.Leaky(beta=0.8, spike_grad=spike)

    def forward(self, x: Tensor, mem1: Tensor, mem2: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        spk1, mem1 = self.lif1(self.fc1(x), mem1)
        spk2, mem2 = self.lif2(self.fc2(spk1), mem2)
        return spk2, mem1, mem2


class SynapticNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc1 = nn.Linear(F, H)
        self.lif1 = snntorch.Synaptic(alpha=0.7, beta=0.8)
        self.fc2 = nn.Linear(H, O)
        self.lif2 = snntorch.Synaptic(alpha=0.7, beta=0.8)

    def forward(self, x: Tensor) -> Tensor:
        syn1, mem1 = self.lif1.init_synaptic()
        syn2, mem2 = self.lif2.init_synaptic()
        out = []
        for x_t in x:
            spk1, syn1, mem1 = self.lif1(self.fc1(x_t), syn1, mem1)
            spk2, syn2, mem2 = self.lif2(self.fc2(spk1), syn2, mem2)
            out.append(spk2)
        return torch.stack(out)


class Crossed(InitLeaky):
    """Registered in an order that misleads."""

    def __init__(self) -> None:
        nn.Module.__init__(self)
        self.fc1, self.fc2 = nn.Linear(F, H), nn.Linear(H, O)
        self.lif1, self.lif2 = snntorch.Leaky(beta=0.8), snntorch.Leaky(beta=0.8)


def hidden_sequential() -> nn.Module:
    return nn.Sequential(
        nn.Linear(F, H),
        snntorch.Leaky(beta=0.8, init_hidden=True),
        nn.Linear(H, O),
        snntorch.Leaky(beta=0.8, init_hidden=True, output=True),
    )


def whole(net: Any, x: Tensor, state: Any) -> tuple[Tensor, Any]:
    """`net(x)` runs a whole sequence."""
    return net(x), state


def step_hidden(net: Any, x: Tensor, state: Any) -> tuple[Tensor, Any]:
    return torch.stack([net(x_t)[0] for x_t in x]), state


def step_one(net: Any, x: Tensor, state: Any) -> tuple[Tensor, Any]:
    mem1, mem2 = (torch.zeros(x.shape[1], H), torch.zeros(x.shape[1], O)) if state is None else state
    out = []
    for x_t in x:
        spk, mem1, mem2 = net(x_t, mem1, mem2)
        out.append(spk)
    return torch.stack(out), (mem1, mem2)


def cut_hidden(net: Any, state: Any) -> Any:
    snntorch.Leaky.detach_hidden()
    return state


# ------------------------------------------------------------------------------------------------------ Norse


class CellNet(nn.Module):
    """States in local variables, as in Norse's tutorials."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1 = nn.Linear(F, H)
        self.lif1 = norse.LIFCell()
        self.fc2 = nn.Linear(H, O)
        self.lif2 = norse.LIFCell()

    def forward(self, x: Tensor) -> Tensor:
        s1 = s2 = None
        out = []
        for ts in range(x.shape[0]):
            z, s1 = self.lif1(self.fc1(x[ts]), s1)
            z, s2 = self.lif2(self.fc2(z), s2)
            out.append(s2.v)
        return torch.stack(out)


class CarriedCells(CellNet):
    """State in and out of forward."""

    def forward(self, x: Tensor, state: Any = None) -> tuple[Tensor, Any]:  # type: ignore[override]
        s1, s2 = (None, None) if state is None else state
        out = []
        for x_t in x:
            z, s1 = self.lif1(self.fc1(x_t), s1)
            z, s2 = self.lif2(self.fc2(z), state=s2)
            out.append(s2.v)
        return torch.stack(out), (s1, s2)


class LayerNet(nn.Module):
    """Whole sequences, in a class."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1 = nn.Linear(F, H)
        self.lif1 = norse.LIF()
        self.fc2 = nn.Linear(H, O)
        self.lif2 = norse.LIF()

    def forward(self, x: Tensor, s1: Any = None, s2: Any = None) -> tuple[Tensor, Any, Any]:
        z, s1 = self.lif1(self.fc1(x), s1)
        z, s2 = self.lif2(self.fc2(z), s2)
        return z, s1, s2


def state_steps() -> nn.Module:
    return norse.SequentialState(nn.Linear(F, H), norse.LIFCell(), nn.Linear(H, O), norse.LIFCell())


def state_layers() -> nn.Module:
    return norse.SequentialState(nn.Linear(F, H), norse.LIF(), nn.Linear(H, O), norse.LIF())


def state_lifted() -> nn.Module:
    return norse.SequentialState(norse.Lift(nn.Linear(F, H)), norse.LIF(), norse.Lift(nn.Linear(H, O)), norse.LIF())


def step_state(net: Any, x: Tensor, state: Any) -> tuple[Tensor, Any]:
    out = []
    for x_t in x:
        y, state = net(x_t, state)
        out.append(y)
    return torch.stack(out), state


def sequence_state(net: Any, x: Tensor, state: Any) -> tuple[Tensor, Any]:
    return net(x, state)


def sequence_states(net: Any, x: Tensor, state: Any) -> tuple[Tensor, Any]:
    out, *state = net(x, *(state or ()))
    return out, tuple(state)


def detach_state(net: Any, state: Any) -> Any:
    """What Norse's users write themselves."""
    if isinstance(state, Tensor):
        return state.detach()
    if hasattr(state, "_fields"):
        return type(state)(*(detach_state(net, s) for s in state))
    return type(state)(detach_state(net, s) for s in state) if isinstance(state, tuple | list) else state


# ----------------------------------------------------------------------------------------------- SpikingJelly


class ClassNet(nn.Module):
    """Layers of SpikingJelly, with batch norm, in sequence mode."""

    def __init__(self, mode: str) -> None:
        super().__init__()
        self.fc1 = layer.Linear(F, H)
        self.bn1 = layer.BatchNorm1d(H)
        self.sn1 = neuron.LIFNode(tau=2.0, detach_reset=True)
        self.fc2 = layer.Linear(H, O, bias=False)
        self.sn2 = neuron.ParametricLIFNode()
        functional.set_step_mode(self, mode)

    def forward(self, x: Tensor) -> Tensor:
        return self.sn2(self.fc2(self.sn1(self.bn1(self.fc1(x)))))


def jelly(mode: str, linear: Any = nn.Linear) -> nn.Module:
    net = nn.Sequential(
        linear(F, H), neuron.LIFNode(tau=2.0), nn.Sequential(linear(H, O), nn.Dropout(0.0), neuron.IFNode())
    )
    functional.set_step_mode(net, mode)
    return net


def jelly_start(net: nn.Module) -> None:
    functional.reset_net(net)


def jelly_steps(net: Any, x: Tensor, state: Any) -> tuple[Tensor, Any]:
    return torch.stack([net(x_t) for x_t in x]), None


def jelly_multi(net: Any, x: Tensor, state: Any) -> tuple[Tensor, Any]:
    return functional.multi_step_forward(x, net), None


def jelly_cut(net: nn.Module, state: Any) -> None:
    functional.detach_net(net)


FC = ("fc1", "fc2")

CASES = (
    Case("snntorch-init-leaky", InitLeaky, FC, whole),
    Case("snntorch-fresh-zeros", FreshZeros, FC, whole),
    Case("snntorch-reset-mem", ResetMem, FC, whole),
    Case("snntorch-sequential", hidden_sequential, ("0", "2"), step_hidden, utils.reset, cut_hidden),
    Case("snntorch-one-step", OneStep, FC, step_one, cut=detach_state),
    Case("snntorch-synaptic", SynapticNet, FC, whole),
    Case("snntorch-crossed", Crossed, FC, whole, ordered=False),
    Case("norse-cells", CellNet, FC, whole),
    Case("norse-carried", CarriedCells, FC, sequence_state, cut=detach_state),
    Case("norse-layers", LayerNet, FC, sequence_states, cut=detach_state),
    Case("norse-sequential-steps", state_steps, ("0", "2"), step_state, cut=detach_state),
    Case("norse-sequential-layers", state_layers, ("0", "2"), sequence_state, cut=detach_state),
    Case("norse-sequential-lift", state_lifted, ("0", "2"), sequence_state, cut=detach_state),
    Case("spikingjelly-s", lambda: jelly("s"), ("0", "2.0"), jelly_steps, jelly_start, jelly_cut),
    Case("spikingjelly-m", lambda: jelly("m"), ("0", "2.0"), whole, jelly_start, jelly_cut),
    Case("spikingjelly-multi", lambda: jelly("s", layer.Linear), ("0", "2.0"), jelly_multi, jelly_start, jelly_cut),
    Case("spikingjelly-class-m", lambda: ClassNet("m"), FC, whole, jelly_start, jelly_cut),
    Case("spikingjelly-class-s", lambda: ClassNet("s"), FC, jelly_steps, jelly_start, jelly_cut),
)
