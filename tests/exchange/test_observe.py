"""What a graph does not have is refused by name; what only looks like it is understood."""

from typing import Any

import norse.torch as norse
import pytest
import snntorch as snn
import torch
from spikingjelly.activation_based import functional, layer, neuron
from torch import Tensor, nn

from delayplug import ExchangeError, LearnableDelay, WiringError, from_nir, to_nir
from tests.exchange.models import F, O, box, delayed, make, node, spikes

DT = 1e-3


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


X = spikes(6, 2)


@pytest.mark.parametrize(
    ("between", "reason"),
    [
        (lambda n, s, m, x: n.fc2(s).relu(), "before lif2: the operation relu in the forward of the model"),
        (lambda n, s, m, x: n.fc2(s).clamp(min=0), "before lif2: the operation clamp"),
        (lambda n, s, m, x: n.fc2(s * n.offset), "before fc2: the operation mul"),
        (lambda n, s, m, x: n.fc2(s + n.offset), "before fc2: the operation add"),
        (lambda n, s, m, x: n.fc2(s + 1.0), "before fc2: the operation add"),
        (lambda n, s, m, x: n.fc2(s * x), "before fc2: the operation mul"),
        (lambda n, s, m, x: n.fc2(s.flip(-1)), "before fc2: the operation flip"),
        (lambda n, s, m, x: n.fc2(torch.cat([s[:, :2], x[:, 2:]], 1)), "before fc2: cat of different results"),
        (lambda n, s, m, x: n.fc2(m), "fc2 takes the state of lif1, such as its membrane"),
        (lambda n, s, m, x: n.fc2(torch.ones(2, F)), "the input of fc2 comes neither from that of the model nor"),
        (lambda n, s, m, x: nn.functional.linear(s, n.fc2.weight), "before lif2: the operation "),
        (lambda n, s, m, x: n.fc2(n.lif1(n.fc1(s))[0]), "the input of fc1 comes from elsewhere at some of its calls"),
    ],
)
def test_what_happens_between_modules(between: Any, reason: str) -> None:
    with pytest.raises(ExchangeError, match=reason):
        to_nir(Net(between), X, dt=DT)


@pytest.mark.parametrize(
    "between",
    [
        lambda n, s, m, x: n.fc2(s.detach().clone().view(-1, 1, F).squeeze(1)),
        lambda n, s, m, x: n.fc2(torch.stack([s, s])[0].float().contiguous()),
        lambda n, s, m, x: n.fc2(s + x),
        lambda n, s, m, x: n.fc2(s - 0.5 * x),
        lambda n, s, m, x: 2 * n.fc2(s / 4),
        lambda n, s, m, x: -n.fc2(-s),
        lambda n, s, m, x: n.fc2(sum([s, x])),
    ],
)
def test_what_a_graph_can_say(between: Any) -> None:
    net, x = Net(between), spikes(12)
    with torch.no_grad():
        wanted = net(x)
        assert 0 < wanted.mean() < 1
        for backend in ("snntorch", "norse", "spikingjelly"):
            assert torch.equal(from_nir(to_nir(net, X, dt=DT), backend=backend, dt=DT)(x), wanted)


def test_what_the_model_gives_back() -> None:
    net = Net(last=lambda spk, mem: mem)
    with pytest.raises(ExchangeError, match=r"returns.*the state of lif2, such as its membrane.*outputs="):
        to_nir(net, X, dt=DT)
    graph = to_nir(net, X, dt=DT, outputs=["lif2"])
    assert ("lif2", "output") in graph.edges
    with pytest.raises(
        ExchangeError, match="outputs: lif3 is no layer or neuron that ran; those are fc1, lif1, fc2, lif2"
    ):
        to_nir(net, X, dt=DT, outputs=["lif3"])
    with pytest.raises(ExchangeError, match=r"returns.*the operation exp"):
        to_nir(Net(last=lambda spk, mem: spk.exp()), X, dt=DT)
    readout = Net(last=lambda spk, mem: mem, reset_mechanism="none", beta=0.5)
    with pytest.raises(ExchangeError, match="fc2 takes the spikes of lif1, which never resets"):
        to_nir(readout, X, dt=DT)
    readout.lif1 = snn.Leaky(0.5, reset_mechanism="zero")
    x = spikes(12)
    with torch.no_grad():
        back = from_nir(to_nir(readout, X, dt=DT), backend="norse", dt=DT)
        torch.testing.assert_close(back(x), readout(x))


def test_a_state_that_is_changed_between_steps() -> None:
    """Nothing of this is in a module: only the spikes tell."""

    class Forgetful(Net):
        def forward(self, x: Tensor) -> Tensor:
            out = []
            for x_t in x:
                spk, _ = self.lif1(self.fc1(x_t), torch.zeros(x.shape[1], F))
                out.append(self.lif2(self.fc2(spk), torch.zeros(x.shape[1], O))[0])
            return torch.stack(out)

    with pytest.raises(ExchangeError, match="lif1 fires differently in the graph than in the model"):
        to_nir(Forgetful(), spikes(12), dt=DT)


def test_recurrence() -> None:
    class Loop(Net):
        def forward(self, x: Tensor) -> Tensor:
            mem, spk, out = self.lif1.reset_mem(), torch.zeros(x.shape[1], F), []
            for x_t in x:
                spk, mem = self.lif1(self.fc1(x_t + spk), mem)
                out.append(spk)
            return torch.stack(out)

    with pytest.raises(ExchangeError, match=r"fc1.*(flows back in time|the operation add)"):
        to_nir(Loop(), X, dt=DT)
    rleaky = nn.Sequential(nn.Linear(F, O), snn.RLeaky(0.5, linear_features=O, init_hidden=True))
    with pytest.raises(ExchangeError, match=r"1 \(RLeaky\) feeds spikes back"):
        to_nir(rleaky, dt=DT)
    cell = norse.SequentialState(nn.Linear(F, O), norse.LIFRecurrentCell(O, O))
    with pytest.raises(ExchangeError, match=r"1 \(LIFRecurrentCell\) feeds spikes back"):
        to_nir(cell, dt=DT)


@pytest.mark.parametrize(
    ("parts", "shape", "reason"),
    [
        (
            lambda: [nn.Conv2d(2, 3, 3), nn.MaxPool2d(2), node(0.5)],
            (2, 8, 8),
            "before 2: the operation max_pool2d.* in 1 ",
        ),
        (lambda: [nn.ConvTranspose2d(2, 3, 3), node(0.5)], (2, 8, 8), "0 .ConvTranspose2d..*Conv1d and Conv2d"),
        (lambda: [nn.Conv2d(2, 3, (1, 3)), node(0.5)], (2, 8, 8), "0: a convolution with a kernel of .1, 3."),
        (lambda: [nn.Conv2d(2, 3, 3, padding_mode="circular"), node(0.5)], (2, 8, 8), "0.*padding_mode='circular'"),
        (lambda: [nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3, track_running_stats=False), node(0.5)], (2, 8, 8), "running"),
        (lambda: [nn.AvgPool2d(3, ceil_mode=True), nn.Conv2d(2, 3, 2), node(0.5)], (2, 8, 8), "0.*ceil_mode"),
        (lambda: [nn.Linear(F, O), neuron.EIFNode()], (F,), "1 .EIFNode.*LIFNode"),
        (lambda: [nn.Embedding(F, O), node(0.5)], (F,), "0|run"),
    ],
)
def test_layers(parts: Any, shape: tuple[int, ...], reason: str) -> None:
    with pytest.raises(ExchangeError, match=reason):
        to_nir(nn.Sequential(*parts()), spikes(1, 2, shape)[0], dt=DT)


def test_layers_that_can_be_said() -> None:
    """A batch norm without a layer before it, a dropout, a delay by itself, a layer of a wrapper."""
    torch.manual_seed(3)
    model = nn.Sequential(
        LearnableDelay(F, max_delay=3),
        layer.BatchNorm1d(F),
        layer.Linear(F, O),
        layer.Dropout(0.5),
        neuron.LIFNode(2.0),
    )
    functional.set_step_mode(model, "m")
    model[1].running_mean.copy_(torch.randn(F))
    model[2].weight.data.mul_(8)
    model.eval()
    x = spikes(12)
    with torch.no_grad():
        wanted = model(x)
        functional.reset_net(model)
        assert 0 < wanted.mean() < 1
        graph = to_nir(model, x, dt=DT)
        assert torch.equal(from_nir(graph, backend="spikingjelly", dt=DT)(x), wanted)
    lifted = norse.SequentialState(norse.Lift(nn.Linear(F, O)), norse.LIF())
    graph = to_nir(lifted, dt=DT)
    assert [type(n).__name__ for n in graph.nodes.values()] == ["Input", "Affine", "CubaLIF", "Output"]


def test_models_that_cannot_be_run() -> None:
    with pytest.raises(WiringError, match="no neurons"):
        to_nir(nn.Sequential(nn.Linear(F, O)), X, dt=DT)
    with pytest.raises(ExchangeError, match="pass example="):
        to_nir(Net(), dt=DT)
    with pytest.raises(ExchangeError, match="does not run on the example"):
        to_nir(Net(), torch.zeros(3, 2, F + 1), dt=DT)
    with pytest.raises(ExchangeError, match="no layer or neuron of the model ran"):
        to_nir(Net(), lambda model: None, dt=DT)
    model = make("snntorch")
    model[0].weight.data[0, 0] = float("nan")
    with pytest.raises(ExchangeError, match=r"0 \(Linear\): weights that are NaN"):
        to_nir(model, dt=DT)


def test_one_norse_cell_of_another_time_step() -> None:
    """A step is a step: Norse's dt and tau_mem_inv together say what a step does."""
    parameters = norse.LIFBoxParameters(tau_mem_inv=torch.tensor(100.0))
    model = delayed(norse.SequentialState(nn.Linear(F, O), norse.LIFBoxCell(parameters, dt=0.002)))
    graph = to_nir(model, dt=5e-4)
    assert graph.nodes["1"].tau.tolist() == pytest.approx([5e-4 / 0.2] * O)
    assert box(0.5).dt == 1.0
