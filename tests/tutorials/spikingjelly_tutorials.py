"""Ten networks of SpikingJelly's examples and models.

Shapes: T steps, N batch. Constant input is the first step of a sample, as long as the sample.
"""

from typing import Any

import torch
from spikingjelly.activation_based import functional, layer, neuron, rnn, surrogate
from spikingjelly.activation_based.model import parametric_lif_net, sew_resnet
from torch import Tensor, nn

from delayplug.testing import Network

from .drives import held, louder, unrolled_constant
from .tutorial import Attempt, Tutorial

_ATAN = surrogate.ATan()


class OneLayer(nn.Module):
    """One layer, on spikes drawn step by step."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Sequential(
            layer.Flatten(), layer.Linear(784, 10, bias=False), neuron.LIFNode(tau=2.0, surrogate_function=_ATAN)
        )

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.layer(x)
        return out


class Convolutions(nn.Module):
    """An image as a sequence that does not change, in multi-step mode; 32 of the example's 128 channels."""

    def __init__(self, channels: int = 32) -> None:
        super().__init__()
        self.conv_fc = nn.Sequential(
            layer.Conv2d(1, channels, kernel_size=3, padding=1, bias=False),
            layer.BatchNorm2d(channels),
            neuron.IFNode(surrogate_function=_ATAN),
            layer.MaxPool2d(2, 2),
            layer.Conv2d(channels, channels, kernel_size=3, padding=1, bias=False),
            layer.BatchNorm2d(channels),
            neuron.IFNode(surrogate_function=_ATAN),
            layer.MaxPool2d(2, 2),
            layer.Flatten(),
            layer.Linear(channels * 7 * 7, channels * 4 * 4, bias=False),
            neuron.IFNode(surrogate_function=_ATAN),
            layer.Linear(channels * 4 * 4, 10, bias=False),
            neuron.IFNode(surrogate_function=_ATAN),
        )
        self.T = 8
        functional.set_step_mode(self, "m")

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.conv_fc(x.unsqueeze(0).expand(self.T, -1, -1, -1, -1))
        return out


def _expanded(net: Any, x: Tensor, state: Any) -> tuple[Tensor, Any]:
    functional.reset_net(net)
    net.T = len(x)
    return net(x[0]), None


def gestures() -> nn.Module:
    """The model of the toolkit; 8 of its 128 channels, in multi-step mode."""
    net = parametric_lif_net.DVSGestureNet(channels=8, spiking_neuron=neuron.LIFNode, surrogate_function=_ATAN)
    for module in net.modules():
        if isinstance(module, layer.Dropout):
            module.p = 0.0  # the model has 0.5: laws compare outputs
    functional.set_step_mode(net, "m")
    return net


class Rows(nn.Module):
    """An image row by row: the three networks of one example."""

    def __init__(self, *between: nn.Module) -> None:
        super().__init__()
        self.fc = nn.Sequential(
            layer.Linear(28, 32), *between, layer.Linear(32, 10), neuron.IFNode(surrogate_function=_ATAN)
        )
        functional.set_step_mode(self, "m")

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.fc(x)
        return out


def plain_rows() -> nn.Module:
    return Rows(neuron.IFNode(surrogate_function=_ATAN))


def filtered_rows() -> nn.Module:
    return Rows(neuron.IFNode(surrogate_function=_ATAN), layer.SynapseFilter(tau=2.0, learnable=True))


def fed_back_rows() -> nn.Module:
    spiking = neuron.IFNode(surrogate_function=_ATAN, detach_reset=True)
    return Rows(layer.LinearRecurrentContainer(spiking, in_features=32, out_features=32, bias=True))


class LSTM(nn.Module):
    """A spiking LSTM with weights of its own; the layer after it feeds no neuron."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = rnn.SpikingLSTM(28, 128, 1)
        self.fc = nn.Linear(128, 10)

    def forward(self, x: Tensor) -> Tensor:
        y, _ = self.lstm(x)
        out: Tensor = self.fc(y)
        return out


class Membrane(neuron.SimpleLIFNode):
    """Integrates, and returns its membrane."""

    def single_step_forward(self, x: Tensor) -> Tensor:
        self.neuronal_charge(x)
        out: Tensor = self.v
        return out


def _valued(inputs: int, hidden: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        layer.Linear(inputs, hidden),
        neuron.IFNode(),
        layer.Linear(hidden, outputs),
        Membrane(tau=2.0, decay_input=True),
    )


class QNetwork(nn.Module):
    """Values of actions are membranes after some steps of the same observation."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = _valued(4, 256, 2)
        self.T = 16

    def forward(self, x: Tensor) -> Tensor:
        for _ in range(self.T):
            self.fc(x)
        out: Tensor = self.fc[-1].v
        return out


class ActorCritic(nn.Module):
    """Two networks on the same observation."""

    def __init__(self) -> None:
        super().__init__()
        self.critic, self.actor = _valued(4, 256, 1), _valued(4, 256, 2)
        self.T = 16

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        for _ in range(self.T):
            self.critic(x)
            self.actor(x)
        return self.actor[-1].v, self.critic[-1].v


def _acted(net: Any, x: Tensor, state: Any) -> tuple[Tensor, Any]:
    """One entry for the whole sequence, (1, N, ...)."""
    functional.reset_net(net)
    net.T = len(x)
    out = net(x[0])
    return torch.cat(out, -1).unsqueeze(0) if isinstance(out, tuple) else out.unsqueeze(0), None


def residual() -> nn.Module:
    """The model of the toolkit, with shortcuts, one block where the smallest has two."""
    net = sew_resnet.SEWResNet(
        sew_resnet.BasicBlock,
        [1, 1, 1, 1],
        num_classes=10,
        cnf="ADD",
        spiking_neuron=neuron.IFNode,
        surrogate_function=_ATAN,
        detach_reset=True,
    )
    functional.set_step_mode(net, "m")
    return net


def _sequence(net: nn.Module, x: Tensor, state: Any) -> tuple[Tensor, Any]:
    functional.reset_net(net)
    return net(x), None


def _steps(net: nn.Module, x: Tensor, state: Any) -> tuple[Tensor, Any]:
    functional.reset_net(net)
    return held(net, x), None


_RNN = "examples/rsnn_sequential_fmnist"

TUTORIALS = (
    Tutorial(
        "one layer",
        "examples/lif_fc_mnist",
        "spikingjelly",
        Network("one layer", lambda: louder(OneLayer()), (1, 28, 28), ("layer.1",), _steps),
        steps=100,
        batch=64,
    ),
    Tutorial(
        "convolutions",
        "examples/conv_fashion_mnist",
        "spikingjelly",
        Network(
            "convolutions",
            lambda: louder(Convolutions()),
            (1, 28, 28),
            ("conv_fc.0", "conv_fc.4", "conv_fc.9", "conv_fc.11"),
            _expanded,
            sees="sequences",
        ),
        steps=8,
        batch=8,
        max_delay=2,
        unrolled=None,
    ),
    Tutorial(
        "gestures",
        "examples/classify_dvsg",
        "spikingjelly",
        Network(
            "gestures",
            lambda: louder(gestures()),
            (2, 128, 128),
            tuple(f"conv_fc.{i}" for i in (0, 4, 8, 12, 16, 22, 25)),
            _sequence,
            sees="sequences",
        ),
        steps=16,
        batch=2,
        max_delay=3,
        unrolled=None,
    ),
    Tutorial(
        "PlainNet",
        _RNN,
        "spikingjelly",
        Network("PlainNet", lambda: louder(plain_rows(), 3), (28,), ("fc.0", "fc.2"), _sequence, sees="sequences"),
        steps=28,
        batch=256,
        unrolled=None,
    ),
    Tutorial(
        "StatefulSynapseNet",
        _RNN,
        "spikingjelly",
        Network(
            "StatefulSynapseNet",
            lambda: louder(filtered_rows(), 3),
            (28,),
            ("fc.0", "fc.3"),
            _sequence,
            sees="sequences",
        ),
        steps=28,
        batch=256,
        more=(Attempt("by name", {"filter_fn": ["fc.0", "fc.3"]}, example=True),),
        unrolled=None,
    ),
    Tutorial(
        "FeedBackNet",
        _RNN,
        "spikingjelly",
        Network(
            "FeedBackNet", lambda: louder(fed_back_rows(), 3), (28,), ("fc.0", "fc.2"), _sequence, sees="sequences"
        ),
        steps=28,
        batch=256,
        more=(Attempt("by name", {"filter_fn": ["fc.0", "fc.2"]}, example=True),),
        unrolled=None,
    ),
    Tutorial(
        "SpikingLSTM",
        "examples/spiking_lstm_sequential_mnist",
        "spikingjelly",
        Network("SpikingLSTM", lambda: louder(LSTM(), 3), (28,), ("lstm",), _sequence, sees="sequences"),
        steps=28,
        batch=32,
        more=(Attempt("axonal, with an example", {"granularity": "axonal"}, example=True),),
        unrolled=None,
    ),
    Tutorial(
        "Q network",
        "examples/spiking_dqn_state",
        "spikingjelly",
        Network("Q network", lambda: louder(QNetwork(), 3), (4,), ("fc.0",), _acted),
        steps=16,
        batch=128,
        max_delay=5,
        unrolled=unrolled_constant,
    ),
    Tutorial(
        "actor and critic",
        "examples/spiking_a2c",
        "spikingjelly",
        Network("actor and critic", lambda: louder(ActorCritic(), 3), (4,), ("critic.0", "actor.0"), _acted),
        steps=16,
        batch=4,
        max_delay=5,
        unrolled=unrolled_constant,
    ),
    Tutorial(
        "SEW ResNet",
        "model.sew_resnet, examples/train_imagenet",
        "spikingjelly",
        Network(
            "SEW ResNet",
            lambda: louder(residual()),
            (3, 64, 64),
            ("conv1", *(f"layer{i}.0.conv{j}" for i in (1, 2, 3, 4) for j in (1, 2))),
            _sequence,
            sees="sequences",
        ),
        steps=4,
        batch=4,
        max_delay=1,
        unrolled=None,
    ),
)
