"""Which layers get delays, by structure and by example, and what is refused with which reason."""

import norse.torch as norse
import pytest
import snntorch
import torch
from spikingjelly.activation_based import functional, layer, neuron, rnn
from torch import nn

from delayplug import ArgumentError, SequenceError, WiringError, add_delays, named_delays, plan_delays, remove_delays
from tests.networks import MAX_DELAY, B, CellNet, Crossed, F, H, InitLeaky, LayerNet, O, ResetMem, T, jelly, sequence

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:snntorch")


def reasons(plan) -> dict[str, str]:
    return {skipped.layer: skipped.reason for skipped in plan.skipped}


def wires(plan) -> dict[str, str]:
    return {c.layer: c.neuron for c in plan.connections}


def leaky(**options) -> nn.Module:
    return snntorch.Leaky(beta=0.8, init_hidden=True, **options)


# ------------------------------------------------------------------------------------------------- the plan


EXAMPLES = {
    "tensor": sequence(steps=2),
    "tuple": (sequence(steps=2),),
    "list": [sequence(steps=2)],
    "dict": {"x": sequence(steps=2)},
    "function": lambda net: net(sequence(steps=2)),
}


@pytest.mark.parametrize("example", EXAMPLES.values(), ids=EXAMPLES)
@pytest.mark.parametrize("make", [InitLeaky, CellNet, LayerNet, ResetMem])
def test_every_form_of_an_example(make, example):
    assert plan_delays(make(), example) == plan_delays(make())


@pytest.mark.parametrize("example", EXAMPLES.values(), ids=EXAMPLES)
def test_an_example_resolves_what_the_order_of_registration_hides(example):
    assert wires(plan_delays(Crossed(), example)) == {"fc1": "lif1", "fc2": "lif2"}
    assert not plan_delays(Crossed()).connections


def test_an_example_shows_wires_that_the_order_gets_wrong():
    class Swapped(InitLeaky):
        def forward(self, x):
            mem1, mem2 = torch.zeros(B, O), torch.zeros(B, H)
            for x_t in x:
                spk, mem2 = self.lif2(self.fc1(x_t), mem2)
                spk, mem1 = self.lif1(self.fc2(spk), mem1)
            return spk

    assert wires(plan_delays(Swapped(), sequence())) == {"fc1": "lif2", "fc2": "lif1"}


def test_filter_fn():
    seen = []

    def only_second(module, name):
        seen.append((type(module), name))
        return name == "fc2"

    plan = plan_delays(InitLeaky(), filter_fn=only_second)
    assert wires(plan) == {"fc2": "lif2"}
    assert reasons(plan) == {"fc1": "filter_fn leaves it out"}
    assert seen == [(nn.Linear, "fc1"), (nn.Linear, "fc2")]


def test_layers_can_be_added_one_by_one():
    net = InitLeaky()
    add_delays(net, 2, filter_fn=lambda module, name: name == "fc1")
    assert [name for name, _ in named_delays(net)] == ["fc1"]
    first = dict(named_delays(net))["fc1"]
    add_delays(net, MAX_DELAY)
    assert [name for name, _ in named_delays(net)] == ["fc1", "fc2"]
    assert dict(named_delays(net))["fc1"] is first
    assert first.max_delay == 2
    assert len(net._forward_pre_hooks) == 1


# ---------------------------------------------------------------------------------------- refused, with reasons


@pytest.mark.parametrize("by_example", [False, True])
@pytest.mark.parametrize(
    ("make", "x", "reason"),
    [
        (
            lambda: norse.SequentialState(nn.Linear(F, H), norse.LIFRecurrentCell(H, H)),
            None,
            "another layer of weights",
        ),
        (lambda: norse.SequentialState(nn.Linear(F, H), norse.LICell()), None, "readout"),
        (
            lambda: nn.Sequential(nn.Linear(F, H), rnn.SpikingGRU(H, H, 1)),
            torch.ones(T, B, F),
            "another layer of weights",
        ),
        (lambda: nn.Sequential(nn.Linear(F, H), neuron.NonSpikingLIFNode(tau=2.0)), None, "readout"),
        (lambda: nn.Sequential(nn.Linear(F, H), neuron.LIFNode(v_threshold=float("inf"))), None, "readout"),
        (lambda: nn.Sequential(nn.Linear(F, H), neuron.LIFNode(v_threshold=1e9)), None, "readout"),
        (lambda: nn.Sequential(leaky(), nn.Linear(F, H)), None, "no neuron follows"),
        (lambda: nn.Sequential(nn.Linear(F, F), nn.Linear(F, H), leaky())[::1], None, "another weight layer"),
    ],
    ids=["lif-recurrent", "li", "gru", "non-spiking", "infinite-threshold", "huge-threshold", "last", "two-in-a-row"],
)
def test_refused(make, x, reason, by_example):
    x = torch.ones(B, F) if x is None else x
    plan = plan_delays(make(), x if by_example else None)
    assert "0" not in wires(plan)
    assert reason in next(iter(reasons(plan).values()))


def test_time_behind_everything_is_refused():
    net = nn.Sequential(layer.TLastSeqToANNContainer(nn.Linear(F, H)), Last())
    for example in (None, sequence().permute(1, 2, 0)):
        with pytest.raises(WiringError, match="hides the time from it"):
            add_delays(net, MAX_DELAY, example=example)


class Last(neuron.LIFNode):
    """With the time behind."""

    def forward(self, x):
        self.step_mode = "m"
        return super().forward(x.movedim(-1, 0)).movedim(0, -1)


def test_a_layer_that_was_not_called():
    net = InitLeaky()
    net.spare = nn.Linear(2, 2)
    assert "not called" in reasons(plan_delays(net, sequence()))["spare"]


def test_a_layer_used_twice_is_refused():
    shared = nn.Linear(F, F)
    net = nn.Sequential(shared, leaky(), shared, leaky())
    assert "used for several neurons: 1, 3" in reasons(plan_delays(net, sequence()[0]))["0"]
    with pytest.raises(WiringError):
        add_delays(net, MAX_DELAY)


def test_a_neuron_used_twice_is_not_delayed_by_structure():
    shared = leaky()
    assert not plan_delays(nn.Sequential(nn.Linear(F, F), shared, nn.Linear(F, F), shared)).connections


# ----------------------------------------------------------------- layer and neuron that do not take turns


class Hoisted(CellNet):
    """The layer runs over the whole sequence, its neuron step by step."""

    def forward(self, x):
        s, currents, out = None, self.fc1(x), []
        for current in currents:
            z, s = self.lif1(current, s)
            out.append(z)
        return torch.stack(out)


class HoistedLeaky(InitLeaky):
    def forward(self, x):
        mem, currents, out = self.lif1.init_leaky(), self.fc1(x), []
        for current in currents:
            spk, mem = self.lif1(current, mem)
            out.append(spk)
        return torch.stack(out)


class TwoEars(CellNet):
    """One layer, two inputs."""

    def forward(self, x):
        s = None
        for x_t in x:
            z, s = self.lif1(self.fc1(x_t) + self.fc1(1 - x_t), s)
        return z


class NeuronFirst(nn.Module):
    """Registered the other way round than it runs."""

    def __init__(self):
        super().__init__()
        self.fc1, self.lif1 = layer.Linear(F, F), neuron.LIFNode()
        self.fc2, self.lif2 = layer.Linear(F, F), neuron.LIFNode()

    def forward(self, x):
        return self.fc2(self.lif2(self.fc1(self.lif1(x))))


class Folded(nn.Module):
    """Time folded into the batch around a plain Linear, as SpikingJelly offers it."""

    def __init__(self):
        super().__init__()
        self.fc1 = nn.Linear(F, H)
        self.lif1 = neuron.LIFNode(step_mode="m")

    def forward(self, x):
        return self.lif1(functional.seq_to_ann_forward(x, self.fc1))


@pytest.mark.parametrize("make", [Hoisted, HoistedLeaky, TwoEars, Folded, NeuronFirst])
def test_the_order_of_registration_is_not_taken_for_the_order_of_calls(make):
    with pytest.raises(WiringError, match="pass example="):
        add_delays(make(), MAX_DELAY)


def test_layer_and_neuron_must_take_turns():
    class Fickle(CellNet):
        loops = True

        def forward(self, x):
            return super().forward(x) if self.loops else Hoisted.forward(self, x)

    net = Fickle()
    add_delays(net, MAX_DELAY, example=sequence())
    net(sequence())
    net.loops = False  # not what the example showed
    with pytest.raises(SequenceError, match="called alternately"):
        net(sequence())


def test_turns_that_do_not_fit_are_refused():
    net = TwoEars()
    plain = {name: type(module) for name, module in net.named_modules()}
    with pytest.raises(WiringError, match="turns"):
        add_delays(net, MAX_DELAY, example=sequence())
    assert {name: type(module) for name, module in net.named_modules()} == plain


@pytest.mark.parametrize(
    ("make", "turns", "time"),
    [
        (Hoisted, "sequence-then-steps", "first"),
        (HoistedLeaky, "sequence-then-steps", "first"),
        (Folded, "together", "folded"),
    ],
)
def test_turns_that_an_example_shows(make, turns, time):
    place = plan_delays(make(), sequence()).connections[0].place
    assert (place.turns, place.time) == (turns, time)


@pytest.mark.parametrize("example", [None, sequence()])
def test_a_neuron_inside_of_lift_steps_where_its_layer_does_not(example):
    net = nn.Sequential(norse.Lift(nn.Linear(F, H)), norse.Lift(norse.LIFCell()))
    with torch.no_grad():
        net[0].lifted_module.weight.mul_(60)
    plain = net(sequence())[0]
    delay = dict(named_delays(add_delays(net, MAX_DELAY, example=example, init=2, interpolation="linear")))["0"]
    late = net(sequence())[0]
    earlier = torch.cat((torch.zeros(2, B, F), sequence()[:-2]))
    with torch.no_grad():
        delay.delays.zero_()
    torch.testing.assert_close(net(sequence())[0], plain)
    torch.testing.assert_close(net(earlier)[0], late)
    assert not torch.equal(late, plain)


def test_a_shared_cell_of_norse():
    class Shared(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc1, self.fc2, self.lif = nn.Linear(F, H), nn.Linear(H, O), norse.LIFCell()

        def forward(self, x):
            s1 = s2 = None
            out = []
            for x_t in x:
                z, s1 = self.lif(self.fc1(x_t), s1)
                z, s2 = self.lif(self.fc2(z), s2)
                out.append(s2.i)
            return torch.stack(out)

    torch.manual_seed(0)
    net = Shared()
    with torch.no_grad():
        net.fc1.weight.mul_(60)
    silence = torch.zeros(3, B, F)
    x = torch.cat((silence, sequence()))  # silent first: states of zeros are not new states
    plain = net(x)
    add_delays(net, MAX_DELAY, example=x, init=0, interpolation="linear")
    torch.testing.assert_close(net(x), plain)
    delays = dict(named_delays(net))
    assert list(delays) == ["fc1", "fc2"]
    with torch.no_grad():
        delays["fc1"].delays.fill_(2)
    late = net(x)
    earlier = torch.cat((torch.zeros(2, B, F), x[:-2]))
    torch.testing.assert_close(late[2:], remove_delays(net)(earlier)[2:])
    assert not torch.allclose(late, plain)


# ------------------------------------------------------------------------------------------- parts of a model


def test_delays_added_to_parts_can_be_removed_from_the_whole():
    net = nn.ModuleDict({"a": CellNet(), "b": CellNet()})
    before = {name: type(module) for name, module in net.named_modules()}
    for part in net.values():
        add_delays(part, MAX_DELAY)
    wrapper = nn.Sequential(net)
    remove_delays(wrapper)
    assert {name: type(module) for name, module in net.named_modules()} == before
    assert not any(module._forward_pre_hooks or module._forward_hooks for module in wrapper.modules())


def test_an_attribute_named_delay_is_not_overwritten():
    net = InitLeaky()
    net.fc2.delay = 3
    with pytest.raises(WiringError, match="'delay' of its own"):
        add_delays(net, MAX_DELAY)
    assert not list(named_delays(net))
    assert net.fc2.delay == 3


def test_spikingjelly_follows_a_change_of_mode():
    net = add_delays(jelly("m"), MAX_DELAY, init=2, interpolation="linear").eval()
    x = sequence()
    whole = net(x)
    functional.reset_net(net)
    functional.set_step_mode(net, "s")
    assert torch.allclose(torch.stack([net(x_t) for x_t in x]), whole)


def test_an_example_of_another_type_is_refused():
    with pytest.raises(ArgumentError, match="example"):
        plan_delays(InitLeaky(), "x")
    with pytest.raises(ArgumentError, match="example"):
        plan_delays(InitLeaky(), nn.Linear(1, 1))
