"""Networks as the users of snnTorch write them, and how those users drive theirs.

Shapes: T steps, B batch, F features, C channels, L length, H and W height and width.
A step neuron takes one step (B, ...), a sequence neuron (T, B, F). Its state is returned, and also stays on the neuron.
"""

from dataclasses import dataclass, fields
from itertools import pairwise
from math import prod
from typing import Any

import snntorch
import torch
from snntorch import surrogate, utils
from torch import Tensor, nn
from torch.nn import functional as nnf
from torch.nn.modules.conv import _ConvNd

from delayplug.testing.laws import Network

F, HIDDEN, OUT = 5, 6, 4
LENGTH = (2, 12)
IMAGE = (2, 8, 8)


def awake(net: nn.Module, mean: float = 0.6, spread: float = 1.5, pooled: float = 0.0) -> nn.Module:
    """The network with weights that make its neurons spike, not always: inputs weigh much and nearly cancel out.

    Args:
        mean: of the current into a neuron.
        spread: of that current.
        pooled: how much a maximum over the results of each convolution adds to the current.
    """
    with torch.no_grad():
        for name, module in net.named_modules():
            if name.endswith(".recurrent"):
                continue
            if isinstance(module, nn.Linear | _ConvNd):
                current = mean - pooled if isinstance(module, _ConvNd) else mean
                transposed = getattr(module, "transposed", False)
                axis = 1 if transposed else 0
                dims = [d for d in range(module.weight.dim()) if d != axis]
                inputs = module.weight.numel() / module.weight.shape[axis]
                inputs /= prod(module.stride) if transposed else 1
                centred = module.weight - module.weight.mean(dims, keepdim=True)
                centred /= centred.std(dims, keepdim=True)
                module.weight.copy_(centred * spread / inputs**0.5 + current / (0.4 * inputs))
            elif isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
                module.weight.fill_(0.7 * spread)
                module.bias.fill_(0.5 * mean)
    return net


# ------------------------------------------------------------------------------------------- fully connected


class InitLeaky(nn.Module):
    """The network of snnTorch's tutorial 5."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1 = nn.Linear(F, HIDDEN)
        self.lif1 = snntorch.Leaky(beta=0.8)
        self.fc2 = nn.Linear(HIDDEN, OUT)
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
    """Membranes made anew for each sequence; the last ones are the output."""

    def forward(self, x: Tensor) -> Tensor:
        mem1, mem2 = torch.zeros(x.shape[1], HIDDEN), torch.zeros(x.shape[1], OUT)
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
        self.fc1 = nn.Linear(F, HIDDEN, bias=False)
        self.bn1 = nn.BatchNorm1d(HIDDEN)
        self.lif1 = snntorch.Leaky(beta=0.8, init_hidden=True)
        self.fc2 = nn.Linear(HIDDEN, OUT)
        self.lif2 = snntorch.Leaky(beta=0.8, init_hidden=True, output=True)

    def forward(self, x: Tensor) -> Tensor:
        self.lif1.reset_mem()
        self.lif2.reset_mem()
        return torch.stack([self.lif2(self.fc2(self.lif1(self.bn1(self.fc1(x_t)))))[0] for x_t in x])


def spike(x: Tensor) -> Tensor:
    """A surrogate that can be pickled, unlike those that `surrogate.atan()` makes."""
    return surrogate.ATan.apply(x, 2.0)  # type: ignore[no-any-return]


class OneStep(nn.Module):
    """The user keeps the states and the loop."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1 = nn.Linear(F, HIDDEN)
        self.lif1 = snntorch.Leaky(beta=0.8, spike_grad=spike)
        self.fc2 = nn.Linear(HIDDEN, OUT)
        self.lif2 = snntorch.Leaky(beta=0.8, spike_grad=spike)

    def forward(self, x: Tensor, mem1: Tensor, mem2: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        spk1, mem1 = self.lif1(self.fc1(x), mem1)
        spk2, mem2 = self.lif2(self.fc2(spk1), mem2)
        return spk2, mem1, mem2


class SynapticNet(nn.Module):
    """Two states per neuron."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1 = nn.Linear(F, HIDDEN)
        self.lif1 = snntorch.Synaptic(alpha=0.7, beta=0.8)
        self.fc2 = nn.Linear(HIDDEN, OUT)
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
        self.fc1, self.fc2 = nn.Linear(F, HIDDEN), nn.Linear(HIDDEN, OUT)
        self.lif1, self.lif2 = snntorch.Leaky(beta=0.8), snntorch.Leaky(beta=0.8)


def hidden_sequential() -> nn.Module:
    """Neurons that keep their state, so that a Sequential will do."""
    return nn.Sequential(
        nn.Linear(F, HIDDEN),
        snntorch.Leaky(beta=0.8, init_hidden=True),
        nn.Linear(HIDDEN, OUT),
        snntorch.Leaky(beta=0.8, init_hidden=True, output=True),
    )


class Stack(nn.Module):
    """As deep as asked for: a list of states, and feedback written by hand; membranes are written into a buffer."""

    def __init__(self, sizes: tuple[int, ...] = (F, HIDDEN, HIDDEN, OUT)) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(i, o) for i, o in pairwise(sizes))
        self.neurons = nn.ModuleList(snntorch.Leaky(beta=0.8, threshold=0.8) for _ in sizes[1:])
        self.feedback = nn.Linear(HIDDEN, HIDDEN, bias=False)

    def forward(self, x: Tensor, state: Any = None) -> tuple[Tensor, Any]:
        mems = [n.reset_mem() for n in self.neurons] if state is None else list(state[0])  # type: ignore[operator]
        last = torch.zeros(x.shape[1], HIDDEN) if state is None else state[1]
        buffer = torch.zeros(*x.shape[:2], OUT)
        for t in range(len(x)):
            spk = x[t]
            for i, (layer, neuron) in enumerate(zip(self.layers, self.neurons, strict=True)):
                current = layer(spk)
                if i == 0:
                    current = current + 0.5 * self.feedback(last)
                spk, mems[i] = neuron(current, mems[i])
                if i == 0:
                    last = spk
            buffer[t] = mems[-1]
        return buffer, [mems, last]


@dataclass
class ResidualState:
    """What a user carries from step to step; None before the first."""

    lapicque: Tensor | None = None
    alpha: tuple[Tensor | None, Tensor | None, Tensor | None] = (None, None, None)
    leaky: Tensor | None = None


class Residual(nn.Module):
    """Currents of two layers into one neuron, spikes around a layer, and a shortcut past a neuron."""

    def __init__(self) -> None:
        super().__init__()
        self.fc_on, self.fc_off = nn.Linear(F, HIDDEN), nn.Linear(F, HIDDEN, bias=False)
        self.lif1 = snntorch.Lapicque(beta=0.7, threshold=0.5)
        self.fc2 = nn.Linear(HIDDEN, HIDDEN)
        self.lif2 = snntorch.Alpha(alpha=0.9, beta=0.7, threshold=0.5)
        self.shortcut = nn.Linear(HIDDEN, OUT, bias=False)
        self.fc3 = nn.Linear(HIDDEN, OUT)
        self.lif3 = snntorch.Leaky(beta=0.8, learn_beta=True, learn_threshold=True, reset_mechanism="zero")

    def forward(self, x: Tensor, state: ResidualState) -> tuple[Tensor, ResidualState]:
        if state.lapicque is None:
            self.lif1.reset_mem()
            self.lif2.reset_mem()
            self.lif3.reset_mem()
        spk1, mem1 = self.lif1(self.fc_on(x) + 0.5 * self.fc_off(1 - x), state.lapicque)
        spk2, *alpha = self.lif2(spk1 + self.fc2(spk1), *state.alpha)
        spk3, mem3 = self.lif3(self.fc3(spk2) + 0.3 * self.shortcut(spk1), state.leaky)
        return spk3, ResidualState(mem1, tuple(alpha), mem3)


class Recurrent(nn.Module):
    """Neurons with recurrent weights of their own; a dict of states."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1 = nn.Linear(F, HIDDEN)
        self.rlif1 = snntorch.RLeaky(beta=0.8, all_to_all=True, linear_features=HIDDEN)
        self.fc2 = nn.Linear(HIDDEN, HIDDEN)
        self.rlif2 = snntorch.RSynaptic(alpha=0.5, beta=0.7, all_to_all=True, linear_features=HIDDEN)
        self.fc3 = nn.Linear(HIDDEN, OUT)
        self.rlif3 = snntorch.RLeaky(beta=0.8, V=-0.5, all_to_all=False)

    def forward(self, x: Tensor, state: dict[str, Any] | None = None) -> tuple[Tensor, dict[str, Any]]:
        if state is None:
            state = {
                "first": self.rlif1.init_rleaky(),
                "second": self.rlif2.init_rsynaptic(),
                "third": self.rlif3.init_rleaky(),
            }
        first, second, third = state["first"], state["second"], state["third"]
        out = []
        for x_t in x:
            first = self.rlif1(self.fc1(x_t), *first)
            second = self.rlif2(self.fc2(first[0]), *second)
            third = self.rlif3(self.fc3(second[0]), *third)
            out.append(third[0])
        return torch.stack(out), {"first": first, "second": second, "third": third}


# ------------------------------------------------------------------------------- layers over the whole sequence


class Hoisted(nn.Module):
    """Layers see the whole sequence, the first neuron single steps; what never changes is weighed once."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1 = nn.Linear(F, HIDDEN)
        self.context = nn.Linear(F, HIDDEN, bias=False)
        self.lif1 = snntorch.Leaky(beta=0.8)
        self.fc2 = nn.Linear(HIDDEN, HIDDEN)
        self.lif2 = snntorch.StateLeaky(beta=0.7, channels=HIDDEN)
        self.fc3 = nn.Linear(HIDDEN, OUT)
        self.lif3 = snntorch.StateLeaky(beta=0.6, channels=OUT, output=False)

    def forward(self, x: Tensor) -> Tensor:
        currents, drive = self.fc1(x), 0.3 * self.context(x[0])
        mem1 = self.lif1.reset_mem()
        hidden = []
        for t in range(x.shape[0]):
            spk1, mem1 = self.lif1(currents[t] + drive, mem1)
            hidden.append(spk1)
        spk2, _ = self.lif2(self.fc2(torch.stack(hidden)))
        return self.lif3(self.fc3(spk2))  # type: ignore[no-any-return]


class Regression(nn.Module):
    """Reads the membrane of a last neuron that is never reset; works on (B, T, F)."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1 = nn.Linear(F, HIDDEN)
        self.lif1 = snntorch.Leaky(beta=0.7 + 0.2 * torch.rand(HIDDEN), learn_beta=True)
        self.fc_out = nn.Linear(HIDDEN, 2)
        self.li_out = snntorch.Leaky(beta=0.8, learn_beta=True, reset_mechanism="none")

    def forward(self, x: Tensor, mems: tuple[Tensor, Tensor] | None = None) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        mem1, mem2 = mems or (self.lif1.init_leaky(), self.li_out.init_leaky())
        cur = self.fc1(x.permute(1, 0, 2))
        out = []
        for t in range(cur.shape[1]):
            spk1, mem1 = self.lif1(cur[:, t], mem1)
            _, mem2 = self.li_out(self.fc_out(spk1), mem2)
            out.append(mem2)
        return torch.stack(out), (mem1, mem2)


# ---------------------------------------------------------------------------------------------- convolutional


def hidden_csnn() -> nn.Module:
    """The network for event cameras of tutorial 7, stepped from outside."""
    grad = surrogate.fast_sigmoid(slope=5)
    return nn.Sequential(
        nn.Conv2d(2, 4, 3, padding=1),
        nn.MaxPool2d(2),
        snntorch.Leaky(beta=0.7, spike_grad=grad, init_hidden=True),
        nn.Conv2d(4, 4, 3, padding=1, bias=False),
        nn.MaxPool2d(2),
        snntorch.Leaky(beta=0.7, spike_grad=grad, init_hidden=True),
        nn.Flatten(),
        nn.Linear(16, OUT),
        snntorch.Leaky(beta=0.7, spike_grad=grad, init_hidden=True, output=True),
    )


class ClassCSNN(nn.Module):
    """The network of tutorial 6: pooling and flattening are functions."""

    def __init__(self) -> None:
        super().__init__()
        grad = surrogate.fast_sigmoid(slope=5)
        self.conv1 = nn.Conv2d(2, 3, 3)
        self.lif1 = snntorch.Leaky(beta=0.8, spike_grad=grad, learn_beta=True)
        self.conv2 = nn.Conv2d(3, 4, 2, stride=1)
        self.lif2 = snntorch.Leaky(beta=0.8, spike_grad=grad, learn_threshold=True, reset_delay=False)
        self.fc1 = nn.Linear(4, OUT)
        self.lif3 = snntorch.Leaky(beta=0.8, spike_grad=grad)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        mem1 = self.lif1.init_leaky()
        mem2 = self.lif2.init_leaky()
        mem3 = self.lif3.init_leaky()
        spk3_rec, mem3_rec = [], []
        batch_size = x.size(1)
        for step in range(x.size(0)):
            cur1 = nnf.max_pool2d(self.conv1(x[step]), 2)
            spk1, mem1 = self.lif1(cur1, mem1)
            cur2 = nnf.max_pool2d(self.conv2(spk1), 2)
            spk2, mem2 = self.lif2(cur2, mem2)
            cur3 = self.fc1(spk2.view(batch_size, -1))
            spk3, mem3 = self.lif3(cur3, mem3)
            spk3_rec.append(spk3)
            mem3_rec.append(mem3)
        return torch.stack(spk3_rec), torch.stack(mem3_rec)


class Keywords(nn.Module):
    """Convolutions over the frequencies of sound, normalized; a population of neurons votes for each class."""

    def __init__(self, classes: int = 2, population: int = 3) -> None:
        super().__init__()
        self.classes = classes
        self.conv1 = nn.Conv1d(2, 4, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm1d(4)
        self.lif1 = snntorch.Leaky(beta=0.7, init_hidden=True)
        self.pool = nn.AvgPool1d(2)
        self.conv2 = nn.Conv1d(4, 4, 3, dilation=2, groups=2)
        self.bn2 = nn.BatchNorm1d(4)
        self.lif2 = snntorch.Leaky(beta=0.7, init_hidden=True)
        self.drop = nn.Dropout(0.0)
        self.fc = nn.Linear(8, classes * population)
        self.lif3 = snntorch.Leaky(beta=0.7, init_hidden=True)

    def forward(self, x: Tensor) -> Tensor:
        utils.reset(self)
        votes = []
        for x_t in x:
            x_t = self.pool(self.lif1(self.bn1(self.conv1(x_t))))
            x_t = self.lif2(self.bn2(self.conv2(x_t)))
            spk = self.lif3(self.drop(self.fc(x_t.flatten(1))))
            votes.append(spk.unflatten(1, (self.classes, -1)).sum(-1))
        return torch.stack(votes)


class Autoencoder(nn.Module):
    """All steps are encoded before the first is decoded; blocks inside of the halves that are reset."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(
            nn.Sequential(nn.Conv2d(2, 3, 3, stride=2, padding=1), nn.BatchNorm2d(3)),
            snntorch.Leaky(beta=0.7, init_hidden=True),
            nn.Sequential(
                nn.Conv2d(3, 4, 3, stride=2, padding=1),
                nn.BatchNorm2d(4),
                snntorch.Leaky(beta=0.7, init_hidden=True),
            ),
            nn.Flatten(),
            nn.Linear(16, HIDDEN),
            snntorch.Leaky(beta=0.7, init_hidden=True, output=True),
        )
        self.decoder = nn.Sequential(
            nn.Linear(HIDDEN, 16),
            snntorch.Leaky(beta=0.7, init_hidden=True),
            nn.Unflatten(1, (4, 2, 2)),
            nn.ConvTranspose2d(4, 3, 3, stride=2, padding=1, output_padding=1),
            nn.BatchNorm2d(3),
            snntorch.Leaky(beta=0.7, init_hidden=True),
            nn.ConvTranspose2d(3, 2, 2, stride=2, bias=False),
            snntorch.Leaky(beta=0.7, init_hidden=True, output=True),
        )

    def forward(self, x: Tensor) -> Tensor:
        utils.reset(self.encoder)
        utils.reset(self.decoder)
        code = torch.stack([self.encoder(x_t)[0] for x_t in x])
        frames = []
        for step in range(code.shape[0]):
            _, membrane = self.decoder(code[step])
            frames.append(membrane)
        return torch.stack(frames)


class ConvLSTM(nn.Module):
    """LSTMs that spike weigh their input themselves, so that `embed` and they are two layers in a row."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(2, 3, 3, padding=1)
        self.lif1 = snntorch.Leaky(beta=0.7)
        self.lstm1 = snntorch.SConv2dLSTM(3, 3, 3, max_pool=2, threshold=0.3)
        self.fc1 = nn.Linear(48, HIDDEN)
        self.lif2 = snntorch.Leaky(beta=0.7)
        self.embed = nn.Linear(HIDDEN, HIDDEN)
        self.lstm2 = snntorch.SLSTM(HIDDEN, HIDDEN, threshold=0.02)
        self.head = nn.Linear(HIDDEN, OUT)
        self.lif3 = snntorch.Leaky(beta=0.7)

    def forward(self, x: Tensor) -> Tensor:
        mem1, mem2, mem3 = self.lif1.reset_mem(), self.lif2.reset_mem(), self.lif3.reset_mem()
        syn_a, mem_a = self.lstm1.init_sconv2dlstm()
        syn_b, mem_b = self.lstm2.init_slstm()
        out = []
        for x_t in x:
            spk, mem1 = self.lif1(self.conv1(x_t), mem1)
            spk, syn_a, mem_a = self.lstm1(spk, syn_a, mem_a)
            spk, mem2 = self.lif2(self.fc1(spk.flatten(1)), mem2)
            spk, syn_b, mem_b = self.lstm2(self.embed(spk), syn_b, mem_b)
            spk, mem3 = self.lif3(self.head(spk), mem3)
            out.append(spk)
        return torch.stack(out)


class FoldedConv(nn.Module):
    """Convolutions see all steps as one batch, neurons single steps; a volume is convolved first."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv3d(1, 3, (2, 3, 3), padding=(0, 1, 1))
        self.lif1 = snntorch.Leaky(beta=0.7)
        self.conv2 = nn.Conv2d(3, 4, 3, stride=2, bias=False)
        self.lif2 = snntorch.Leaky(beta=0.7)
        self.fc = nn.Linear(16, OUT)
        self.lif3 = snntorch.Leaky(beta=0.7)

    def forward(self, x: Tensor, mems: list[Tensor] | None = None) -> tuple[Tensor, list[Tensor]]:
        mem1, mem2, mem3 = [n.reset_mem() for n in (self.lif1, self.lif2, self.lif3)] if mems is None else mems
        steps = x.shape[:2]
        spikes = []
        for current in self.conv1(x.flatten(0, 1).unsqueeze(1)).squeeze(2).unflatten(0, steps):
            spk, mem1 = self.lif1(current, mem1)
            spikes.append(spk)
        folded = nnf.avg_pool2d(torch.cat(spikes), 2, stride=1, padding=1)
        hidden = []
        for current in nnf.avg_pool2d(self.conv2(folded), 2).unflatten(0, steps):
            spk, mem2 = self.lif2(current, mem2)
            hidden.append(spk.flatten(1))
        out = []
        for current in self.fc(torch.stack(hidden)):
            spk, mem3 = self.lif3(current, mem3)
            out.append(spk)
        return torch.stack(out), [mem1, mem2, mem3]


# ------------------------------------------------------------------------------------------------- the users


def whole(net: Any, x: Tensor, state: Any) -> tuple[Tensor, Any]:
    """The whole sequence, from nothing."""
    return net(x), state


def membranes(net: Any, x: Tensor, state: Any) -> tuple[Tensor, Any]:
    """The whole sequence, from nothing; of spikes and membranes the latter."""
    _, mem = net(x)
    return mem, state


def carried(net: Any, x: Tensor, state: Any) -> tuple[Tensor, Any]:
    """A sequence and the state before it."""
    out, state = net(x, state)
    return out, state


def steps(net: Any, x: Tensor, state: Any) -> tuple[Tensor, Any]:
    """One step at a time, from outside, with the state so far."""
    out = []
    for x_t in x:
        spk, state = net(x_t, state)
        out.append(spk)
    return torch.stack(out), state


def steps_of_two(net: Any, x: Tensor, state: Any) -> tuple[Tensor, Any]:
    """One step at a time, from outside, with two membranes that begin as zeros."""
    mem1, mem2 = (torch.zeros(x.shape[1], HIDDEN), torch.zeros(x.shape[1], OUT)) if state is None else state
    out = []
    for x_t in x:
        spk, mem1, mem2 = net(x_t, mem1, mem2)
        out.append(spk)
    return torch.stack(out), (mem1, mem2)


def steps_hidden(net: Any, x: Tensor, state: Any) -> tuple[Tensor, Any]:
    """One step at a time, from outside; the neurons keep the state."""
    return torch.stack([net(x_t)[0] for x_t in x]), state


def reset(net: nn.Module) -> None:
    """Zeros on every neuron of the kinds that are found right inside of the network."""
    utils.reset(net)


def cut_hidden(net: nn.Module, state: Any) -> Any:
    """The neurons' own states without their graph."""
    snntorch.Leaky.detach_hidden()
    return state


def cut(net: nn.Module, state: Any) -> Any:
    """The user's state without its graph."""
    if isinstance(state, Tensor):
        return state.detach()
    if isinstance(state, dict):
        return {name: cut(net, part) for name, part in state.items()}
    if isinstance(state, list | tuple):
        return type(state)(cut(net, part) for part in state)
    if isinstance(state, ResidualState):
        return ResidualState(*(cut(net, getattr(state, field.name)) for field in fields(state)))
    return state


FC = ("fc1", "fc2")

NETWORKS: tuple[Network, ...] = (
    Network("init-leaky", lambda: awake(InitLeaky()), (F,), FC, whole),
    Network("fresh-zeros", lambda: awake(FreshZeros()), (F,), FC, whole),
    Network("reset-mem", lambda: awake(ResetMem()), (F,), FC, whole),
    Network("sequential", lambda: awake(hidden_sequential()), (F,), ("0", "2"), steps_hidden, reset, cut_hidden),
    Network("one-step", lambda: awake(OneStep()), (F,), FC, steps_of_two, cut=cut),
    Network("synaptic", lambda: awake(SynapticNet()), (F,), FC, whole),
    Network("crossed", lambda: awake(Crossed()), (F,), FC, whole, ordered=False),
    Network(
        "module-list",
        lambda: awake(Stack()),
        (F,),
        ("layers.0", "layers.1", "layers.2"),
        carried,
        cut=cut,
        ordered=False,
    ),
    Network(
        "residual",
        lambda: awake(Residual()),
        (F,),
        ("fc_on", "fc_off", "fc2", "fc3"),
        steps,
        lambda net: ResidualState(),
        cut,
        ordered=False,
    ),
    Network("recurrent-neurons", lambda: awake(Recurrent()), (F,), (*FC, "fc3"), carried, cut=cut),
    Network(
        "hoisted-sequence-neurons",
        lambda: awake(Hoisted()),
        (F,),
        (*FC, "fc3"),
        whole,
        ordered=False,
        sees="sequences",
    ),
    Network(
        "regression-batch-first",
        lambda: awake(Regression()),
        (F,),
        ("fc1", "fc_out"),
        carried,
        cut=cut,
        ordered=False,
        sees={"fc1": "batch first", "fc_out": "steps"},
    ),
    Network(
        "sequential-csnn",
        lambda: awake(hidden_csnn(), pooled=0.9),
        IMAGE,
        ("0", "3", "7"),
        steps_hidden,
        reset,
        cut_hidden,
    ),
    Network("class-csnn", lambda: awake(ClassCSNN(), pooled=0.7), IMAGE, ("conv1", "conv2", "fc1"), membranes),
    Network("keywords-conv1d", lambda: awake(Keywords()), LENGTH, ("conv1", "conv2", "fc"), whole),
    Network(
        "autoencoder",
        lambda: awake(Autoencoder()),
        IMAGE,
        ("encoder.0.0", "encoder.2.0", "encoder.4", "decoder.0", "decoder.3", "decoder.6"),
        whole,
    ),
    Network(
        "conv-lstm",
        lambda: awake(ConvLSTM()),
        IMAGE,
        ("conv1", "fc1", "head"),
        whole,
        ordered=False,
        cells=("lstm1", "lstm2"),
    ),
    Network(
        "folded-conv",
        lambda: awake(FoldedConv()),
        IMAGE,
        ("conv1", "conv2", "fc"),
        carried,
        cut=cut,
        ordered=False,
        sees={"conv1": "folded", "conv2": "folded", "fc": "sequences"},
    ),
)
