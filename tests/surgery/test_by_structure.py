"""The wiring that the structure shows without a run, and what it does not show."""

import norse.torch as norse
import pytest
import snntorch
import torch
from spikingjelly.activation_based import functional, layer, neuron
from torch import Tensor, nn

from delayplug import WiringError, add_delays, plan_delays
from tests.networks import MAX_DELAY, F, H, O, sequence
from tests.surgery.networks import Folded, Hoisted, HoistedLeaky, TwoEars, layers, leaky, reasons, shifted, wires

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:snntorch")


def test_a_neuron_used_twice_is_not_delayed_by_structure():
    shared = leaky()
    assert not plan_delays(nn.Sequential(nn.Linear(F, F), shared, nn.Linear(F, F), shared)).connections


class NeuronFirst(nn.Module):
    """Registered the other way round than it runs."""

    def __init__(self):
        super().__init__()
        self.fc1, self.lif1 = layer.Linear(F, F), neuron.LIFNode()
        self.fc2, self.lif2 = layer.Linear(F, F), neuron.LIFNode()

    def forward(self, x):
        return self.fc2(self.lif2(self.fc1(self.lif1(x))))


@pytest.mark.parametrize("make", [Hoisted, HoistedLeaky, TwoEars, Folded, NeuronFirst])
def test_the_order_of_registration_is_not_taken_for_the_order_of_calls(make):
    with pytest.raises(WiringError, match="pass example="):
        add_delays(make(), MAX_DELAY)


def test_the_recurrent_container_of_norse():
    net = norse.RecurrentSequential(nn.Linear(F, H), norse.LIFCell(), nn.Linear(H, F), norse.LIFCell())

    def run(net: nn.Module) -> None:
        state = None
        for x_t in sequence():
            _, state = net(x_t, state)

    for example in (None, run):
        plan = plan_delays(net, example)
        assert layers(plan) == ["module.2"]
        assert "recurrent connection" in reasons(plan)["module.0"]


class Loops(nn.Module):
    """Registered in order; the forward decides."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.lif1 = nn.Linear(F + H, H), snntorch.Leaky(beta=0.8)
        self.fc2, self.lif2 = nn.Linear(H, H), snntorch.Leaky(beta=0.8)


class Concatenated(Loops):
    def forward(self, x: Tensor) -> Tensor:
        m1, m2 = self.lif1.init_leaky(), self.lif2.init_leaky()
        s1 = torch.zeros(x.shape[1], H)
        for x_t in x:
            s1, m1 = self.lif1(self.fc1(torch.cat([x_t, s1], 1)), m1)
            s2, m2 = self.lif2(self.fc2(s1), m2)
        return s2


class Outside(Loops):
    def forward(self, x: Tensor) -> Tensor:
        m1, m2 = self.lif1.init_leaky(), self.lif2.init_leaky()
        current = self.fc1(x)
        for _ in range(4):
            s1, m1 = self.lif1(current, m1)
            s2, m2 = self.lif2(self.fc2(s1), m2)
        return s2


class Elsewhere(Loops):
    def forward(self, x: Tensor) -> Tensor:
        return self.lif2(self.lif1(nn.functional.linear(x, self.fc1.weight)))


class Plain(Loops):
    def forward(self, x: Tensor) -> Tensor:
        m1, m2 = self.lif1.init_leaky(), self.lif2.init_leaky()
        t = 0
        while t < len(x):
            current = self.fc1(x[t])
            current += 0.1
            s1, m1 = self.lif1(current, m1)
            s2, m2 = self.lif2(self.fc2(s1), m2)
            t += 1
        return s2


@pytest.mark.parametrize(("kind", "plain"), [(Concatenated, 0), (Outside, 0), (Elsewhere, 0), (Plain, 2)])
def test_the_source_of_forward_decides_what_is_plain(kind, plain):
    plan = plan_delays(kind())
    assert len(plan.connections) == plain
    assert all("pass example=" in reason for reason in reasons(plan).values())


@pytest.mark.parametrize("mode", ["s", "m"])
@pytest.mark.parametrize("recurrent", [False, True])
def test_a_layer_in_front_of_a_recurrent_container(mode, recurrent):
    def make():
        net = nn.Sequential(
            layer.Linear(F, H),
            layer.LinearRecurrentContainer(neuron.IFNode(), H, H),
            layer.Linear(H, O),
            neuron.IFNode(),
        )
        functional.set_step_mode(net, mode)
        return net

    x = sequence() if mode == "m" else sequence()[0]
    shown, traced = plan_delays(make(), recurrent=recurrent), plan_delays(make(), x, recurrent=recurrent)
    assert wires(shown) == {"0": "1.sub_module", "2": "3"} | ({"1.rc": "1.sub_module"} if recurrent else {})
    assert {c.layer: c for c in shown.connections} == {c.layer: c for c in traced.connections}
    if recurrent or mode == "s":
        return
    torch.manual_seed(0)
    plain, net = make(), make()
    net.load_state_dict(plain.state_dict())
    for parameter in (*plain.parameters(), *net.parameters()):
        parameter.data *= 3
    delayed = add_delays(net, 4, init=2, interpolation="linear", filter_fn=["0"]).eval()
    expected = plain(shifted(x, 2))
    assert expected.any()
    assert torch.equal(delayed(x), expected)


def test_layers_in_a_row_that_are_named():
    net = nn.Sequential(nn.Linear(F, F), nn.Linear(F, F), nn.Linear(F, H), leaky())
    for example in (None, sequence()[0]):
        assert wires(plan_delays(net, example)) == {"2": "3"}
        assert wires(plan_delays(net, example, filter_fn=["0", "2"])) == {"0": "3", "2": "3"}
        assert wires(plan_delays(net, example, filter_fn=["1"])) == {"1": "3"}
        assert "name it in filter_fn" in reasons(plan_delays(net, example))["0"]
