"""Why layers are left out, and how to delay them anyway."""

import norse.torch as norse
import pytest
import snntorch
import torch
from spikingjelly.activation_based import layer, neuron, rnn
from torch import Tensor, nn

import delayplug
from delayplug import ArgumentError, WiringError, add_delays, plan_delays
from tests.devices import DEVICE
from tests.networks import MAX_DELAY, B, F, H, InitLeaky, O, T, sequence
from tests.surgery.networks import Masked, Own, Shortcut, layers, leaky, reasons, wires

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:snntorch")


@pytest.mark.parametrize("kind", [Masked, Own])
def test_a_forward_of_its_own_is_asked_for_a_delay_per_channel(kind):
    net = nn.Sequential(kind(F, H), leaky())
    assert "forward of its own: use granularity='axonal'" in reasons(plan_delays(net, sequence()[0]))["0"]
    with pytest.raises(WiringError, match="forward of its own"):
        add_delays(net, 4, example=sequence()[0])


def test_modules_of_torch_with_weights_are_named():
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed = nn.Embedding(7, F)
            self.attention = nn.MultiheadAttention(F, 1)
            self.rnn = nn.GRU(F, H)
            self.lif = leaky()
            self.scale = nn.Parameter(torch.rand(H, H))

        def forward(self, i: Tensor) -> Tensor:
            x = self.embed(i)
            return self.lif(self.rnn(self.attention(x, x, x)[0])[0] @ self.scale)

    plan = plan_delays(Net(), torch.zeros(3, 2, dtype=torch.long))
    assert not plan.connections
    assert set(reasons(plan)) == {"embed", "attention", "rnn", "scale"}
    assert all("of torch's modules only" in reasons(plan)[name] for name in ("embed", "attention", "rnn"))
    assert "uses directly" in reasons(plan)["scale"]


def test_one_to_one_recurrence_and_raw_weights_are_refused_with_a_reason():
    net = nn.Sequential(nn.Linear(F, H), snntorch.RLeaky(beta=0.8, V=0.5, all_to_all=False, init_hidden=True))
    assert "inside of one step" in reasons(plan_delays(net, sequence()[0], recurrent=True))["1"]
    cell = norse.SequentialState(nn.Linear(F, H), norse.LIFCell(), norse.LIFRecurrentCell(H, H))
    assert "recurrent weights cannot be delayed" in str(plan_delays(cell, recurrent=True))
    told = reasons(plan_delays(cell, recurrent=True, granularity="dendritic"))["2"]
    assert "recurrent weights cannot be delayed" in told


@pytest.mark.parametrize("by_example", [True, False])
def test_a_readout_is_left_out_unless_its_layer_is_named(by_example):
    net = norse.SequentialState(nn.Linear(F, H), norse.LIFCell(), nn.Linear(H, O), norse.LICell())
    example = sequence()[0] if by_example else None
    assert "a readout; name it" in reasons(plan_delays(net, example))["2"]
    assert layers(plan_delays(net, example, filter_fn=["2"])) == ["2"]


@pytest.mark.parametrize("by_example", [False, True])
@pytest.mark.parametrize(
    ("make", "x", "reason"),
    [
        (
            lambda: norse.SequentialState(nn.Linear(F, H), norse.LIFRecurrentCell(H, H)),
            None,
            "another layer of weights",
        ),
        (
            lambda: nn.Sequential(nn.Linear(F, H), rnn.SpikingGRU(H, H, 1)),
            torch.ones(T, B, F),
            "another layer of weights",
        ),
        (lambda: nn.Sequential(leaky(), nn.Linear(F, H)), None, "no neuron follows"),
        (lambda: nn.Sequential(nn.Linear(F, F), nn.Linear(F, H), leaky())[::1], None, "another weight layer"),
    ],
    ids=["lif-recurrent", "gru", "last", "two-in-a-row"],
)
def test_refused(make, x, reason, by_example):
    x = torch.ones(B, F) if x is None else x
    plan = plan_delays(make(), x if by_example else None)
    assert "0" not in wires(plan)
    assert reason in next(iter(reasons(plan).values()))


def test_names_that_match_nothing():
    net = nn.Sequential(nn.Linear(F, H), leaky())
    with pytest.raises(ArgumentError, match=r"filter_fn: expected names among 0, got '1'"):
        plan_delays(net, filter_fn=["0", "1"])
    with pytest.raises(ArgumentError, match="Did you mean 'fc2'"):
        plan_delays(Shortcut(), sequence()[0], filter_fn="fc_2")
    with pytest.raises(WiringError, match="0: filter_fn leaves it out"):
        add_delays(net, 4, filter_fn=lambda module, name: name == "fc1")
    with pytest.raises(ArgumentError, match="names among 0, got 1"):
        add_delays(net, 4, init={"1": 2})


def test_filter_fn():
    seen = []

    def only_second(module, name):
        seen.append((type(module), name))
        return name == "fc2"

    plan = plan_delays(InitLeaky(), filter_fn=only_second)
    assert wires(plan) == {"fc2": "lif2"}
    assert reasons(plan) == {"fc1": "filter_fn leaves it out"}
    assert seen == [(nn.Linear, "fc1"), (nn.Linear, "fc2")]


class Forward(nn.Linear):
    """A layer of the forward-forward algorithm: it holds its neuron."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs)
        self.lif = leaky()

    def forward(self, x: Tensor) -> Tensor:
        return self.lif(super().forward(x))


@pytest.mark.parametrize("granularity", ["synaptic", "axonal", "dendritic"])
@pytest.mark.parametrize("by_example", [True, False])
def test_a_layer_that_holds_its_neuron(granularity, by_example):
    net = nn.Sequential(Forward(F, H), Forward(H, O))
    plan = plan_delays(net, sequence()[0] if by_example else None, granularity=granularity)
    assert not plan.connections
    assert {name: "holds a neuron of its own" in reason for name, reason in reasons(plan).items()} == {
        "0": True,
        "1": True,
    }


@pytest.mark.real("lazy parameters")
def test_a_lazy_layer_is_left_out_with_a_reason() -> None:
    net = nn.Sequential(nn.LazyLinear(6), snntorch.Leaky(beta=0.9, init_hidden=True))
    with pytest.raises(delayplug.WiringError, match="run the model once first"):
        delayplug.add_delays(net, 5)


@pytest.mark.real("lazy parameters")
def test_lazy_layers_are_refused_with_an_example_too():
    with pytest.raises(WiringError, match="the size of 0 is not known yet"):
        plan_delays(nn.Sequential(nn.LazyLinear(H), leaky()), sequence()[0])


def test_a_cell_that_norse_does_not_count_among_its_neurons():
    from norse.torch.module.coba_lif import CobaLIFCell

    net = norse.SequentialState(nn.Linear(F, H), CobaLIFCell(H, H), nn.Linear(H, O), norse.LIFCell())
    plan = plan_delays(net)
    assert layers(plan) == ["2"]
    assert "has weights of its own for its input" in reasons(plan)["1"]


def test_a_layer_with_a_memory_has_no_dendritic_delays():
    net = nn.Sequential(layer.DropConnectLinear(F, H), neuron.LIFNode()).to(DEVICE)
    assert "memory of its own" in reasons(plan_delays(net, sequence()[0], granularity="dendritic"))["0"]


class Last(neuron.LIFNode):
    """With the time behind."""

    def forward(self, x):
        self.step_mode = "m"
        return super().forward(x.movedim(-1, 0)).movedim(0, -1)


def test_time_behind_everything_is_refused():
    net = nn.Sequential(layer.TLastSeqToANNContainer(nn.Linear(F, H)), Last())
    for example in (None, sequence().permute(1, 2, 0)):
        with pytest.raises(WiringError, match="hides the time from it"):
            add_delays(net, MAX_DELAY, example=example)


@pytest.mark.parametrize("granularity", ["synaptic", "axonal", "dendritic"])
def test_a_forward_that_was_replaced_on_the_object_is_refused(granularity):
    net = nn.Sequential(nn.Linear(F, H), leaky())
    net[0].forward = net[0].forward  # as tools do that wrap what a module computes
    plan = plan_delays(net, granularity=granularity)
    assert "was replaced on the object" in reasons(plan)["0"]
    del net[0].forward
    assert layers(plan_delays(net, granularity=granularity)) == ["0"]


# ------------------------------------------------------------------------------- what filter_fn selects gets delays


def selected(kind: type[nn.Module]):
    return lambda module, name: isinstance(module, kind)


def plain(kind) -> nn.Module:
    return nn.Sequential(kind(F, H), leaky(), nn.Linear(H, O), leaky())


def rleaky() -> nn.Module:
    return nn.Sequential(nn.Linear(F, H), snntorch.RLeaky(0.9, linear_features=H, init_hidden=True))


REFUSED = {
    "names": (lambda: plain(Masked), ["0", "2"], "0: Masked has a forward of its own: use granularity='axonal'"),
    "function": (lambda: plain(Masked), selected(nn.Linear), "0: Masked has a forward of its own"),
    "cell": (lambda: nn.Sequential(nn.Linear(F, H), snntorch.SLSTM(H, O)), "1", "1: SLSTM has weights of its own"),
    "last": (lambda: nn.Sequential(nn.Linear(F, H), leaky(), nn.Linear(H, O)), ["0", "2"], "2: no neuron follows it"),
    "recurrent": (rleaky, selected(nn.Linear), "1.recurrent: the recurrent connection of 1: pass recurrent=True"),
    "holds": (lambda: nn.Sequential(Forward(F, H), nn.Linear(H, O), leaky()), ["0"], "0: Forward holds a neuron"),
}


@pytest.mark.parametrize("by_example", [False, True])
@pytest.mark.parametrize(("make", "filter_fn", "reason"), REFUSED.values(), ids=REFUSED)
def test_what_filter_fn_selects_gets_delays_or_is_an_error_with_the_reason(make, filter_fn, reason, by_example):
    net = make()
    example = torch.ones(B, F) if by_example else None
    for ask in (plan_delays, lambda net, example, **options: add_delays(net, 3, example=example, **options)):
        with pytest.raises(WiringError, match=f"filter_fn selects a layer that gets no delays.*\n  {reason}"):
            ask(net, example, filter_fn=filter_fn)
    assert not list(delayplug.named_delays(net))


def test_all_layers_that_are_refused_are_listed():
    net = nn.Sequential(Masked(F, H), leaky(), Own(H, H), leaky(), nn.Linear(H, O))
    with pytest.raises(
        WiringError, match=r"selects 3 layers that get no delays.*\n  0: Masked.*\n  2: Own.*\n  4: no neu"
    ):
        plan_delays(net, filter_fn=lambda module, name: True)


@pytest.mark.parametrize("by_example", [False, True])
def test_a_function_selects_as_names_do(by_example):
    net = norse.SequentialState(nn.Linear(F, F), nn.Linear(F, H), norse.LIFCell(), nn.Linear(H, O), norse.LICell())
    example = sequence()[0] if by_example else None
    assert layers(plan_delays(net, example)) == ["1"]
    assert layers(plan_delays(net, example, filter_fn=selected(nn.Linear))) == ["0", "1", "3"]
    assert layers(plan_delays(net, example, filter_fn=lambda module, name: name != "1")) == ["0", "3"]
    assert layers(plan_delays(net, example, filter_fn=["0", "3"])) == ["0", "3"]


@pytest.mark.parametrize("by_example", [False, True])
def test_a_recurrent_connection_that_is_named_needs_nothing_else(by_example):
    net = nn.Sequential(nn.Linear(F, H), snntorch.RLeaky(0.9, linear_features=H, init_hidden=True))
    example = sequence()[0] if by_example else None
    assert layers(plan_delays(net, example, filter_fn=["1.recurrent"])) == ["1.recurrent"]
    assert layers(plan_delays(net, example, filter_fn=["0", "1.recurrent"])) == ["0", "1.recurrent"]


def test_layers_that_have_delays_already_may_be_selected_again():
    net = add_delays(nn.Sequential(nn.Linear(F, H), leaky(), nn.Linear(H, O), leaky()), 3, filter_fn=["0"])
    add_delays(net, 5, filter_fn=["0", "2"])
    assert {name: delay.max_delay for name, delay in delayplug.named_delays(net)} == {"0": 3, "2": 5}


def test_what_is_left_out_for_no_rule_is_warned_of():
    net = nn.Sequential(Masked(F, H), leaky(), nn.Linear(H, O), leaky())
    with pytest.warns(
        UserWarning, match="a layer gets no delays: do what the reason says.*\n  0: Masked has a forward"
    ):
        add_delays(net, 4)


@pytest.mark.filterwarnings("error:.*gets? no delays")
def test_what_is_left_out_by_a_rule_or_as_asked_is_not_warned_of():
    net = norse.SequentialState(nn.Linear(F, F), nn.Linear(F, H), norse.LIFCell(), nn.Linear(H, O), norse.LICell())
    add_delays(net, 3)
    add_delays(nn.Sequential(Masked(F, H), leaky(), nn.Linear(H, O), leaky()), 3, filter_fn=["2"])
    add_delays(nn.Sequential(nn.Linear(F, H), snntorch.RLeaky(0.9, linear_features=H, init_hidden=True)), 3)
