"""Ten networks of Norse's tasks, notebooks and documentation.

Shapes: T steps, B batch. Constant input is the first step of a sample, as long as the sample.
"""

from typing import Any

import torch
from norse.torch import (
    LI,
    LIF,
    ConstantCurrentLIFEncoder,
    LICell,
    LIFCell,
    LIFParameters,
    LIFRecurrentCell,
    Lift,
    LILinearCell,
    LSNNRecurrentCell,
    SequentialState,
)
from torch import Tensor, nn

from delayplug.testing import Network

from .drives import louder, passed, unrolled_constant
from .tutorial import Attempt, Tutorial

_IMAGE = (1, 28, 28)


def _parameters(threshold: float = 1.0) -> LIFParameters:
    return LIFParameters(method="super", alpha=torch.tensor(100.0), v_th=torch.as_tensor(threshold))


class Images(nn.Module):
    """Convolutions over what a neuron for each pixel makes of an image."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = ConstantCurrentLIFEncoder(seq_length=32)
        self.conv1 = nn.Conv2d(1, 32, 5, 1)
        self.conv2 = nn.Conv2d(32, 64, 5, 1)
        self.fc1 = nn.Linear(4 * 4 * 64, 1024)
        self.lif0 = LIFCell(p=_parameters(0.7))
        self.lif1 = LIFCell(p=_parameters(0.7))
        self.lif2 = LIFCell(p=_parameters())
        self.out = LILinearCell(1024, 10)

    def forward(self, image: Tensor) -> Tensor:
        x = self.encoder(image.flatten(1) * 10).reshape(-1, len(image), *_IMAGE)
        s0 = s1 = s2 = so = None
        voltages = torch.zeros(len(x), len(image), 10)
        for ts in range(len(x)):
            z, s0 = self.lif0(self.conv1(x[ts]), s0)
            z = nn.functional.max_pool2d(z, 2, 2)
            z, s1 = self.lif1(10 * self.conv2(z), s1)
            z = nn.functional.max_pool2d(z, 2, 2).view(-1, 4 * 4 * 64)
            z, s2 = self.lif2(self.fc1(z), s2)
            v, so = self.out(nn.functional.relu(z), so)
            voltages[ts, :, :] = v
        return voltages


def _images(net: Any, x: Tensor, state: Any) -> tuple[Tensor, Any]:
    net.encoder.seq_length = len(x)
    return net(x[0]), None


class ConstantImages(nn.Module):
    """The same image in every step, through blocks of convolutions; an eighth of the task's channels."""

    def __init__(self) -> None:
        super().__init__()
        p = LIFParameters(v_th=torch.as_tensor(0.4))
        sizes = (3, 8, 16, 32, 32)
        blocks: list[nn.Module] = []
        for i in range(4):
            blocks += [nn.Conv2d(sizes[i], sizes[i + 1], 3, padding=1, bias=False), LIFCell(p)]
            blocks += [nn.MaxPool2d(2)] if i else []
        self.features = SequentialState(*blocks, nn.Flatten())
        self.classification = SequentialState(nn.Linear(512, 10, bias=False), LICell())
        self.seq_length = 128

    def forward(self, x: Tensor) -> Tensor:
        voltages = torch.empty(self.seq_length, len(x), 10)
        sf = sc = None
        for ts in range(self.seq_length):
            out_f, sf = self.features(x, sf)
            out_c, sc = self.classification(out_f, sc)
            voltages[ts, :, :] = out_c
        return voltages


def _repeated(net: Any, x: Tensor, state: Any) -> tuple[Tensor, Any]:
    net.seq_length = len(x)
    return net(x[0]), None


class Memory(nn.Module):
    """Two populations with weights of their own for the same input; batch first."""

    def __init__(self) -> None:
        super().__init__()
        self.lsnn_cell = LSNNRecurrentCell(40, 20)
        self.lif_cell = LIFRecurrentCell(40, 20, p=LIFParameters(v_th=torch.as_tensor(0.5)))
        self.readout = LILinearCell(40, 20)

    def forward(self, x: Tensor) -> Tensor:  # (B, T, 40)
        lif = lsnn = sr = None
        out = []
        for x_t in x.unbind(1):
            z_lif, lif = self.lif_cell(x_t, lif)
            z_lsnn, lsnn = self.lsnn_cell(x_t, lsnn)
            v, sr = self.readout(torch.cat((z_lif, z_lsnn), -1), sr)
            out.append(v)
        return torch.stack(out)


def _batch_first(net: nn.Module, x: Tensor, state: Any) -> tuple[Tensor, Any]:
    return net(x.transpose(0, 1)), None


class Policy(nn.Module):
    """Acts on four numbers, which neurons turn into spikes; dropout between."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = ConstantCurrentLIFEncoder(40)
        self.lif = LIFRecurrentCell(8, 128, p=LIFParameters(method="super", alpha=torch.tensor(100.0)))
        self.dropout = nn.Dropout(0.0)  # the task has 0.5: laws compare outputs
        self.readout = LILinearCell(128, 2)

    def forward(self, x: Tensor) -> Tensor:
        positive = self.encoder(nn.functional.relu(50 * x))
        negative = self.encoder(nn.functional.relu(-50 * x))
        spikes = torch.cat([positive, negative], dim=2)
        s1 = so = None
        voltages = torch.zeros(*spikes.shape[:2], 2)
        for ts in range(len(spikes)):
            z1, s1 = self.lif(spikes[ts, :, :], s1)
            vo, so = self.readout(self.dropout(z1), so)
            voltages[ts, :, :] = vo
        return voltages


class Cell(nn.Module):
    """One recurrent population and a readout."""

    def __init__(self, cell: Any, inputs: int, hidden: int, outputs: int) -> None:
        super().__init__()
        self.cell = cell(inputs, hidden)
        self.readout = LILinearCell(hidden, outputs)

    def forward(self, x: Tensor) -> Tensor:
        s = so = None
        out = []
        for ts in range(len(x)):
            z, s = self.cell(x[ts, :], s)
            v, so = self.readout(z, so)
            out.append(v)
        return torch.stack(out)


class Notebook(nn.Module):
    """Recurrent neurons, a Linear and a leaky readout."""

    def __init__(self) -> None:
        super().__init__()
        self.l1 = LIFRecurrentCell(784, 100, p=_parameters(), dt=0.001)
        self.fc_out = nn.Linear(100, 10, bias=False)
        self.out = LICell(dt=0.001)

    def forward(self, x: Tensor) -> Tensor:
        s1 = so = None
        voltages = []
        for ts in range(len(x)):
            z, s1 = self.l1(x[ts].flatten(1), s1)
            vo, so = self.out(self.fc_out(z), so)
            voltages.append(vo)
        return torch.stack(voltages)


def readme() -> nn.Module:
    """Convolutions in a container that passes the states on."""
    return SequentialState(
        nn.Conv2d(1, 20, 5, 1),
        LIFCell(),
        nn.MaxPool2d(2, 2),
        nn.Conv2d(20, 50, 5, 1),
        LIFCell(),
        nn.MaxPool2d(2, 2),
        nn.Flatten(),
        nn.Linear(800, 10),
        LICell(),
    )


def lifted() -> nn.Module:
    """The same over whole sequences, with what has no time lifted."""
    return SequentialState(
        Lift(nn.Conv2d(2, 8, 5, 2)),
        LIF(),
        Lift(nn.MaxPool2d(2)),
        Lift(nn.Conv2d(8, 16, 3)),
        LIF(),
        nn.Flatten(2),
        nn.Linear(400, 10),
        LI(),
    )


def dense() -> nn.Module:
    """Dense layers over whole sequences."""
    return SequentialState(nn.Linear(140, 128), LIF(), nn.Linear(128, 128), LIF(), nn.Linear(128, 20), LI())


def _looped(net: nn.Module, x: Tensor, state: Any) -> tuple[Tensor, Any]:
    return net(x), None


def _whole(net: nn.Module, x: Tensor, state: Any) -> tuple[Tensor, Any]:
    out: tuple[Tensor, Any] = net(x, state)
    return out


_AXONAL = Attempt("axonal, with an example", {"granularity": "axonal"}, example=True)

TUTORIALS = (
    Tutorial(
        "MNIST",
        "norse.task.mnist",
        "norse",
        Network("MNIST", lambda: louder(Images(), 3), _IMAGE, ("conv1", "conv2", "fc1"), _images),
        steps=32,
        batch=8,
        unrolled=unrolled_constant,
    ),
    Tutorial(
        "CIFAR-10",
        "norse.task.cifar10",
        "norse",
        Network(
            "CIFAR-10",
            lambda: louder(ConstantImages(), 4),
            (3, 32, 32),
            ("features.0", "features.2", "features.5", "features.8"),
            _repeated,
        ),
        steps=32,
        batch=4,
        unrolled=unrolled_constant,
    ),
    Tutorial(
        "memory",
        "norse.task.memory",
        "norse",
        Network("memory", lambda: louder(Memory()), (40,), ("lsnn_cell", "lif_cell"), _batch_first),
        steps=100,
        batch=32,
        more=(_AXONAL,),
    ),
    Tutorial(
        "cart pole",
        "norse.task.cartpole",
        "norse",
        Network("cart pole", lambda: louder(Policy(), 8), (4,), ("lif",), _images),
        steps=40,
        batch=1,
        more=(_AXONAL,),
        unrolled=unrolled_constant,
    ),
    Tutorial(
        "speech commands",
        "norse.task.speech_commands, lif",
        "norse",
        Network("speech commands", lambda: louder(Cell(LIFRecurrentCell, 80, 128, 10)), (80,), ("cell",), _looped),
        steps=100,
        batch=16,
        more=(_AXONAL,),
    ),
    Tutorial(
        "event camera",
        "Norse notebook on Poker DVS",
        "norse",
        Network(
            "event camera", lambda: louder(Cell(LSNNRecurrentCell, 2 * 34 * 34, 100, 4)), (2312,), ("cell",), _looped
        ),
        steps=50,
        batch=8,
        more=(_AXONAL,),
    ),
    Tutorial(
        "classifier",
        "Norse notebook on MNIST",
        "norse",
        Network("classifier", lambda: louder(Notebook()), (784,), ("l1",), _looped),
        steps=48,
        batch=64,
        more=(_AXONAL,),
    ),
    Tutorial(
        "SequentialState",
        "Norse's README",
        "norse",
        Network("SequentialState", lambda: louder(readme(), 3), _IMAGE, ("0", "3"), passed),
        steps=32,
        batch=8,
    ),
    Tutorial(
        "Lift",
        "Norse documentation of Lift",
        "norse",
        Network("Lift", lambda: louder(lifted(), 4), (2, 34, 34), ("0", "3"), _whole, sees="sequences"),
        steps=50,
        batch=8,
        unrolled=None,
    ),
    Tutorial(
        "sequences",
        "Norse documentation, whole sequences",
        "norse",
        Network("sequences", lambda: louder(dense(), 4), (140,), ("0", "2"), _whole, sees="sequences"),
        steps=100,
        batch=32,
        unrolled=None,
    ),
)
