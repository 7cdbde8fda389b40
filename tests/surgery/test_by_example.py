"""The wiring that a run shows: shortcuts, chains, recurrence by hand, and where the time is."""

import norse.torch as norse
import pytest
import snntorch
import torch
from spikingjelly.activation_based import functional, neuron
from torch import Tensor, nn

from delayplug import WiringError, add_delays, named_delays, plan_delays, remove_delays
from delayplug.testing.laws import draw_whole_delays, shift_inputs
from tests.networks import MAX_DELAY, B, CellNet, Crossed, F, H, InitLeaky, LayerNet, O, ResetMem, sequence
from tests.surgery.networks import (
    Folded,
    Hoisted,
    HoistedLeaky,
    Shortcut,
    TwoEars,
    layers,
    leaky,
    reasons,
    stepped,
    wires,
)

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:snntorch")


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


def test_calls_that_do_not_alternate_are_refused():
    net = TwoEars()
    plain = {name: type(module) for name, module in net.named_modules()}
    with pytest.raises(WiringError, match="called alternately"):
        add_delays(net, MAX_DELAY, example=sequence())
    assert {name: type(module) for name, module in net.named_modules()} == plain


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


class Recurrent(nn.Module):
    """A recurrence written by hand, and one from the top down."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.lif1 = nn.Linear(F, H), snntorch.Leaky(beta=0.8, threshold=0.2)
        self.fc2, self.lif2 = nn.Linear(H, H), snntorch.Leaky(beta=0.8, threshold=0.2)
        self.own, self.back = nn.Linear(H, H, bias=False), nn.Linear(H, H, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        m1, m2 = self.lif1.init_leaky(), self.lif2.init_leaky()
        s1 = s2 = torch.zeros(x.shape[1], H)
        out = []
        for x_t in x:
            s1, m1 = self.lif1(self.fc1(x_t) + self.own(s1) + self.back(s2), m1)
            s2, m2 = self.lif2(self.fc2(s1), m2)
            out.append(s2)
        return torch.stack(out)


def test_recurrence_by_hand():
    torch.manual_seed(0)
    net, x = Recurrent(), sequence()
    plan = plan_delays(net, x)
    assert layers(plan) == ["fc1", "fc2"]
    assert all("pass recurrent=True" in reasons(plan)[name] for name in ("own", "back"))
    plain = net(x)
    add_delays(net, 4, example=x, recurrent=True, init=0, interpolation="linear")
    assert [name for name, _ in named_delays(net)] == ["fc1", "fc2", "own", "back"]
    torch.testing.assert_close(net(x), plain)
    drawn = draw_whole_delays(net)
    late = net(x)
    other = Recurrent()
    other.load_state_dict({k: v for k, v in net.state_dict().items() if "delay" not in k})
    for name, delays in drawn.items():
        module = other.get_submodule(name)
        shift_inputs(module, module, delays, "synaptic", "steps", B)
    torch.testing.assert_close(other(x), late)
    assert not torch.equal(late, plain)


class Parallel(Shortcut):
    def forward(self, x: Tensor) -> Tensor:
        return self.lif2(self.fc2(self.lif1(self.fc1(x) + self.skip(x))))


class Chain(Shortcut):
    def forward(self, x: Tensor) -> Tensor:
        return self.lif2(self.fc2(self.lif1(self.skip.weight.sum() * 0 + self.fc1(x))))


def test_a_shortcut_is_left_out_unless_it_is_named():
    torch.manual_seed(0)
    net, x = Shortcut(), sequence()
    plan = plan_delays(net, x[0])
    assert layers(plan) == ["fc1", "fc2"]
    assert "a shortcut: it joins fc2" in reasons(plan)["skip"]
    add_delays(net, 4, example=x[0], filter_fn=["skip", "fc2"])
    assert [name for name, _ in named_delays(net)] == ["fc2", "skip"]
    stepped(net, x)


def test_parallel_layers_are_no_shortcuts():
    assert layers(plan_delays(Parallel(), sequence()[0])) == ["fc1", "fc2", "skip"]


def test_weights_that_are_used_without_their_layer_are_named():
    assert "not called" in reasons(plan_delays(Chain(), sequence()[0]))["skip"]


@pytest.mark.parametrize("by_example", [True, False])
def test_two_layers_in_a_row(by_example):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(F, H), nn.LayerNorm(H), nn.Linear(H, H), leaky())
    x = sequence(steps=12)
    example = x[0] if by_example else None
    plan = plan_delays(net, example)
    assert layers(plan) == ["2"]
    assert "another weight layer" in reasons(plan)["0"]
    if by_example:
        add_delays(net, 4, example=example, filter_fn="0", init=3, interpolation="linear")
        late = stepped(net, x)
        assert [c.layer for c in plan_delays(remove_delays(net), example, filter_fn=("0",)).connections] == ["0"]
        silent = net[0].bias  # what the first layer gives without input is not delayed
        assert silent.any()
        torch.testing.assert_close(late, stepped(net, torch.cat((torch.zeros(3, B, F), x[:-3]))))


class Static(nn.Module):
    """An image that is looked at once, and then for several steps."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.lif1 = nn.Conv2d(1, 2, 3), snntorch.Leaky(beta=0.8)
        self.fc, self.lif2 = nn.Linear(18, O), snntorch.Leaky(beta=0.8)

    def forward(self, image: Tensor) -> Tensor:
        m1, m2 = self.lif1.init_leaky(), self.lif2.init_leaky()
        current = self.conv(image)
        for _ in range(4):
            s, m1 = self.lif1(current, m1)
            _, m2 = self.lif2(self.fc(s.flatten(1)), m2)
        return m2


def test_a_layer_without_time_is_left_out():
    plan = plan_delays(Static(), torch.rand(3, 1, 5, 5))
    assert layers(plan) == ["fc"]
    assert "has no time in front" in reasons(plan)["conv"]


class BatchFirst(nn.Module):
    """(B, T, F), the layer over all of it, its neuron over the time."""

    def __init__(self, axis: int) -> None:
        super().__init__()
        self.fc, self.lif, self.axis = nn.Linear(F, H), snntorch.Leaky(beta=0.8, threshold=0.2), axis

    def forward(self, x: Tensor) -> Tensor:
        mem, out = self.lif.init_leaky(), []
        currents = 2 * self.fc(x)
        for t in range(x.shape[self.axis]):
            spikes, mem = self.lif(currents.select(self.axis, t), mem)
            out.append(spikes)
        return torch.stack(out)


@pytest.mark.parametrize("steps", [6, B])
@pytest.mark.parametrize("axis", [0, 1])
def test_time_is_told_from_the_batch(axis, steps):
    torch.manual_seed(0)
    net, x = BatchFirst(axis), sequence(steps=steps) if axis == 0 else sequence(steps=steps).transpose(0, 1)
    (c,) = plan_delays(net, x).connections
    assert c.place.time == ("first" if axis == 0 else "second")
    assert c.place.turns == "sequence-then-steps"


def test_time_that_cannot_be_told_from_the_batch_is_refused():
    class Unclear(BatchFirst):
        def forward(self, x: Tensor) -> Tensor:
            mem = self.lif.init_leaky()
            for current in self.fc(x).tolist():
                _, mem = self.lif(torch.tensor(current), mem)
            return mem

    class Both(BatchFirst):
        def forward(self, x: Tensor) -> Tensor:
            mem, currents = self.lif.init_leaky(), self.fc(x)
            for current in (*currents[:2], currents[:, 2]):
                _, mem = self.lif(current, mem)
            return mem

    assert "no neuron follows" in reasons(plan_delays(Unclear(0), sequence()))["fc"]
    assert "cannot be told from its batch" in reasons(plan_delays(Both(0), sequence(steps=B)))["fc"]


def test_a_folded_layer_without_anybody_who_knows_the_time():
    class Inside(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc, self.lif = nn.Linear(F, H), neuron.LIFNode(step_mode="m")

        def forward(self, image: Tensor) -> Tensor:
            x = image.repeat(4, 1, 1)
            return self.lif(functional.seq_to_ann_forward(x, self.fc))

    plan = plan_delays(Inside(), torch.rand(B, F))
    assert "no module around it has the time" in reasons(plan)["fc"]
