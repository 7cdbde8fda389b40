"""Ten networks of snnTorch's tutorials and documentation.

Shapes: T steps, B batch. Constant input is the first step of a sample, as long as the sample.
"""

from typing import Any

import snntorch as snn
import torch
from snntorch import surrogate, utils
from torch import Tensor, nn

from delayplug.testing import Network

from .drives import constant, held, louder, unrolled_constant
from .tutorial import Tutorial

_IMAGE = (1, 28, 28)


def _spike() -> Any:
    return surrogate.fast_sigmoid(slope=25)


class FeedForward(nn.Module):
    """Spikes in, one step at a time; the membranes are the caller's."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1 = nn.Linear(784, 1000)
        self.lif1 = snn.Leaky(beta=0.99)
        self.fc2 = nn.Linear(1000, 10)
        self.lif2 = snn.Leaky(beta=0.99)

    def forward(self, x: Tensor, mem1: Tensor, mem2: Tensor) -> Any:
        spk1, mem1 = self.lif1(self.fc1(x), mem1)
        spk2, mem2 = self.lif2(self.fc2(spk1), mem2)
        return spk2, (mem1, mem2)


def _stepped(net: FeedForward, x: Tensor, state: Any) -> tuple[Tensor, Any]:
    out = []
    for x_t in x:
        spk, state = net(x_t, *state)
        out.append(spk)
    return torch.stack(out), state


class ConstantInput(nn.Module):
    """A loop within the forward, over an image that does not change."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1 = nn.Linear(784, 1000)
        self.lif1 = snn.Leaky(beta=0.95)
        self.fc2 = nn.Linear(1000, 10)
        self.lif2 = snn.Leaky(beta=0.95)
        self.num_steps = 25

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        mem1, mem2 = self.lif1.init_leaky(), self.lif2.init_leaky()
        spikes, membranes = [], []
        for _ in range(self.num_steps):
            spk1, mem1 = self.lif1(self.fc1(x), mem1)
            spk2, mem2 = self.lif2(self.fc2(spk1), mem2)
            spikes.append(spk2)
            membranes.append(mem2)
        return torch.stack(spikes), torch.stack(membranes)


def _images(net: Any, x: Tensor, state: Any) -> tuple[Tensor, Any]:
    net.num_steps = len(x)
    return net(x[0])[1], None


def image_convolutions() -> nn.Module:
    """An image, in a loop around a Sequential."""
    spike = _spike()
    return nn.Sequential(
        nn.Conv2d(1, 12, 5),
        nn.MaxPool2d(2),
        snn.Leaky(beta=0.5, spike_grad=spike, init_hidden=True),
        nn.Conv2d(12, 64, 5),
        nn.MaxPool2d(2),
        snn.Leaky(beta=0.5, spike_grad=spike, init_hidden=True),
        nn.Flatten(),
        nn.Linear(64 * 4 * 4, 10),
        snn.Leaky(beta=0.5, spike_grad=spike, init_hidden=True, output=True),
    )


def event_convolutions() -> nn.Module:
    """Events, in a loop around a Sequential."""
    spike = _spike()
    return nn.Sequential(
        nn.Conv2d(2, 12, 5),
        nn.MaxPool2d(2),
        snn.Leaky(beta=0.5, spike_grad=spike, init_hidden=True),
        nn.Conv2d(12, 32, 5),
        nn.MaxPool2d(2),
        snn.Leaky(beta=0.5, spike_grad=spike, init_hidden=True),
        nn.Flatten(),
        nn.Linear(32 * 5 * 5, 10),
        snn.Leaky(beta=0.5, spike_grad=spike, init_hidden=True, output=True),
    )


def population() -> nn.Module:
    """Fifty neurons vote for each class."""
    spike = _spike()
    return nn.Sequential(
        nn.Linear(784, 128),
        snn.Leaky(beta=0.9, spike_grad=spike, init_hidden=True),
        nn.Linear(128, 500),
        snn.Leaky(beta=0.9, spike_grad=spike, init_hidden=True, output=True),
    )


class Regression(nn.Module):
    """Learned decays; the membrane of a last neuron without reset is the output."""

    def __init__(self) -> None:
        super().__init__()
        self.fc_in = nn.Linear(1, 128)
        self.lif_in = snn.Leaky(beta=0.9, learn_beta=True, spike_grad=surrogate.atan())
        self.fc_hidden = nn.Linear(128, 128)
        self.lif_hidden = snn.Leaky(beta=0.9, learn_beta=True, spike_grad=surrogate.atan())
        self.fc_out = nn.Linear(128, 1)
        self.li_out = snn.Leaky(beta=0.9, threshold=1.0, learn_beta=True, reset_mechanism="none")

    def forward(self, x: Tensor) -> Tensor:
        mem1, mem2, mem3 = self.lif_in.init_leaky(), self.lif_hidden.init_leaky(), self.li_out.init_leaky()
        out = []
        for step in range(x.shape[0]):
            spk1, mem1 = self.lif_in(self.fc_in(x[step]), mem1)
            spk2, mem2 = self.lif_hidden(self.fc_hidden(spk1), mem2)
            _, mem3 = self.li_out(self.fc_out(spk2), mem3)
            out.append(mem3)
        return torch.stack(out)


class RecurrentImages(nn.Module):
    """Neurons that feed their spikes back, over an image that does not change."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1 = nn.Linear(784, 128)
        self.rlif1 = snn.RLeaky(beta=0.9, linear_features=128, spike_grad=_spike())
        self.fc2 = nn.Linear(128, 10)
        self.rlif2 = snn.RLeaky(beta=0.9, linear_features=10, spike_grad=_spike())
        self.num_steps = 25

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        spk1, mem1 = self.rlif1.init_rleaky()
        spk2, mem2 = self.rlif2.init_rleaky()
        spikes, membranes = [], []
        for _ in range(self.num_steps):
            spk1, mem1 = self.rlif1(self.fc1(x), spk1, mem1)
            spk2, mem2 = self.rlif2(self.fc2(spk1), spk2, mem2)
            spikes.append(spk2)
            membranes.append(mem2)
        return torch.stack(spikes), torch.stack(membranes)


class Autoencoder(nn.Module):
    """All steps are encoded, then all are decoded."""

    def __init__(self) -> None:
        super().__init__()
        spike = surrogate.atan(alpha=2.0)
        self.encoder = nn.Sequential(
            nn.Conv2d(1, 32, 3, padding=1, stride=2),
            nn.BatchNorm2d(32),
            snn.Leaky(beta=0.5, spike_grad=spike, init_hidden=True, threshold=1.0),
            nn.Conv2d(32, 64, 3, padding=1, stride=2),
            nn.BatchNorm2d(64),
            snn.Leaky(beta=0.5, spike_grad=spike, init_hidden=True, threshold=1.0),
            nn.Flatten(1, -1),
            nn.Linear(64 * 8 * 8, 32),
            snn.Leaky(beta=0.5, spike_grad=spike, init_hidden=True, output=True, threshold=1.0),
        )
        self.decoder = nn.Sequential(
            nn.Linear(32, 64 * 8 * 8),
            snn.Leaky(beta=0.5, spike_grad=spike, init_hidden=True, threshold=1.0),
            nn.Unflatten(1, (64, 8, 8)),
            nn.ConvTranspose2d(64, 32, 3, padding=1, stride=2, output_padding=1),
            nn.BatchNorm2d(32),
            snn.Leaky(beta=0.5, spike_grad=spike, init_hidden=True, threshold=1.0),
            nn.ConvTranspose2d(32, 1, 3, padding=1, stride=2, output_padding=1),
            snn.Leaky(beta=0.5, spike_grad=spike, init_hidden=True, output=True, threshold=1.0),
        )
        self.num_steps = 5

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        for half in (self.encoder, self.decoder):
            utils.reset(half)
        encoded = [self.encoder(x)[0] for _ in range(self.num_steps)]
        decoded = [self.decoder(code) for code in encoded]
        return torch.stack([spk for spk, _ in decoded]), torch.stack([mem for _, mem in decoded])


class Sequences(nn.Module):
    """A neuron that takes a sequence as a convolution over time."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1 = nn.Linear(64, 128)
        self.lif1 = snn.StateLeaky(beta=0.9, channels=128)
        self.fc2 = nn.Linear(128, 10)
        self.lif2 = snn.StateLeaky(beta=0.9, channels=10)

    def forward(self, x: Tensor) -> Tensor:  # (T, B, 64)
        spk1, _ = self.lif1(self.fc1(x))
        spk2, _ = self.lif2(self.fc2(spk1))
        return spk2


class LSTM(nn.Module):
    """A spiking LSTM, which weighs its own input, in front of a readout of leaky neurons."""

    def __init__(self) -> None:
        super().__init__()
        self.slstm1 = snn.SLSTM(28, 100, threshold=0.1, spike_grad=_spike())  # its membrane is below 1
        self.fc1 = nn.Linear(100, 10)
        self.lif1 = snn.Leaky(beta=0.9, spike_grad=_spike())

    def forward(self, x: Tensor) -> Tensor:
        syn, mem = self.slstm1.init_slstm()
        mem1 = self.lif1.init_leaky()
        out = []
        for step in range(x.shape[0]):
            spk, syn, mem = self.slstm1(x[step], syn, mem)
            _, mem1 = self.lif1(self.fc1(spk), mem1)
            out.append(mem1)
        return torch.stack(out)


def _looped(net: nn.Module, x: Tensor, state: Any) -> tuple[Tensor, Any]:
    return net(x), None


def _hidden(net: nn.Module, x: Tensor, state: Any) -> tuple[Tensor, Any]:
    utils.reset(net)
    return held(net, x, lambda out: out[1]), None


def _hidden_constant(net: nn.Module, x: Tensor, state: Any) -> tuple[Tensor, Any]:
    utils.reset(net)
    return constant(net, x, lambda out: out[1]), None


def _init(net: FeedForward) -> tuple[Tensor, Tensor]:
    return net.lif1.init_leaky(), net.lif2.init_leaky()


_FC = ("fc1", "fc2")
_TUTORIAL = "snnTorch tutorial"

TUTORIALS = (
    Tutorial(
        "feed-forward",
        f"{_TUTORIAL} 3",
        "snntorch",
        Network("feed-forward", lambda: louder(FeedForward()), (784,), _FC, _stepped, _init),
        steps=200,
        batch=1,
    ),
    Tutorial(
        "constant image",
        f"{_TUTORIAL} 5",
        "snntorch",
        Network("constant image", lambda: louder(ConstantInput()), (784,), _FC, _images),
        steps=25,
        batch=128,
        unrolled=unrolled_constant,
    ),
    Tutorial(
        "convolutions",
        f"{_TUTORIAL} 6",
        "snntorch",
        Network("convolutions", lambda: louder(image_convolutions()), _IMAGE, ("0", "3", "7"), _hidden_constant),
        steps=50,
        batch=8,
        unrolled=unrolled_constant,
    ),
    Tutorial(
        "events",
        f"{_TUTORIAL} 7",
        "snntorch",
        Network("events", lambda: louder(event_convolutions()), (2, 32, 32), ("0", "3", "7"), _hidden),
        steps=25,
        batch=8,
    ),
    Tutorial(
        "regression",
        "snnTorch regression tutorial 1",
        "snntorch",
        Network("regression", lambda: louder(Regression(), 3), (1,), ("fc_in", "fc_hidden", "fc_out"), _looped),
        steps=100,
        batch=1,
    ),
    Tutorial(
        "recurrent classification",
        "snnTorch regression tutorial 2",
        "snntorch",
        Network("recurrent classification", lambda: louder(RecurrentImages()), (784,), _FC, _images),
        steps=25,
        batch=64,
        unrolled=unrolled_constant,
    ),
    Tutorial(
        "population code",
        f"{_TUTORIAL} on populations",
        "snntorch",
        Network("population code", lambda: louder(population()), (784,), ("0", "2"), _hidden_constant),
        steps=25,
        batch=64,
        unrolled=unrolled_constant,
    ),
    Tutorial(
        "autoencoder",
        f"{_TUTORIAL} on autoencoders",
        "snntorch",
        Network(
            "autoencoder",
            lambda: louder(Autoencoder()),
            (1, 32, 32),
            ("encoder.0", "encoder.3", "encoder.7", "decoder.0", "decoder.3", "decoder.6"),
            _images,
        ),
        steps=5,
        batch=8,
        max_delay=2,
        unrolled=unrolled_constant,
    ),
    Tutorial(
        "StateLeaky",
        "snnTorch documentation of StateLeaky",
        "snntorch",
        Network("StateLeaky", lambda: louder(Sequences()), (64,), _FC, _looped, sees="sequences"),
        steps=100,
        batch=16,
        unrolled=None,
    ),
    Tutorial(
        "SLSTM",
        "snnTorch documentation of SLSTM",
        "snntorch",
        Network("SLSTM", lambda: louder(LSTM()), (28,), ("fc1",), _looped),
        steps=28,
        batch=64,
    ),
)
