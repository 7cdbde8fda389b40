"""Neurons of the user's own classes, in the ways that users write them: right, or refused with the way out."""

import copy
import pickle
from typing import Any, NamedTuple

import norse.torch as norse
import pytest
import snntorch
import torch
from torch import Tensor, nn

import delayplug
from delayplug import ArgumentError, SequenceError, WiringError, add_delays, plan_delays, remove_delays
from delayplug.testing.oracle import draw_whole_delays, shift_inputs

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:snntorch")
T, B, F, H = 9, 3, 4, 5


def step(x: Tensor, v: Tensor | float) -> tuple[Tensor, Tensor]:
    v = 0.8 * v + x
    spikes = torch.sigmoid(20 * (v - 0.5))
    return spikes, v - spikes


class Explicit(nn.Module):
    """The state comes in and goes out."""

    def forward(self, x: Tensor, mem: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return step(x, torch.zeros_like(x) if mem is None else mem)


class MembraneFirst(nn.Module):
    def forward(self, mem: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        spikes, after = step(mem, state)
        return after, spikes


class State(NamedTuple):
    v: Tensor
    age: Tensor


class NamedState(nn.Module):
    def forward(self, x: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        state = State(torch.zeros_like(x), torch.zeros_like(x)) if state is None else state
        spikes, v = step(x, state.v)
        return spikes, State(v, state.age + 1)


class Held(nn.Module):
    """The state is an attribute, None at first."""

    def __init__(self) -> None:
        super().__init__()
        self.mem: Tensor | None = None

    def reset(self) -> None:
        self.mem = None

    def forward(self, x: Tensor) -> Tensor:
        spikes, self.mem = step(x, 0.0 if self.mem is None else self.mem)
        return spikes


class InPlace(nn.Module):
    """The state is a buffer that is written to, and a constant is another one."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mem", torch.zeros(B, H), persistent=False)
        self.register_buffer("unit", torch.ones(()))

    def reset_state(self) -> None:
        self.mem.zero_()

    def forward(self, x: Tensor) -> Tensor:
        spikes, after = step(x * self.unit, self.mem.clone())
        self.mem.copy_(after.detach())
        return spikes


class HeldTuple(nn.Module):
    """The state is a tuple; a batch norm inside counts its calls, and a list is a recording."""

    def __init__(self) -> None:
        super().__init__()
        self.state: tuple[Tensor, Tensor] | None = None
        self.norm, self.recording = nn.BatchNorm1d(H), list[Tensor]()

    def reset(self) -> None:
        self.state = None

    def forward(self, x: Tensor) -> Tensor:
        v, i = (torch.zeros_like(x), torch.zeros_like(x)) if self.state is None else self.state
        i = 0.5 * i + self.norm(x)
        spikes, v = step(i, v)
        self.state = v, i
        self.recording.append(v.detach())
        return spikes


class Sequence(nn.Module):
    """Whole sequences, from zero each time."""

    def forward(self, x: Tensor) -> Tensor:
        v, out = torch.zeros_like(x[0]), []
        for x_t in x:
            spikes, v = step(x_t, v)
            out.append(spikes)
        return torch.stack(out)


class Recording(Sequence):
    """It leaves what it computed on itself, and never reads it."""

    def forward(self, x: Tensor) -> Tensor:
        out = super().forward(x)
        self.last = out[-1]
        return out


class Chunked(nn.Module):
    """A part of a sequence, and the state goes out and in."""

    def forward(self, x: Tensor, v: Tensor | None = None) -> tuple[Tensor, Tensor]:
        v, out = torch.zeros_like(x[0]) if v is None else v, []
        for x_t in x:
            spikes, v = step(x_t, v)
            out.append(spikes)
        return torch.stack(out), v


class Net(nn.Module):
    def __init__(self, kind: type[nn.Module], other: nn.Module | None = None) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.fc1, self.own, self.fc2, self.last = nn.Linear(F, H), kind(), nn.Linear(H, H), other or kind()

    def resets(self) -> None:
        for neuron in (self.own, self.last):
            getattr(neuron, "reset_state", getattr(neuron, "reset", lambda: None))()


def run(net: Any, x: Tensor) -> Tensor:
    """A sequence, as the user of such a neuron drives it."""
    kind = type(net.own)
    if kind in (Sequence, Recording, Chunked):
        y = net.own(net.fc1(x))
        y = net.last(net.fc2(y[0] if kind is Chunked else y))
        return y[0] if kind is Chunked else y
    net.resets()
    s1 = s2 = torch.zeros(x.shape[1], H) if kind is MembraneFirst else None
    out = []
    for x_t in x:
        if kind is MembraneFirst:
            s1, z = net.own(net.fc1(x_t), s1)
            s2, z = net.last(net.fc2(z), s2)
        elif kind in (Explicit, NamedState):
            z, s1 = net.own(net.fc1(x_t), s1)
            z, s2 = net.last(net.fc2(z), s2)
        else:
            z = net.last(net.fc2(net.own(net.fc1(x_t))))
        out.append(z)
    return torch.stack(out)


STEPS = (Explicit, MembraneFirst, NamedState, Held, InPlace, HeldTuple)
KINDS = (*STEPS, Sequence, Chunked)


def samples(seed: int = 0) -> Tensor:
    return torch.rand(T, B, F, generator=torch.Generator().manual_seed(seed))


def delayed(kind: type[nn.Module], **options: Any) -> nn.Module:
    options = {"neurons": [kind], "example": lambda net: run(net, samples())} | options
    return add_delays(Net(kind), 4, interpolation="linear", **options)


@pytest.mark.parametrize("kind", KINDS)
def test_zero_delays_are_the_plain_network(kind: type[nn.Module]) -> None:
    plain, net = Net(kind), delayed(kind, init=0)
    for seed in (0, 1):
        torch.testing.assert_close(run(net, samples(seed)), run(plain, samples(seed)))


@pytest.mark.parametrize("kind", KINDS)
def test_whole_delays_are_shifts_of_the_input(kind: type[nn.Module]) -> None:
    net = delayed(kind)
    drawn = draw_whole_delays(net)
    assert set(drawn) == {"fc1", "fc2"}
    for seed in (0, 1, 2):  # each a sequence of its own
        plain = Net(kind)
        if kind is HeldTuple:  # the batch norms have seen the same
            plain.load_state_dict(net.state_dict(), strict=False)
        sees = "steps" if kind in STEPS else "sequence"
        for name, delays in drawn.items():
            layer = plain.get_submodule(name)
            shift_inputs(layer, layer, delays, "synaptic", sees, B)
        torch.testing.assert_close(run(net, samples(seed)), run(plain, samples(seed)), atol=2e-4, rtol=2e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_they_train_copy_pickle_and_are_taken_out(kind: type[nn.Module]) -> None:
    net = delayed(kind)
    run(net, samples()).sum().backward()
    assert all(parameter.grad is not None and parameter.grad.any() for _, parameter in named_parameters(net))
    net.resets()
    for other in (copy.deepcopy(net), pickle.loads(pickle.dumps(net))):
        other.zero_grad()
        torch.testing.assert_close(run(other.eval(), samples(3)), run(copy.deepcopy(net).eval(), samples(3)))
    expected = run(Net(kind), samples(1))
    remove_delays(net)
    if kind is not HeldTuple:  # whose batch norms have learned
        assert torch.equal(run(net, samples(1)), expected)
    assert type(net.fc1) is nn.Linear
    assert not net.own._forward_pre_hooks


def named_parameters(net: nn.Module) -> list[tuple[str, nn.Parameter]]:
    return [(name, delay.delays) for name, delay in delayplug.named_delays(net)]


class Holding(Net):
    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.last(self.fc2(self.own(self.fc1(x))))
        return y


class Carrying(Net):
    def forward(self, x: Tensor, state: Any = None) -> Any:
        s1, s2 = (None, None) if state is None else state
        z, s1 = self.own(self.fc1(x), s1)
        z, s2 = self.last(self.fc2(z), s2)
        return z, (s1, s2)


@pytest.mark.parametrize(("make", "kind"), [(Carrying, Explicit), (Holding, Held)])
def test_streams_and_unrolled_runs_are_the_loop(make: type[Net], kind: type[nn.Module]) -> None:
    net = add_delays(make(kind), 4, neurons={kind: "step"}, filter_fn=["fc1", "fc2"], example=samples()[0]).eval()
    expected = run(net, samples())
    torch.testing.assert_close(delayplug.unroll(net, samples()), expected)
    coming, other = delayplug.stream(net), delayplug.stream(net)
    got = []
    for x_t in samples():
        got.append(coming.push(x_t))
        other.push(1 - x_t)  # two streams do not mix
    torch.testing.assert_close(torch.stack(got), expected.detach())


# ------------------------------------------------------------------------------------------ where it is not known


@pytest.mark.parametrize("kind", [Explicit, Held])
def test_a_sequence_whose_beginning_does_not_show_is_refused(kind: type[nn.Module]) -> None:
    net = delayed(kind, init=2)
    run(net, samples())
    own: Any = net.own
    if kind is Held:
        own.mem = torch.rand(B, H)
    with pytest.raises(SequenceError, match=r"reset_delays\(model\).*new_sequence"):
        own(net.fc1(samples()[0]), torch.rand(B, H)) if kind is Explicit else net.fc1(samples()[0])
    delayplug.reset_delays(net)
    net.resets()
    torch.testing.assert_close(run(net, samples()), run(delayed(kind, init=2), samples()))


def test_a_state_that_is_partly_new_is_refused() -> None:
    class Two(Held):
        def forward(self, x: Tensor) -> Tensor:
            self.spikes = getattr(self, "spikes", 0) + x.sum()  # which its reset forgets
            return super().forward(x)

    net = delayed(Two, init=2)
    run(net, samples())
    net.own.mem = None
    with pytest.raises(SequenceError, match="holds a part of what its last call has left"):
        net.fc1(samples()[0])
    net.own.mem = torch.zeros(B, H)
    with pytest.raises(SequenceError, match="holds a part of what its last call has left"):
        net.fc1(samples()[0])


def test_whether_a_recording_is_a_state_is_asked() -> None:
    net = add_delays(
        Net(Recording), 4, neurons={Recording: "sequence"}, init=2, example=lambda net: run(net, samples())
    )
    expected = run(net, samples())
    with pytest.raises(SequenceError, match="takes a whole sequence, and its last call has left last on it"):
        run(net, samples())
    delayplug.reset_delays(net)
    assert torch.equal(run(net, samples()), expected)
    with delayplug.new_sequence(net):
        assert torch.equal(run(net, samples()), expected)


def test_a_call_without_a_state_of_a_neuron_that_also_holds_one_is_asked() -> None:
    class Both(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.mem: Tensor | None = None

        def forward(self, x: Tensor, mem: Tensor | None = None) -> tuple[Tensor, Tensor]:
            mem = mem if mem is not None else torch.zeros_like(x) if self.mem is None else self.mem
            spikes, self.mem = step(x, mem)
            return spikes, self.mem

    def drive(net: Any) -> None:
        net.last(net.fc2(net.own(net.fc1(samples()[0]))[0]))

    net = add_delays(Net(Both), 4, neurons={Both: "step"}, init=2, example=drive)
    _, mem = net.own(net.fc1(samples()[0]))
    _, mem = net.own(net.fc1(samples()[1]), mem)
    with pytest.raises(SequenceError, match="was called without a state, and its last call has left mem on it"):
        net.own(net.fc1(samples()[2]))


def test_the_structure_is_enough_where_the_user_says_what_a_call_takes() -> None:
    plan = plan_delays(nn.Sequential(nn.Linear(F, H), Held()), neurons={Held: "step"})
    assert [(c.layer, c.neuron, c.mode) for c in plan.connections] == [("0", "1", "step")]
    assert "reset(); or delayplug.reset_delays(model)" in str(plan)


@pytest.mark.parametrize(
    "neurons", [Held, [Held()], "Held", [int], {Held: "steps"}, [Explicit], 3], ids=lambda given: repr(given)[:20]
)
def test_what_is_no_class_in_the_model_is_an_error(neurons: Any) -> None:
    with pytest.raises(ArgumentError, match="neurons"):
        plan_delays(nn.Sequential(nn.Linear(F, H), Held()), neurons=neurons)


def test_a_network_without_known_neurons_says_what_can_be_done() -> None:
    with pytest.raises(WiringError, match=r"neurons=\[MyNeuron\].*LearnableDelay.*plugin.*docs/adapters.md"):
        add_delays(Net(Held), 4)


# ------------------------------------------------------------------------------------------ beside a toolkit's


def test_they_stand_beside_the_neurons_of_a_toolkit() -> None:
    net = Net(Held, snntorch.Leaky(beta=0.8, init_hidden=True))
    plan = plan_delays(net, lambda net: [net.last(net.fc2(net.own(net.fc1(x)))) for x in samples()], neurons=[Held])
    assert plan.backend == "snntorch"
    assert {c.layer: c.neuron for c in plan.connections} == {"fc1": "own", "fc2": "last"}
    assert "reset_mem()" in plan.connections[1].reset


def test_a_class_that_the_toolkit_knows_stays_the_toolkits() -> None:
    class Mine(norse.LIFCell):
        pass

    net = norse.SequentialState(nn.Linear(F, H), Mine())
    assert plan_delays(net, neurons=[Mine]) == plan_delays(net)
    add_delays(net, 4, neurons=[Mine], init=2, interpolation="linear")
    x, state, moved, plain = samples() * 9, None, None, norse.SequentialState(copy.deepcopy(net[0]), Mine())
    remove_delays(plain)
    late = torch.cat([torch.zeros(2, B, F), x])
    for t in range(T):
        y, state = net(x[t], state)
        z, moved = plain(late[t], moved)
        torch.testing.assert_close(y, z)
