"""Networks as the users of Norse write them, and how those users drive theirs.

Shapes: T steps, B batch, F features, C channels, L length, H and W height and width.
A `*Cell` takes one step (B, ...); `LIF`, `LI` and `Lift` take a sequence (T, B, ...). The user holds all state.
"""

import dataclasses
from typing import Any, NamedTuple

import norse.torch as norse
import torch
from norse.torch.functional.iaf import IAFParameters
from norse.torch.functional.lif_refrac import LIFRefracParameters
from torch import Tensor, nn
from torch.nn import functional as nnf
from torch.nn.modules.conv import _ConvNd

from delayplug.testing.laws import Network

F, HIDDEN, OUT = 5, 6, 4
LENGTH = (2, 8)
IMAGE = (2, 8, 8)


def awake(net: nn.Module, mean: float = 1.5, spread: float = 10.0) -> nn.Module:
    """The network with weights that make its neurons spike, not always: inputs weigh much and nearly cancel out."""
    with torch.no_grad():
        for module in net.modules():
            if isinstance(module, nn.Linear | _ConvNd):
                weight = module.weight
                axis = 1 if getattr(module, "transposed", False) else 0
                inputs = weight.numel() / weight.shape[axis]
                dims = [d for d in range(weight.dim()) if d != axis]
                centred = weight - weight.mean(dims, keepdim=True)
                centred /= centred.std(dims, keepdim=True)
                weight.copy_(centred * spread / inputs**0.5 + mean / (0.4 * inputs))
            elif isinstance(module, nn.BatchNorm2d | nn.LayerNorm):
                module.weight.fill_(0.4 * spread)
                module.bias.fill_(mean)
            elif isinstance(module, norse.LIFRecurrentCell | norse.LSNNRecurrentCell):
                module.input_weights.mul_(spread).add_(mean)
                module.recurrent_weights.mul_(0.2 * spread)
    return net


# ------------------------------------------------------------------------------------------------ in classes


class CellNet(nn.Module):
    """States in local variables, as in Norse's tutorials; gives membranes."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1 = nn.Linear(F, HIDDEN)
        self.lif1 = norse.LIFCell()
        self.fc2 = nn.Linear(HIDDEN, OUT)
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
    """Whole sequences through each layer."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1 = nn.Linear(F, HIDDEN)
        self.lif1 = norse.LIF()
        self.fc2 = nn.Linear(HIDDEN, OUT)
        self.lif2 = norse.LIF()

    def forward(self, x: Tensor, s1: Any = None, s2: Any = None) -> tuple[Tensor, Any, Any]:
        z, s1 = self.lif1(self.fc1(x), s1)
        z, s2 = self.lif2(self.fc2(z), s2)
        return z, s1, s2


class Hoisted(nn.Module):
    """The first and the last layer see the whole sequence, the cells and the layer between single steps; (B, T, F)."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1 = nn.Linear(F, HIDDEN)
        self.lif1 = norse.LIFCell()
        self.fc2 = nn.Linear(HIDDEN, HIDDEN)
        self.lif2 = norse.LIFCell()
        self.fc3 = nn.Linear(HIDDEN, OUT)
        self.lif3 = norse.LIFCell()

    def forward(self, x: Tensor, state: Any = None) -> tuple[Tensor, Any]:
        s1, s2, s3 = state or (None, None, None)
        hidden, out = [], []
        for current in self.fc1(x.permute(1, 0, 2)):
            z, s1 = self.lif1(current, s1)
            z, s2 = self.lif2(self.fc2(z), s2)
            hidden.append(z)
        for current in self.fc3(torch.stack(hidden)):
            z, s3 = self.lif3(current, s3)
            out.append(z)
        return torch.stack(out, dim=1), (s1, s2, s3)


class SharedCell(nn.Module):
    """A cell has no size and no state of its own, so one serves all layers; a list of states."""

    def __init__(self) -> None:
        super().__init__()
        self.lif = norse.LIFCell()
        self.fcs = nn.ModuleList([nn.Linear(F, HIDDEN), nn.Linear(HIDDEN, HIDDEN), nn.Linear(HIDDEN, OUT)])

    def forward(self, x: Tensor, states: list[Any] | None = None) -> tuple[Tensor, list[Any]]:
        states = [None] * len(self.fcs) if states is None else list(states)
        out = []
        for z in x:
            for i, fc in enumerate(self.fcs):
                z, states[i] = self.lif(fc(z), states[i])
            out.append(z)
        return torch.stack(out), states


class KindsOfNeurons(nn.Module):
    """Layers in a list, cells by name, and a dict of states; one step (B, C, L)."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            [
                nn.Conv1d(2, 4, 3, stride=2, padding=1),
                nn.ConvTranspose1d(4, 3, 2, stride=2),
                nn.Conv1d(3, 4, 3, stride=2),
                nn.Linear(12, HIDDEN),
                nn.Linear(HIDDEN, OUT),
            ]
        )
        self.cells = nn.ModuleDict(
            {
                "refrac": norse.LIFRefracCell(LIFRefracParameters(rho_reset=torch.as_tensor(1.0))),
                "adex": norse.LIFAdExCell(),
                "iaf": norse.IAFCell(IAFParameters(v_th=torch.as_tensor(5.0))),
                "box": norse.LIFBoxCell(),
                "ex": norse.LIFExCell(),
            }
        )

    def forward(self, z: Tensor, states: dict[str, Any]) -> tuple[Tensor, dict[str, Any]]:
        new = {}
        for layer, (name, cell) in zip(self.layers, self.cells.items(), strict=True):
            current = layer(z.flatten(1) if isinstance(layer, nn.Linear) else z)
            z, new[name] = cell(current, states.get(name))
        return z, new


class SkipState(NamedTuple):
    """A user's own state."""

    lif1: Any = None
    lif2: Any = None
    lif3: Any = None


class SkipNet(nn.Module):
    """Two layers into one cell, and spikes that pass a layer by; one step."""

    def __init__(self) -> None:
        super().__init__()
        self.left = nn.Linear(2, HIDDEN, bias=False)
        self.right = nn.Linear(F - 2, HIDDEN)
        self.lif1 = norse.LIFCell()
        self.fc2 = nn.Linear(HIDDEN, HIDDEN)
        self.lif2 = norse.LIFCell()
        self.fc3 = nn.Linear(HIDDEN, OUT)
        self.lif3 = norse.LIFCell()

    def forward(self, x: Tensor, state: SkipState) -> tuple[Tensor, SkipState]:
        z1, s1 = self.lif1(self.left(x[:, :2]) + self.right(x[:, 2:]), state.lif1)
        z2, s2 = self.lif2(self.fc2(z1), state.lif2)
        z3, s3 = self.lif3(self.fc3(z1 + z2), state.lif3)
        return z3, SkipState(s1, s2, s3)


class RecurrentNet(nn.Module):
    """Recurrent cells have weights of their own for what they take, one of them behind a layer; one step."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1 = nn.Linear(F, HIDDEN)
        self.lif1 = norse.LIFCell()
        self.lsnn = norse.LSNNRecurrentCell(HIDDEN, HIDDEN)
        self.fc2 = nn.Linear(HIDDEN, HIDDEN)
        self.lif2 = norse.LIFCell()
        self.project = nn.Linear(HIDDEN, 3)
        self.recurrent = norse.LIFRecurrentCell(3, HIDDEN)
        self.readout = norse.LILinearCell(HIDDEN, OUT)

    def forward(self, x: Tensor, state: Any = None) -> tuple[Tensor, Any]:
        s1, s2, s3, s4, so = state if state is not None else (None,) * 5
        z, s1 = self.lif1(self.fc1(x), s1)
        z, s2 = self.lsnn(z, s2)
        z, s3 = self.lif2(self.fc2(z), s3)
        z, s4 = self.recurrent(self.project(z), s4)
        v, so = self.readout(z, so)
        return v, (s1, s2, s3, s4, so)


class ConvNet(nn.Module):
    """In the style of Norse's network for MNIST: all layers first, pooling as a function, a readout that integrates."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(2, 3, 3)
        self.conv2 = nn.Conv2d(3, 4, 2)
        self.fc1 = nn.Linear(4, HIDDEN)
        self.out = norse.LILinearCell(HIDDEN, OUT)
        parameters = norse.LIFParameters(method="super", alpha=torch.tensor(100.0), v_th=torch.as_tensor(0.7))
        self.lif0 = norse.LIFCell(p=parameters)
        self.lif1 = norse.LIFCell(p=parameters)
        self.lif2 = norse.LIFCell(p=norse.LIFParameters(method="super", alpha=torch.tensor(100.0)))

    def forward(self, x: Tensor) -> Tensor:
        steps, batch = x.shape[:2]
        s0 = s1 = s2 = so = None
        voltages = torch.zeros(steps, batch, OUT, device=x.device, dtype=x.dtype)
        for ts in range(steps):
            z, s0 = self.lif0(self.conv1(x[ts, :]), s0)
            z = nnf.max_pool2d(z, 2, 2)
            z = 10 * self.conv2(z)
            z, s1 = self.lif1(z, s1)
            z = nnf.max_pool2d(z, 2, 2)
            z = z.view(-1, 4)
            z, s2 = self.lif2(self.fc1(z), s2)
            v, so = self.out(nnf.relu(z), so)
            voltages[ts, :, :] = v
        return voltages


class LiftedBlocks(nn.Module):
    """Blocks of cells lifted over time, which take their state in a tuple, and a stepped block before a sequence."""

    def __init__(self) -> None:
        super().__init__()
        self.block = norse.Lift(
            norse.SequentialState(nn.Conv2d(2, 3, 3), norse.LIFCell(), nn.MaxPool2d(2), nn.Flatten())
        )
        self.mix = norse.Lift(nn.Sequential(nn.Linear(27, HIDDEN), nn.LayerNorm(HIDDEN)))
        self.lif = norse.LIF()
        self.head = norse.Lift(norse.SequentialState(nn.Linear(HIDDEN, OUT), norse.LIFCell()))

    def forward(self, x: Tensor, state: Any = None) -> tuple[Tensor, Any]:
        s1, s2, s3 = state if state is not None else (None, None, None)
        z, s1 = self.block((x, s1))
        z, s2 = self.lif(self.mix(z), s2)
        z, s3 = self.head((z, s3))
        return z, (s1, s2, s3)


def mnist() -> nn.Module:
    """The network, awake; it weighs what its second convolution gives ten times."""
    net = ConvNet()
    awake(net)
    with torch.no_grad():
        net.conv2.weight.mul_(0.1)
    return net


# --------------------------------------------------------------------------------------------- in containers


def state_steps() -> nn.Module:
    """Cells, stepped from outside."""
    return norse.SequentialState(nn.Linear(F, HIDDEN), norse.LIFCell(), nn.Linear(HIDDEN, OUT), norse.LIFCell())


def state_layers() -> nn.Module:
    """Linear maps whatever comes before the features, the neurons loop over time."""
    return norse.SequentialState(nn.Linear(F, HIDDEN), norse.LIF(), nn.Linear(HIDDEN, OUT), norse.LIF())


def state_lifted() -> nn.Module:
    """Each layer lifted over time."""
    return norse.SequentialState(
        norse.Lift(nn.Linear(F, HIDDEN)), norse.LIF(), norse.Lift(nn.Linear(HIDDEN, OUT)), norse.LIF()
    )


def state_conv() -> nn.Module:
    """Convolution, stepped from outside."""
    return norse.SequentialState(
        nn.Conv2d(2, 4, 3, bias=False),
        norse.LIFCell(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(36, OUT),
        norse.LIFCell(),
    )


def state_conv_lifted() -> nn.Module:
    """Convolution over whole sequences, with a readout that integrates."""
    return norse.SequentialState(
        norse.Lift(nn.Conv2d(2, 4, 3)),
        norse.LIF(),
        norse.Lift(nn.MaxPool2d(2)),
        nn.Flatten(2),
        nn.Linear(36, HIDDEN),
        norse.LIF(),
        nn.Linear(HIDDEN, OUT, bias=False),
        norse.LI(),
    )


def state_nested() -> nn.Module:
    """Blocks in a container, so that the list of states is nested, with a readout that integrates."""
    return norse.SequentialState(
        norse.SequentialState(nn.Conv2d(2, 3, 3, bias=False), nn.AvgPool2d(2), norse.LIFCell()),
        norse.SequentialState(nn.Flatten(), nn.Sequential(nn.Linear(27, HIDDEN), nn.Dropout(0.0)), norse.LIFCell()),
        norse.SequentialState(nn.Linear(HIDDEN, OUT, bias=False), norse.LICell()),
    )


def vgg() -> nn.Module:
    """As Norse makes VGG from torchvision's: a plain Sequential, in which Lift drops the state that LIF returns."""
    return nn.Sequential(
        norse.Lift(nn.Conv2d(2, 4, 3, padding=1)),
        norse.Lift(nn.BatchNorm2d(4)),
        norse.LIF(),
        norse.Lift(nn.MaxPool2d(2, 2)),
        norse.Lift(nn.Conv2d(4, 4, 3, padding=1)),
        norse.LIF(),
        norse.Lift(nn.AdaptiveAvgPool2d((2, 2))),
        norse.Lift(nn.Flatten()),
        norse.Lift(nn.Linear(16, HIDDEN)),
        norse.LIF(),
        norse.Lift(nn.Dropout(0.0)),
        norse.Lift(nn.Linear(HIDDEN, OUT)),
        norse.LIF(),
    )


# ------------------------------------------------------------------------------------------------- the users


def whole(net: Any, x: Tensor, state: Any) -> tuple[Tensor, Any]:
    """The whole sequence, from nothing."""
    return net(x), state


def first_of_pair(net: Any, x: Tensor, state: Any) -> tuple[Tensor, Any]:
    """The whole sequence, from nothing; the last neuron's state is of no use."""
    out, _ = net(x)
    return out, state


def carried(net: Any, x: Tensor, state: Any) -> tuple[Tensor, Any]:
    """A sequence and the state before it."""
    out, state = net(x, state)
    return out, state


def spread(net: Any, x: Tensor, state: Any) -> tuple[Tensor, Any]:
    """A sequence and an argument for each state."""
    out, *state = net(x, *(state or ()))
    return out, tuple(state)


def batch_first(net: Any, x: Tensor, state: Any) -> tuple[Tensor, Any]:
    """The network takes and gives (B, T, ...)."""
    out, state = net(x.transpose(0, 1), state)
    return out.transpose(0, 1), state


def steps(net: Any, x: Tensor, state: Any) -> tuple[Tensor, Any]:
    """One step at a time, from outside."""
    out = []
    for x_t in x:
        y, state = net(x_t, state)
        out.append(y)
    return torch.stack(out), state


def cut(net: nn.Module, state: Any) -> Any:
    """The state without its graph, as Norse's users write it themselves."""
    if hasattr(state, "detach"):
        return state.detach()
    if isinstance(state, dict):
        return {name: cut(net, part) for name, part in state.items()}
    if hasattr(state, "_fields"):
        return type(state)(*(cut(net, part) for part in state))
    if isinstance(state, list | tuple):
        return type(state)(cut(net, part) for part in state)
    if dataclasses.is_dataclass(state) and not isinstance(state, type):
        parts = {field.name: cut(net, getattr(state, field.name)) for field in dataclasses.fields(state)}
        return dataclasses.replace(state, **parts)
    return state


FC = ("fc1", "fc2")

NETWORKS: tuple[Network, ...] = (
    Network("cells", lambda: awake(CellNet()), (F,), FC, whole),
    Network("cells-carried", lambda: awake(CarriedCells()), (F,), FC, carried, cut=cut),
    Network("layers", lambda: awake(LayerNet()), (F,), FC, spread, cut=cut, sees="sequences"),
    Network(
        "hoisted-batch-first",
        lambda: awake(Hoisted()),
        (F,),
        (*FC, "fc3"),
        batch_first,
        cut=cut,
        ordered=False,
        sees={"fc1": "sequences", "fc2": "steps", "fc3": "sequences"},
    ),
    Network(
        "shared-cell",
        lambda: awake(SharedCell()),
        (F,),
        ("fcs.0", "fcs.1", "fcs.2"),
        carried,
        cut=cut,
        ordered=False,
    ),
    Network(
        "kinds-of-neurons",
        lambda: awake(KindsOfNeurons(), mean=4.0, spread=12.0),
        LENGTH,
        tuple(f"layers.{i}" for i in range(5)),
        steps,
        lambda net: {},
        cut,
        ordered=False,
    ),
    Network(
        "skip",
        lambda: awake(SkipNet()),
        (F,),
        ("left", "right", "fc2", "fc3"),
        steps,
        lambda net: SkipState(),
        cut,
        ordered=False,
    ),
    Network(
        "recurrent-cells",
        lambda: awake(RecurrentNet()),
        (F,),
        ("fc1", "lsnn", "fc2", "recurrent"),
        steps,
        cut=cut,
        ordered=False,
        cells=("lsnn", "recurrent"),
    ),
    Network("mnist-conv", mnist, IMAGE, ("conv1", "conv2", "fc1"), whole, ordered=False),
    Network(
        "lifted-blocks",
        lambda: awake(LiftedBlocks()),
        IMAGE,
        ("block.lifted_module.0", "mix.lifted_module.0", "head.lifted_module.0"),
        carried,
        cut=cut,
        ordered=False,
    ),
    Network("sequential-steps", lambda: awake(state_steps()), (F,), ("0", "2"), steps, cut=cut),
    Network("sequential-layers", lambda: awake(state_layers()), (F,), ("0", "2"), carried, cut=cut, sees="sequences"),
    Network("sequential-lift", lambda: awake(state_lifted()), (F,), ("0", "2"), carried, cut=cut, sees="sequences"),
    Network("sequential-conv", lambda: awake(state_conv()), IMAGE, ("0", "4"), steps, cut=cut),
    Network(
        "sequential-conv-lift",
        lambda: awake(state_conv_lifted()),
        IMAGE,
        ("0", "4"),
        carried,
        cut=cut,
        sees="sequences",
    ),
    Network("sequential-nested", lambda: awake(state_nested()), IMAGE, ("0.0", "1.1.0"), steps, cut=cut),
    Network("vgg", lambda: awake(vgg()), IMAGE, ("0", "4", "8", "11"), first_of_pair, sees="sequences"),
)
