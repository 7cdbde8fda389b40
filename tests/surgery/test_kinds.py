"""Layers that are not just linear: convolutions, forwards of their own, weights of their own, recurrence."""

import norse.torch as norse
import pytest
import snntorch
import torch
from spikingjelly.activation_based import functional, layer, neuron, rnn
from torch import Tensor, nn
from torch.nn.utils import parametrizations, prune

from delayplug import ArgumentError, WiringError, add_delays, describe_delays, named_delays, plan_delays, remove_delays
from delayplug.testing.laws import draw_whole_delays, shift_inputs
from tests.networks import B, F, H, O, sequence

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:snntorch")


def reasons(plan) -> dict[str, str]:
    return {skipped.layer: skipped.reason for skipped in plan.skipped}


def layers(plan) -> list[str]:
    return [c.layer for c in plan.connections]


def leaky(**options) -> nn.Module:
    return snntorch.Leaky(beta=0.8, init_hidden=True, threshold=0.2, **options)


def stepped(net: nn.Module, x: Tensor) -> Tensor:
    """A sequence through a network of `init_hidden` neurons."""
    for module in net.modules():
        if isinstance(module, snntorch.SpikingNeuron):
            module.reset_mem()
    return torch.stack([net(x_t) for x_t in x])


# ------------------------------------------------------------------------------------ forwards of their own


class Masked(nn.Linear):
    """Some synapses are not there."""

    def __init__(self, *args) -> None:
        super().__init__(*args)
        self.register_buffer("mask", (torch.rand_like(self.weight) < 0.5).float())

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.linear(x, self.weight * self.mask, self.bias)


class Own(nn.Module):
    """Not even a subclass: a matrix, the wrong way round."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.w, self.b = nn.Parameter(torch.randn(inputs, outputs)), nn.Parameter(torch.rand(outputs))

    def forward(self, x: Tensor) -> Tensor:
        return x @ self.w + self.b


@pytest.mark.parametrize("kind", [Masked, Own])
def test_a_forward_of_its_own_is_asked_for_a_delay_per_channel(kind):
    net = nn.Sequential(kind(F, H), leaky())
    assert "forward of its own: give it granularity='axonal'" in reasons(plan_delays(net, sequence()[0]))["0"]
    with pytest.raises(WiringError, match="forward of its own"):
        add_delays(net, 4, example=sequence()[0])


@pytest.mark.parametrize("granularity", ["axonal", "dendritic"])
@pytest.mark.parametrize("kind", [Masked, Own])
def test_a_forward_of_its_own_is_called(kind, granularity):
    torch.manual_seed(0)
    net, x = nn.Sequential(kind(F, H), leaky()), sequence(steps=12)
    plain = stepped(net, x)
    add_delays(net, 4, example=x[0], granularity=granularity, init=0, interpolation="linear")
    torch.testing.assert_close(stepped(net, x), plain)
    (_, delay), *_ = named_delays(net)
    assert delay.delays.shape == (F if granularity == "axonal" else H,)
    with torch.no_grad():
        delay.delays.fill_(3)
    late = stepped(net, x)
    remove_delays(net)
    torch.testing.assert_close(late, stepped(net, torch.cat((torch.zeros(3, B, F), x[:-3]))))
    assert not torch.equal(late, plain)


def test_parametrizations_and_pruning_are_weights_like_any_other():
    torch.manual_seed(0)
    net = nn.Sequential(parametrizations.weight_norm(nn.Linear(F, H)), leaky(), nn.Linear(H, O), leaky())
    prune.random_unstructured(net[2], "weight", amount=0.3)
    x = sequence()
    plain = stepped(net, x)
    add_delays(net, 4, init=0, interpolation="linear")
    torch.testing.assert_close(stepped(net, x), plain)
    stepped(net, x).sum().backward()
    assert net[0].parametrizations.weight.original0.grad is not None
    assert net[2].weight_orig.grad is not None


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


# ---------------------------------------------------------------------------- cells with weights of their own


@pytest.mark.parametrize(
    ("make", "x"),
    [
        (lambda: nn.Sequential(snntorch.SLSTM(F, F, init_hidden=True, threshold=0.1)), sequence()),
        (lambda: nn.Sequential(snntorch.LeakyParallel(F, H)), sequence()),
        (lambda: nn.Sequential(rnn.SpikingLSTM(F, H, 1)), sequence()),
    ],
    ids=["slstm", "leaky-parallel", "spiking-lstm"],
)
def test_a_cell_with_weights_has_its_input_delayed(make, x):
    torch.manual_seed(0)
    net = make()
    steps = isinstance(net[0], snntorch.SLSTM)

    def run(x: Tensor) -> Tensor:
        out = stepped(net, x) if steps else net(x)
        return out[0] if isinstance(out, tuple) else out

    assert "granularity='axonal'" in reasons(plan_delays(net))["0"]
    plain = run(x)
    earlier = run(torch.cat((torch.zeros(2, B, F), x[:-2])))
    for example in (None, x[0] if steps else x):
        add_delays(net, 4, example=example, granularity="axonal", init=0, interpolation="linear")
        for _ in range(2):
            torch.testing.assert_close(run(x), plain)
        with torch.no_grad():
            net[0].delay.delays.fill_(2)
        for _ in range(2):
            torch.testing.assert_close(run(x), earlier)
        remove_delays(net)


# --------------------------------------------------------------------------------------------- recurrence


@pytest.mark.parametrize("reset", ["subtract", "zero", "none"])
@pytest.mark.parametrize("make", [snntorch.RLeaky, snntorch.RSynaptic])
def test_recurrent_weights_of_snntorch(make, reset):
    torch.manual_seed(0)
    alpha = {"alpha": 0.5} if make is snntorch.RSynaptic else {}
    options = {"linear_features": H, "init_hidden": True, "reset_mechanism": reset, "threshold": 0.2, **alpha}
    net, x = nn.Sequential(nn.Linear(F, H), make(beta=0.7, **options)), sequence()
    assert layers(plan_delays(net)) == layers(plan_delays(net, x[0])) == ["0"]
    assert "pass recurrent=True" in reasons(plan_delays(net))["1.recurrent"]
    plain = stepped(net, x)
    for example in (None, x[0]):
        add_delays(net, 4, example=example, recurrent=True, init=0, interpolation="linear")
        delays = dict(named_delays(net))
        assert list(delays) == ["0", "1.recurrent"]
        for _ in range(2):
            torch.testing.assert_close(stepped(net, x), plain)
        with torch.no_grad():
            delays["1.recurrent"].delays.fill_(2)
        late = stepped(net, x)
        assert not torch.equal(late, plain)
        remove_delays(net)
        recurrent, spikes = net[1].recurrent, []

        def shifted(x: Tensor, spikes: list = spikes, forward=recurrent.forward) -> Tensor:
            if not spikes or spikes[-1] is not x:  # a reset to zero asks twice
                spikes.append(x)
            return forward(spikes[-3] if len(spikes) > 2 else torch.zeros_like(x))

        recurrent.forward = shifted
        torch.testing.assert_close(stepped(net, x), late)
        del recurrent.forward


def test_one_to_one_recurrence_and_raw_weights_are_refused_with_a_reason():
    net = nn.Sequential(nn.Linear(F, H), snntorch.RLeaky(beta=0.8, V=0.5, all_to_all=False, init_hidden=True))
    assert "inside of one step" in reasons(plan_delays(net, sequence()[0], recurrent=True))["1"]
    cell = norse.SequentialState(nn.Linear(F, H), norse.LIFCell(), norse.LIFRecurrentCell(H, H))
    assert "recurrent weights cannot be delayed" in reasons(plan_delays(cell, recurrent=True))["2"]


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


@pytest.mark.parametrize("mode", ["s", "m"])
@pytest.mark.parametrize("by_example", [True, False])
def test_the_recurrent_container_of_spikingjelly(mode, by_example):
    torch.manual_seed(0)
    node = neuron.LIFNode(v_threshold=0.2, step_mode="s")
    net = nn.Sequential(layer.Linear(F, H), neuron.LIFNode(v_threshold=0.2), layer.LinearRecurrentContainer(node, H, H))
    for module in (net[0], net[1], net[2]):
        module.step_mode = mode
    x = sequence()

    def run(net: nn.Module) -> Tensor:
        functional.reset_net(net)
        return net(x) if mode == "m" else torch.stack([net(x_t) for x_t in x])

    example = run if by_example else None
    plan = plan_delays(net, example)
    assert layers(plan) == ["0"]
    assert "pass recurrent=True" in reasons(plan)["2.rc"]
    plain = run(net)
    add_delays(net, 4, example=example, recurrent=True, init=0, interpolation="linear")
    assert [name for name, _ in named_delays(net)] == ["0", "2.rc"]
    for _ in range(2):
        assert torch.equal(run(net), plain)
    with torch.no_grad():
        net[2].rc.delay.delays.fill_(2)
    assert not torch.equal(run(net), plain)


# ------------------------------------------------------------------------------------- shortcuts and chains


class Shortcut(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.lif1 = nn.Linear(F, H), leaky()
        self.fc2, self.lif2, self.skip = nn.Linear(H, H), leaky(), nn.Linear(F, H)

    def forward(self, x: Tensor) -> Tensor:
        return self.lif2(self.fc2(self.lif1(self.fc1(x))) + self.skip(x))


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


@pytest.mark.parametrize("by_example", [True, False])
def test_a_readout_is_left_out_unless_its_layer_is_named(by_example):
    net = norse.SequentialState(nn.Linear(F, H), norse.LIFCell(), nn.Linear(H, O), norse.LICell())
    example = sequence()[0] if by_example else None
    assert "a readout; name it" in reasons(plan_delays(net, example))["2"]
    assert layers(plan_delays(net, example, filter_fn=["2"])) == ["2"]


def test_a_spiking_readout_is_named_in_the_report():
    net = nn.Sequential(nn.Linear(F, H), leaky(), nn.Linear(H, O), leaky())
    plan = plan_delays(net, sequence()[0])
    assert [bool(c.note) for c in plan.connections] == [False, True]
    assert "feeds no further layer" in str(plan)


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


# --------------------------------------------------------------------------------------------- time and batch


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
    assert "its input has no time in front" in reasons(plan)["conv"]


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
    assert "no module around it is given the time" in reasons(plan)["fc"]


# --------------------------------------------------------------------------------------------- descriptions


def test_describe_delays():
    net = norse.SequentialState(nn.Linear(F, H), norse.LIFCell(), nn.Linear(H, O), norse.LICell())
    assert "No layer has delays" in str(describe_delays(net))
    add_delays(net, 4, init=3, example=sequence()[0])
    description = describe_delays(net)
    (row,) = description.rows
    assert (row.layer, row.neuron, row.granularity, row.runs) == ("0", "1", "synaptic", "step by step")
    assert (row.least, row.mean, row.most, row.max_delay, row.parameters) == (3, 3, 3, 4, F * H)
    assert row.sigma == pytest.approx(2.27)
    assert [s.layer for s in description.skipped] == ["2"]
    text = str(description)
    assert "3.0 - 3.0" in text
    assert "a call without the state that was returned" in text
    assert "a readout" in text
    add_delays(net, 4, filter_fn="2", granularity="axonal", interpolation="linear")
    again = describe_delays(net)
    assert [row.layer for row in again.rows] == ["0", "2"]
    assert again.rows[1].sigma is None
    assert not again.skipped


def test_describe_a_convolution_and_a_delay_that_stands_alone():
    from delayplug import LearnableDelay

    net = nn.Sequential(layer.Conv1d(2, 3, 3), neuron.IFNode(), LearnableDelay(3, max_delay=7))
    functional.set_step_mode(net, "m")
    add_delays(net, 4)
    conv, alone = describe_delays(net).rows
    assert (conv.runs, conv.reset, conv.parameters) == ("whole sequences", "functional.reset_net(model)", 18)
    assert (alone.neuron, alone.granularity, alone.max_delay) == ("", "per channel", 7)
    assert "per channel" in str(describe_delays(net))


# ------------------------------------------------------------------------- what only looks like something plain


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


@pytest.mark.parametrize("granularity", ["synaptic", "axonal", "dendritic"])
def test_sequences_without_a_batch(granularity):
    torch.manual_seed(0)
    net = norse.SequentialState(
        norse.Lift(nn.Conv1d(1, 2, 3)), norse.LIF(), nn.Flatten(1), nn.Linear(6, 4), norse.LIF()
    )
    with torch.no_grad():
        net[0].lifted_module.weight.mul_(90)
        net[3].weight.mul_(90)
    x = sequence(steps=9)[:, :1]
    plain = net(x)[0]
    add_delays(net, 4, example=x, granularity=granularity, init=0, interpolation="linear")
    assert [name for name, _ in named_delays(net)] == ["0", "3"]
    torch.testing.assert_close(net(x)[0], plain)


def test_a_channel_is_not_guessed():
    field = norse.SpatialReceptiveField2d(2, 3, torch.tensor([[1.0, 1.0, 1.0, 0.0, 0.0]]))
    net = norse.SequentialState(field, norse.LIFCell())
    assert "not found in the shape" in reasons(plan_delays(net, torch.rand(3, 2, 8, 10), granularity="axonal"))["0"]
    norm = nn.Sequential(layer.NeuNorm(4, 6, 7), neuron.LIFNode())
    (c,) = plan_delays(norm, torch.rand(2, 4, 6, 7), granularity="axonal").connections
    assert (c.in_features, c.place.space) == (4, 2)


def test_lazy_layers_are_refused_with_an_example_too():
    with pytest.raises(WiringError, match="the size of 0 is not known yet"):
        plan_delays(nn.Sequential(nn.LazyLinear(H), leaky()), sequence()[0])


def test_a_cell_that_norse_does_not_count_among_its_neurons():
    from norse.torch.module.coba_lif import CobaLIFCell

    net = norse.SequentialState(nn.Linear(F, H), CobaLIFCell(H, H), nn.Linear(H, O), norse.LIFCell())
    plan = plan_delays(net)
    assert layers(plan) == ["2"]
    assert "weighs its input itself" in reasons(plan)["1"]


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


def test_a_layer_with_a_memory_has_no_dendritic_delays():
    net = nn.Sequential(layer.DropConnectLinear(F, H), neuron.LIFNode())
    assert "memory of its own" in reasons(plan_delays(net, sequence()[0], granularity="dendritic"))["0"]


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


def test_a_layer_that_is_called_by_name():
    class Named(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc, self.lif = nn.Linear(F, H), leaky()

        def forward(self, x: Tensor) -> Tensor:
            return self.lif(self.fc(input=x))

    torch.manual_seed(0)
    net = Named()
    plain = stepped(net, sequence())
    add_delays(net, 4, example=sequence()[0], init=0, interpolation="linear")
    torch.testing.assert_close(stepped(net, sequence()), plain)


def test_monitors_and_hooks_by_name_go_on() -> None:
    from spikingjelly.activation_based import monitor

    torch.manual_seed(0)
    net = nn.Sequential(layer.Linear(F, H), neuron.IFNode(), layer.Linear(H, O), neuron.IFNode())
    functional.set_step_mode(net, "m")
    before, seen = monitor.OutputMonitor(net, neuron.IFNode), []
    net.get_submodule("2").register_forward_hook(lambda module, args, output: seen.append(output))
    add_delays(net, 4, init=1, interpolation="linear")
    after = monitor.OutputMonitor(net, layer.Linear)
    y = net(sequence())
    assert torch.equal(before["3"][-1], y)
    assert torch.equal(after["2"][-1], seen[-1])
    assert seen[-1].shape == (*sequence().shape[:2], O)
