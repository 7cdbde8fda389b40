"""One rule for the readouts of all toolkits: what counts is whether a call of the neuron gives spikes."""

import norse.torch as norse
import pytest
import snntorch
import torch
from spikingjelly.activation_based import functional, neuron
from torch import Tensor, nn

from delayplug import add_delays, named_delays, plan_delays
from delayplug.surgery.readouts import gives_membrane
from delayplug.toolkits import plugins
from tests.networks import F, H, O, sequence
from tests.surgery.networks import layers, leaky, reasons

pytestmark = pytest.mark.filterwarnings("ignore")


class LeakyMembrane(snntorch.Leaky):
    def forward(self, x: Tensor, mem: Tensor | None = None) -> tuple[Tensor, Tensor]:
        _, mem = super().forward(x, mem)
        return mem, mem


class HiddenMembrane(snntorch.Leaky):
    """As above, with the state on itself."""

    def forward(self, x: Tensor) -> Tensor:
        super().forward(x)
        return self.mem


class CellMembrane(norse.LIFCell):
    def forward(self, x: Tensor, state=None):
        _, state = super().forward(x, state)
        return state.v, state


class NodeMembrane(neuron.LIFNode):
    """What many networks of reinforcement learning have at their end."""

    def single_step_forward(self, x: Tensor) -> Tensor:
        super().single_step_forward(x)
        return self.v


class NodeMembranes(neuron.LIFNode):
    """Over whole sequences."""

    def forward(self, x: Tensor) -> Tensor:
        super().forward(x)
        return self.v_seq


class NodeBoth(neuron.LIFNode):
    """Spikes first, and its membrane beside them."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return super().forward(x), self.v


class Loud(neuron.LIFNode):
    """Graded spikes are spikes."""

    def single_step_forward(self, x: Tensor) -> Tensor:
        return 2.5 * super().single_step_forward(x)


class Picky(neuron.LIFNode):
    """Does not run on what it is tried on."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.view(-1, O))


class Step(nn.Module):
    """A loop around a layer, a spiking neuron, a layer, and the last neuron, whose state is passed on or not."""

    def __init__(self, spiking: nn.Module, last: nn.Module) -> None:
        super().__init__()
        self.fc1, self.lif, self.fc2, self.last = nn.Linear(F, H), spiking, nn.Linear(H, O), last


class Stateful(Step):
    def forward(self, x: Tensor) -> Tensor:
        s = so = None
        for x_t in x:
            z, s = self.lif(self.fc1(x_t), s)
            v, so = self.last(self.fc2(z), so)
        return v


class Holding(Step):
    def forward(self, x: Tensor) -> Tensor:
        return torch.stack([self.last(self.fc2(self.lif(self.fc1(x_t)))) for x_t in x])


READOUTS = {
    "norse LI": lambda: Stateful(norse.LIFCell(), norse.LICell()),
    "norse that never fires": lambda: Stateful(
        norse.LIFCell(), norse.LIFCell(norse.LIFParameters(v_th=torch.tensor(torch.inf)))
    ),
    "norse membrane": lambda: Stateful(norse.LIFCell(), CellMembrane()),
    "snntorch that never fires": lambda: Stateful(
        snntorch.Leaky(0.9, reset_mechanism="none"), snntorch.Leaky(0.9, threshold=1e9)
    ),
    "snntorch membrane": lambda: Stateful(snntorch.Leaky(0.9), LeakyMembrane(0.9, reset_mechanism="none")),
    "snntorch held membrane": lambda: Holding(leaky(), HiddenMembrane(0.9, init_hidden=True)),
    "spikingjelly that does not spike": lambda: Holding(neuron.LIFNode(), NodeMembrane(v_threshold=torch.inf)),
    "spikingjelly membrane": lambda: Holding(neuron.LIFNode(), NodeMembrane()),
    "spikingjelly sequences": lambda: nn.Sequential(
        nn.Linear(F, H), neuron.LIFNode(step_mode="m"), nn.Linear(H, O), NodeMembranes(step_mode="m", store_v_seq=True)
    ),
    "spikingjelly non-spiking": lambda: nn.Sequential(
        nn.Linear(F, H), neuron.LIFNode(step_mode="m"), nn.Linear(H, O), neuron.NonSpikingLIFNode(tau=2.0)
    ),
}
SPIKING = {
    "norse": lambda: Stateful(norse.LIFCell(), norse.LIFBoxCell()),
    "snntorch whose membrane is read": lambda: Stateful(
        snntorch.Leaky(0.9), snntorch.Leaky(0.9, reset_mechanism="none")
    ),
    "spikingjelly and its membrane": lambda: nn.Sequential(
        nn.Linear(F, H), neuron.LIFNode(), nn.Linear(H, O), NodeBoth()
    ),
    "graded": lambda: Holding(neuron.LIFNode(), Loud()),
    "unknown": lambda: Holding(neuron.LIFNode(), Picky()),
}


def drive(net: nn.Module) -> None:
    functional.reset_net(net)
    net(sequence())


@pytest.mark.parametrize("by_example", [False, True])
@pytest.mark.parametrize("make", READOUTS.values(), ids=READOUTS)
def test_a_neuron_that_gives_no_spikes_is_a_readout(make, by_example: bool) -> None:
    example = drive if by_example else None
    plan = plan_delays(make(), example)
    (left_out,) = [name for name, reason in reasons(plan).items() if "a readout; name it in filter_fn" in reason]
    assert left_out == ("2" if isinstance(make(), nn.Sequential) else "fc2")
    assert len(plan.connections) == 1
    assert left_out in str(plan)
    named = [*layers(plan), left_out]
    net = add_delays(make(), 2, example=example, filter_fn=named)
    assert [name for name, _ in named_delays(net)] == named
    drive(net)


@pytest.mark.parametrize("by_example", [False, True])
@pytest.mark.parametrize("make", SPIKING.values(), ids=SPIKING)
def test_a_neuron_that_gives_spikes_is_none_though_its_membrane_may_be_read(make, by_example: bool) -> None:
    plan = plan_delays(make(), drive if by_example else None)
    assert len(plan.connections) == 2
    if by_example:
        assert "feeds no further layer" in plan.connections[-1].note
        assert f"(filter_fn leaves {layers(plan)[-1]} out)" in plan.connections[-1].note


def test_neurons_that_are_tried_stay_as_they_were() -> None:
    toolkit = plugins.toolkit("spikingjelly")
    node = NodeMembrane(tau=1.5)
    node(torch.ones(3, O))
    before, seed = node.v, torch.get_rng_state()
    called = []
    node.register_forward_hook(lambda *_: called.append(1))
    assert gives_membrane(toolkit, node)
    assert node.v is before
    assert not called
    assert torch.equal(torch.get_rng_state(), seed)
    assert not gives_membrane(toolkit, neuron.LIFNode())


@pytest.mark.parametrize("by_example", [False, True])
def test_where_there_is_nothing_else_it_gets_the_delays(by_example: bool) -> None:
    """Whoever asks for delays in a network of one layer means that layer."""
    net = nn.Sequential(nn.Linear(F, H), neuron.NonSpikingLIFNode())
    functional.set_step_mode(net, "m")
    add_delays(net, 2, example=drive if by_example else None)
    assert [name for name, _ in named_delays(net)] == ["0"]


def test_but_not_where_another_layer_may_be_meant() -> None:
    net = nn.Sequential(nn.Linear(F, H), nn.Linear(H, H), neuron.NonSpikingLIFNode())
    plan = plan_delays(net)
    assert not plan.connections
    assert "a readout" in reasons(plan)["1"]
