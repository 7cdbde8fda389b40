"""Networks built and driven as in the toolkits' own tutorials, examples and tasks."""

from collections.abc import Callable
from typing import Any, NamedTuple

import norse.torch as norse
import pytest
import snntorch
import torch
from norse.torch.module.encode import ConstantCurrentLIFEncoder
from snntorch import utils
from snntorch._layers.bntt import BatchNormTT1d
from spikingjelly.activation_based import functional, layer, neuron
from torch import Tensor, nn

from delayplug import add_delays, plan_delays
from delayplug.testing.networks import Sees
from delayplug.testing.oracle import draw_whole_delays, shift_cell, shift_inputs
from tests.surgery.networks import layers, reasons

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:snntorch")
T, B, F, H, O = 9, 3, 4, 6, 3  # noqa: E741
Drive = Callable[[Any, Tensor], Tensor]


class Case(NamedTuple):
    """A network, how its user runs it on an input, and what a call of its layers sees."""

    make: Callable[[], nn.Module]
    run: Drive
    x: Tensor
    layers: list[str]
    sees: Sees = "steps"
    gain: float = 6.0


def spikes(*shape: int) -> Tensor:
    return (torch.rand(*shape, generator=torch.Generator().manual_seed(0)) < 0.5).float()


# ------------------------------------------------------------------------------------------------- snnTorch


class Loose(nn.Module):
    """Tutorial 3: layers and neurons that somebody else's loop calls."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.lif1 = nn.Linear(F, H), snntorch.Leaky(beta=0.8)
        self.fc2, self.lif2 = nn.Linear(H, O), snntorch.Leaky(beta=0.8)


def run_loose(net: Any, x: Tensor) -> Tensor:
    mem1, mem2, out = net.lif1.init_leaky(), net.lif2.init_leaky(), []
    for step in range(x.shape[0]):
        z, mem1 = net.lif1(net.fc1(x[step]), mem1)
        z, mem2 = net.lif2(net.fc2(z), mem2)
        out.append(z)
    return torch.stack(out)


class ThroughTime(Loose):
    """Batch norm through time: one for each step."""

    def __init__(self) -> None:
        super().__init__()
        self.bntt = BatchNormTT1d(H, T)

    def forward(self, x: Tensor) -> Tensor:
        mem1, mem2, out = self.lif1.init_leaky(), self.lif2.init_leaky(), []
        for step in range(T):
            z, mem1 = self.lif1(self.bntt[step](self.fc1(x[step])), mem1)
            z, mem2 = self.lif2(self.fc2(z), mem2)
            out.append(z)
        return torch.stack(out)


def hidden(**options: bool) -> nn.Module:
    return snntorch.Leaky(beta=0.5, init_hidden=True, **options)


def convolutional() -> nn.Module:
    """Tutorial 6."""
    return nn.Sequential(
        *(nn.Conv2d(1, 2, 3), nn.MaxPool2d(2), hidden()),
        *(nn.Conv2d(2, 3, 2), nn.MaxPool2d(2), hidden()),
        *(nn.Flatten(), nn.Linear(3, O), hidden(output=True)),
    )


def run_hidden(net: Any, x: Tensor) -> Tensor:
    utils.reset(net)
    return torch.stack([net(x_t)[0] for x_t in x])


class Autoencoder(nn.Module):
    """Three parts, each reset by itself, and one image for all steps."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(
            nn.Conv2d(1, 2, 3, padding=1, stride=2), hidden(), nn.Flatten(1), nn.Linear(32, H), hidden(output=True)
        )
        self.linear = nn.Sequential(nn.Linear(H, 32), hidden(output=True))
        self.decoder = nn.Sequential(
            nn.Unflatten(1, (2, 4, 4)), nn.ConvTranspose2d(2, 1, 3, padding=1, stride=2, output_padding=1), hidden()
        )

    def forward(self, x: Tensor) -> Tensor:
        for part in (self.encoder, self.linear, self.decoder):
            utils.reset(part)
        return torch.stack([self.decoder(self.linear(self.encoder(x)[0])[0]) for _ in range(T)])


class OnceForAllSteps(Loose):
    """The current of a constant image is made once, before the loop."""

    def forward(self, x: Tensor) -> Tensor:
        mem1, mem2, out, current = self.lif1.init_leaky(), self.lif2.init_leaky(), [], self.fc1(x)
        for _ in range(T):
            z, mem1 = self.lif1(current, mem1)
            z, mem2 = self.lif2(self.fc2(z), mem2)
            out.append(z)
        return torch.stack(out)


# --------------------------------------------------------------------------------------------- SpikingJelly


def head(outputs: int) -> nn.Module:
    readout = neuron.LIFNode(v_threshold=1e9)
    return nn.Sequential(layer.Linear(F, H), neuron.IFNode(), layer.Linear(H, outputs), readout)


class ActorCritic(nn.Module):
    """A2C and PPO: two heads on one observation for all steps, and their membranes at the end; also DQSN, with one."""

    def __init__(self) -> None:
        super().__init__()
        self.critic, self.actor = head(1), head(2)

    def forward(self, x: Tensor) -> Tensor:
        for _ in range(T):
            self.critic(x)
            self.actor(x)
        return torch.cat([self.critic[-1].v, self.actor[-1].v], 1)


def run_jelly(net: Any, x: Tensor) -> Tensor:
    functional.reset_net(net)
    y: Tensor = net(x)
    return y


def filtered() -> nn.Module:
    """Sequential Fashion-MNIST: a synapse with a memory between neuron and layer."""
    net = nn.Sequential(
        *(layer.Linear(F, H), neuron.IFNode(), layer.SynapseFilter(tau=2.0, learnable=True)),
        *(layer.Linear(H, O), neuron.IFNode()),
    )
    functional.set_step_mode(net, "m")
    return net


class Expanded(nn.Module):
    """Fashion-MNIST: an image expanded along the time, and a mean over it."""

    def __init__(self) -> None:
        super().__init__()
        self.conv_fc = nn.Sequential(
            *(layer.Conv2d(1, 2, 3, bias=False), neuron.IFNode(), layer.MaxPool2d(2), layer.Flatten()),
            *(layer.Linear(18, O, bias=False), neuron.IFNode()),
        )
        functional.set_step_mode(self, "m")

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.conv_fc(x.unsqueeze(0).expand(T, -1, -1, -1, -1)).mean(0)
        return y


class Swapped(nn.Module):
    """Speech commands: around a neuron time and batch change places."""

    def __init__(self) -> None:
        super().__init__()
        self.module = neuron.LIFNode(step_mode="m")

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.module(x.transpose(0, 2)).transpose(0, 2)
        return y


def over_spectrograms() -> nn.Module:
    """(B, C, T, mel): its convolutions take the time for a dimension of space."""
    return nn.Sequential(nn.Conv2d(2, 3, (4, 3), padding=(2, 1)), Swapped(), nn.Conv2d(3, 3, 3, padding=1), Swapped())


# ---------------------------------------------------------------------------------------------------- Norse


class Parallel(nn.Module):
    """The memory task: recurrent cells of two kinds side by side, the batch first."""

    def __init__(self) -> None:
        super().__init__()
        self.lsnn, self.lif = norse.LSNNRecurrentCell(F, H), norse.LIFRecurrentCell(F, H)
        self.readout = norse.LILinearCell(2 * H, O)

    def forward(self, x: Tensor) -> Tensor:
        s1 = s2 = s3 = None
        out = []
        for x_t in x.unbind(1):
            (y, s1), (z, s2) = self.lsnn(x_t, s1), self.lif(x_t, s2)
            v, s3 = self.readout(torch.cat((y, z), -1), s3)
            out.append(v)
        return torch.stack(out)


class Commands(nn.Module):
    """Speech commands, and the policy for a cart pole behind an encoder of currents."""

    def __init__(self) -> None:
        super().__init__()
        self.cell, self.dropout, self.readout = norse.LIFRecurrentCell(F, H), nn.Dropout(0.0), norse.LILinearCell(H, O)

    def forward(self, x: Tensor) -> Tensor:
        s = so = None
        out = torch.zeros(T, x.shape[1], O)
        for ts in range(T):
            z, s = self.cell(x[ts], s)
            out[ts], so = self.readout(self.dropout(z), so)
        return out


class Policy(Commands):
    def __init__(self) -> None:
        super().__init__()
        self.encoder = ConstantCurrentLIFEncoder(T)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(self.encoder(x)).max(0)[0]


class TwoContainers(nn.Module):
    """CIFAR-10: two containers of states, one for the features and one for the classes."""

    def __init__(self) -> None:
        super().__init__()
        self.features = norse.SequentialState(
            *(nn.Conv2d(1, 2, 3), norse.LIFCell(), nn.MaxPool2d(2)),
            *(nn.Conv2d(2, 2, 2), norse.LIFCell(), nn.Flatten()),
        )
        self.classification = norse.SequentialState(nn.Linear(8, O), norse.LICell())

    def forward(self, x: Tensor) -> Tensor:
        s1 = s2 = None
        out = []
        for x_t in x:
            z, s1 = self.features(x_t, s1)
            v, s2 = self.classification(z, s2)
            out.append(v)
        return torch.stack(out)


def call(net: Any, x: Tensor) -> Tensor:
    y: Tensor = net(x)
    return y


CASES = {
    "snntorch tutorial 3": Case(Loose, run_loose, spikes(T, B, F), ["fc1", "fc2"]),
    "snntorch batch norm through time": Case(ThroughTime, call, spikes(T, B, F), ["fc1", "fc2"]),
    "snntorch tutorial 6": Case(convolutional, run_hidden, spikes(T, B, 1, 8, 8), ["0", "3", "7"], gain=4),
    "snntorch autoencoder": Case(
        Autoencoder, call, spikes(B, 1, 8, 8), ["encoder.0", "encoder.3", "linear.0", "decoder.1"], gain=4
    ),
    "spikingjelly a2c": Case(ActorCritic, run_jelly, spikes(B, F), ["critic.0", "actor.0"], gain=1.5),
    "spikingjelly sequential mnist": Case(filtered, run_jelly, spikes(T, B, F), ["0", "3"], "sequences"),
    "spikingjelly fashion mnist": Case(
        Expanded, run_jelly, spikes(B, 1, 8, 8), ["conv_fc.0", "conv_fc.4"], "sequences", gain=3
    ),
    "norse memory": Case(Parallel, call, spikes(B, T, F), ["lsnn", "lif"], gain=20),
    "norse speech commands": Case(Commands, call, spikes(T, B, F), ["cell"], gain=20),
    "norse cart pole": Case(Policy, call, 9 * spikes(B, F), ["cell"], gain=20),
    "norse cifar": Case(TwoContainers, call, spikes(T, B, 1, 8, 8), ["features.0", "features.3"], gain=30),
}


def built(case: Case) -> nn.Module:
    """The network with weights that let its neurons spike."""
    torch.manual_seed(0)
    net = case.make()
    with torch.no_grad():
        for parameter in net.parameters():
            if parameter.dim() > 1:
                parameter.mul_(case.gain).add_(0.1 * case.gain / parameter[0].numel() ** 0.5)
    return net.eval()


@pytest.mark.parametrize("driven", [False, True], ids=["its input", "its loop"])
@pytest.mark.parametrize("name", CASES)
def test_an_example_is_enough_and_delays_are_shifts(name: str, driven: bool) -> None:
    case = CASES[name]
    run, x = case.run, case.x
    takes_input = run is call or (run is run_jelly and not driven)
    example: Any = x if takes_input and not driven else lambda net: run(net, x)
    plain = built(case)
    expected = run(plain, x)
    assert expected.any()
    net = add_delays(built(case), 4, example=example, init=0, interpolation="linear")
    assert [name for name, module in net.named_modules() if hasattr(module, "delay")] == case.layers
    torch.testing.assert_close(run(net, x), expected)
    drawn, shifted = draw_whole_delays(net), built(case)
    for at, delays in drawn.items():
        module = shifted.get_submodule(at)
        if isinstance(module, norse.LIFRecurrentCell | norse.LSNNRecurrentCell):
            shift_cell(module, delays, "input_weights")
        else:
            shift_inputs(module, module, delays, "synaptic", case.sees, B)
    got = run(net, x)
    torch.testing.assert_close(got, run(shifted, x), atol=1e-4, rtol=1e-4)
    assert not torch.allclose(got, expected, atol=1e-3), "the delays make no difference"
    assert torch.equal(run(net, x), got)  # the next sequence begins like the first


def test_what_runs_once_for_all_steps_is_refused_with_the_reason() -> None:
    plan = plan_delays(OnceForAllSteps(), spikes(B, F))
    assert layers(plan) == ["fc2"]
    assert "once for 9 steps of lif1, and its input (3, 4) has no time in front: a delay needs" in reasons(plan)["fc1"]


@pytest.mark.parametrize("batch", [B, 10])
def test_a_convolution_along_the_time_is_refused_with_the_reason(batch: int) -> None:
    told = reasons(plan_delays(over_spectrograms(), spikes(batch, 2, 9, 5)))
    assert set(told) == {"0", "2"}
    assert all("has no time in front" in reason or "its time cannot be told" in reason for reason in told.values())
