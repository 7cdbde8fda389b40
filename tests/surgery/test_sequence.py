"""What may happen between two steps of one sequence."""

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import norse.torch as norse
import pytest
import snntorch
import torch
from snntorch import utils
from spikingjelly.activation_based import functional, layer, neuron
from torch import nn

import delayplug
from delayplug import ArgumentError, LearnableDelay, SequenceError, add_delays
from tests.networks import MAX_DELAY, B, CarriedCells, CellNet, F, FreshZeros, H, O, sequence
from tests.surgery.networks import Hoisted, shifted


@pytest.mark.parametrize("change", ["weight", "delays", "sigma", "load", "eval"])
@pytest.mark.parametrize("grad", [True, False])
def test_a_step_uses_the_parameters_of_now(change: str, grad: bool) -> None:
    torch.manual_seed(0)
    layer = LearnableDelay(3, 2, max_delay=4, sigma=1.0)
    state = layer.initial_state(5)
    x = torch.randn(4, 5, 3)
    with torch.set_grad_enabled(grad):
        for x_t in x[:3]:
            _, state = layer.step(x_t, state)
        with torch.no_grad():
            if change == "weight":
                layer.weight.mul_(2)
            elif change == "delays":
                layer.delays.mul_(0.5)
            elif change == "sigma":
                layer.sigma.fill_(2.0)
            elif change == "load":
                layer.load_state_dict(LearnableDelay(3, 2, max_delay=4).state_dict())
            else:
                layer.eval()
        y, _ = layer.step(x[3], state)
        expected = layer(x)[3]
    torch.testing.assert_close(y, expected)


def test_a_sequence_builds_its_kernel_once(monkeypatch: pytest.MonkeyPatch) -> None:
    layer, built = LearnableDelay(3, 2, max_delay=4), []
    kernel = layer.kernel
    monkeypatch.setattr(layer, "kernel", lambda weight: built.append(kernel(weight)) or built[-1])
    for same in (True, False):
        x, state = torch.ones(5, 3), layer.initial_state(5)
        for _ in range(3):
            _, state = layer.step(x if same else x.clone(), state)
        assert len(built) == (1 if same else 2)


def delayed_sequential() -> tuple[nn.Sequential, snntorch.Leaky]:
    torch.manual_seed(0)
    neuron = snntorch.Leaky(beta=0.9, init_hidden=True)
    net = nn.Sequential(nn.Linear(4, 6), neuron)
    delayplug.add_delays(net, 5, init=3, interpolation="linear")
    return net, neuron


@contextmanager
def refused() -> Iterator[None]:
    """The next call is refused, with the ways out."""
    with pytest.raises(SequenceError, match=r"reset_delays.*select_delays.*set_delay_state.*new_sequence"):
        yield


@pytest.mark.parametrize("write", [torch.Tensor.zero_, lambda mem: mem.add_(0.5)], ids=["zeroed", "moved"])
def test_a_held_state_written_in_place_is_refused(write: Callable[[torch.Tensor], object]) -> None:
    net, neuron = delayed_sequential()
    x = torch.rand(8, 2, 4) * 4
    with torch.no_grad():
        first = torch.stack([net(x_t) for x_t in x])
        write(neuron.mem)
        mem = neuron.mem.clone()
        with refused():
            net(x[0])
        delayplug.reset_delays(net)
        second = torch.stack([net(x_t) for x_t in x])
        fresh, neuron = delayed_sequential()
        neuron.mem = mem
        assert torch.equal(second, torch.stack([fresh(x_t) for x_t in x]))
    assert first.any()


def test_a_reset_in_place_by_the_toolkit_is_a_new_sequence() -> None:
    net, neuron = delayed_sequential()
    x = torch.rand(8, 2, 4) * 4
    with torch.no_grad():
        first = torch.stack([net(x_t) for x_t in x])
        neuron.reset_mem()
        assert torch.equal(torch.stack([net(x_t) for x_t in x]), first)
    assert first.any()


def test_a_snapshot_is_where_it_was_taken() -> None:
    net, neuron = delayed_sequential()
    memory = net[0].delay_memory
    x = torch.rand(8, 2, 4) * 4
    with torch.no_grad():
        for x_t in x[:4]:
            net(x_t)
        snapshot, mem = memory.snapshot(), neuron.mem
        expected = [net(x_t) for x_t in x[4:]]
        memory.restore(snapshot)
        neuron.mem = mem
        assert memory.snapshot() is snapshot
        assert all(map(torch.equal, [net(x_t) for x_t in x[4:]], expected))
        assert torch.stack(expected).any()


def test_a_state_carried_by_somebody_else() -> None:
    net, _ = delayed_sequential()
    memory = net[0].delay_memory
    x = torch.rand(8, 2, 4) * 4
    with torch.no_grad():
        for x_t in x:
            net(x_t)
        before = memory.snapshot()
        with memory.carry(None):
            net[0](x[0])
            first = memory.state
            net[0](x[1])  # nobody calls the neuron
        assert not first.history[:-1].any()
        assert memory.snapshot() is before
        with pytest.raises(delayplug.ArgumentError), memory.carry(first):
            net(torch.rand(2, 5))
        assert memory.snapshot() is before


@pytest.mark.real("memory that is copied with what is noted on it")
@pytest.mark.parametrize("reset", [True, False])
def test_a_copy_in_the_middle_goes_on(reset: bool) -> None:
    net, _ = delayed_sequential()
    x = torch.rand(8, 2, 4) * 4
    with torch.no_grad():
        for x_t in x[:4]:
            net(x_t)
        copied = copy.deepcopy(net)
        if reset:
            utils.reset(net)
            copied[1].reset_mem()
        outputs = [(net(x_t), copied(x_t)) for x_t in x[4:]]
    assert all(torch.equal(one, other) for one, other in outputs)
    assert copied[0].delay_memory.neuron is copied[1]
    assert torch.equal(copied[0].delay_memory.state.history, net[0].delay_memory.state.history)


def test_a_memory_saved_by_an_older_version_in_the_middle_goes_on() -> None:
    net, neuron = delayed_sequential()
    memory = net[0].delay_memory
    x = torch.rand(8, 2, 4) * 4
    with torch.no_grad():
        for x_t in x[:4]:
            net(x_t)
        snapshot, mem = memory.snapshot(), neuron.mem
        expected = [net(x_t) for x_t in x[4:]]
        state = snapshot.last.state.detach()
        public = {"probe": memory.toolkit, "neuron": neuron, "turns": "together", "state": state, "fold": None}
        private = {
            **{"_held": (mem,), "_versions": (mem._version,), "_returned": (mem,)},
            **{"_had_graph": False, "_caller_keeps_state": False, "_dropped": False, "_continues": True},
            **{"_length": 4, "_single": 0, "_missed": 0, "_given": 0, "_is_fed": True},
        }
        old = type(memory).__new__(type(memory))
        old.__setstate__({**public, **private})
        net[0].delay_memory, neuron.mem = old, mem
        # There the hooks are methods of the memory.
        neuron._forward_pre_hooks[next(iter(neuron._forward_pre_hooks))] = old.before_neuron
        neuron._forward_hooks[next(iter(neuron._forward_hooks))] = old.after_neuron
        assert torch.equal(old.state.history, state.history)
        assert all(map(torch.equal, [net(x_t) for x_t in x[4:]], expected))
        assert torch.stack(expected).any()


class OneStep(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(4, 6)
        self.lif = snntorch.Leaky(beta=0.9)

    def forward(self, x: torch.Tensor, mem: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        spikes, mem = self.lif(self.fc(x), mem)
        return spikes, mem


def test_a_foreign_state_is_refused() -> None:
    net = OneStep()
    delayplug.add_delays(net, 5)
    _, mem = net(torch.rand(2, 4) * 4, torch.zeros(2, 6))
    with refused():
        net(torch.rand(2, 4), torch.ones_like(mem))


def steps(net: nn.Module, x: torch.Tensor, change: Callable[[torch.Tensor], torch.Tensor], said: Any = None) -> Any:
    """A sequence with a change of the state in its middle; returns the spikes after it."""
    mem, out = torch.zeros(x.shape[1], 6), []
    for t, x_t in enumerate(x):
        if t == 4:
            mem = change(mem)
            if said is not None:
                said(net)
        spikes, mem = net(x_t, mem)
        out.append(spikes)
    return torch.stack(out[4:])


def late_net() -> tuple[OneStep, OneStep]:
    """A network whose inputs arrive two steps late, and the same without delays."""
    torch.manual_seed(0)
    plain = OneStep()
    return delayplug.add_delays(copy.deepcopy(plain), 5, init=2, interpolation="linear"), plain


COPIES = {
    "clone": torch.clone,
    "detached": lambda mem: mem.detach().clone(),
    "cast": lambda mem: mem.double().float(),
    "clamped": lambda mem: mem.clamp(-0.5, 0.5),
    "permuted": lambda mem: mem[[1, 0]],
    "written": lambda mem: mem.detach().mul_(0.5),
}


@pytest.mark.parametrize("change", COPIES)
def test_a_state_that_cannot_be_followed_is_refused_and_exact_after_the_way_out(change: str) -> None:
    net, plain = late_net()
    x = torch.rand(10, 2, 4) * 4
    earlier = shifted(x, 2)
    with refused():
        steps(net, x, COPIES[change])

    def carry(net: nn.Module) -> None:
        if change == "permuted":
            delayplug.select_delays(net, [1, 0])
        else:
            delayplug.set_delay_state(net, delayplug.delay_state(net))

    # A beginning: the delays are empty, whatever the state.
    late = steps(net, x, COPIES[change], delayplug.reset_delays)
    cut = earlier.clone()
    cut[4:6] = 0
    expected = steps(plain, cut, COPIES[change])
    torch.testing.assert_close(late, expected)
    y = steps(net, x, COPIES[change], carry)
    mem = torch.zeros(2, 6)
    for x_t in earlier[:4]:
        _, mem = plain(x_t, mem)
    mem, out = COPIES[change](mem), []
    for x_t in earlier[4:6, [1, 0]] if change == "permuted" else earlier[4:6]:
        spikes, mem = plain(x_t, mem)
        out.append(spikes)
    for x_t in x[4:8]:
        spikes, mem = plain(x_t, mem)
        out.append(spikes)
    torch.testing.assert_close(y, torch.stack(out))
    assert not torch.equal(y, late)


def test_a_block_of_one_sequence_follows_its_calls_whatever_happens_to_the_states() -> None:
    net, plain = late_net()
    x = torch.rand(10, 2, 4) * 4

    def clamped(net: nn.Module, x: torch.Tensor) -> torch.Tensor:
        mem, out = torch.zeros(2, 6), []
        for x_t in x:
            spikes, mem = net(x_t, mem)
            mem = mem.clamp(-0.5, 0.5)
            out.append(spikes)
        return torch.stack(out)

    for _ in range(2):
        with delayplug.new_sequence(net):
            y = clamped(net, x)
        assert y.any()
        torch.testing.assert_close(y, clamped(plain, shifted(x, 2)))
    with refused():
        clamped(net, x)


class ObjectState:
    """A state that points back to itself."""

    def __init__(self, mem: torch.Tensor) -> None:
        self.mem, self.me = mem, self


@dataclass
class DataclassState:
    mem: torch.Tensor


@pytest.mark.parametrize("state_class", [ObjectState, DataclassState])
def test_a_state_in_an_object_of_the_users_is_carried(state_class: type[Any]) -> None:
    class Net(OneStep):
        def forward(self, x: torch.Tensor, state: Any) -> Any:
            _, mem = self.lif(self.fc(x), state.mem)
            return state_class(mem)

    net = Net()
    delayplug.add_delays(net, 5)
    state = state_class(torch.zeros(2, 6))
    for _ in range(3):
        state = net(torch.rand(2, 4) + 1, state)
    assert all(step.any() for step in net.fc.delay_memory.state.history[-3:])


class ResetBetween(nn.Module):
    """The neuron is reset when its layer has run over the sequence already."""

    def __init__(self) -> None:
        super().__init__()
        self.fc, self.lif = nn.Linear(4, 6), snntorch.Leaky(beta=0.9, init_hidden=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        currents = self.fc(x)
        self.lif.reset_mem()
        return torch.stack([self.lif(current) for current in currents])


def test_a_reset_between_layer_and_neuron_begins_with_the_layer_computed_again() -> None:
    torch.manual_seed(0)
    plain, x = ResetBetween(), torch.rand(8, 2, 4) * 4
    net = delayplug.add_delays(copy.deepcopy(plain), 3, example=x, init=2, interpolation="linear")
    expected = plain(shifted(x, 2))
    assert expected.any()
    for _ in range(3):
        assert torch.equal(net(x), expected)


def test_a_reset_between_layer_and_neuron_is_refused_where_something_lies_between() -> None:
    net, x = ResetBetween(), torch.rand(8, 2, 4)
    delayplug.add_delays(net, 3, example=x)
    net.fc.register_forward_hook(lambda module, args, output: output * 1)
    net(x)
    with pytest.raises(SequenceError, match=r"something lies between the two.*reset_delays"):
        net(x)
    delayplug.reset_delays(net)
    assert net(x).shape == (8, 2, 6)


def test_a_detached_state_is_carried() -> None:
    net = OneStep()
    delayplug.add_delays(net, 5)
    _, mem = net(torch.rand(2, 4) * 4, torch.zeros(2, 6))
    mem.sum().backward()
    _, mem = net(torch.rand(2, 4) * 4, mem.detach())
    assert net.fc.delay_memory.state.history[-2].any()  # the first input is still under way
    mem.sum().backward()


def test_recordings_kept_on_the_model_are_not_states() -> None:
    class Recording(OneStep):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            self.recorded: list[torch.Tensor] = []
            mem = torch.zeros(x.shape[1], 6)
            for x_t in x.unbind(0):
                _, mem = self.lif(self.fc(x_t), mem)
                self.recorded.append(mem)
            return mem

    net = Recording()
    delayplug.add_delays(net, 3, init=2, interpolation="linear")
    x = torch.rand(8, 2, 4)
    assert torch.equal(net(x), net(x))


@pytest.mark.parametrize("grad", [True, False])
def test_a_quiet_clamped_state_is_no_beginning_while_spikes_are_under_way(grad: bool) -> None:
    class Clamped(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(4, 6, bias=False)
            self.lif = snntorch.Leaky(beta=0.9)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            mem, out = torch.zeros(x.shape[1], 6), []
            for x_t in x.unbind(0):
                _, mem = self.lif(self.fc(x_t), mem)
                mem = mem.clamp(-1, 1)
                out.append(mem)
            return torch.stack(out)

    plain = Clamped()
    net = delayplug.add_delays(copy.deepcopy(plain), 3, init=2, interpolation="linear")
    x = torch.rand(8, 2, 4)
    x[:2] = 0  # silence at first: the membrane stays at zero while the third input is under way
    with torch.set_grad_enabled(grad):
        with refused():
            net(x)
        delayplug.reset_delays(net)
        for _ in range(2):
            with delayplug.new_sequence(net):
                torch.testing.assert_close(net(x), plain(shifted(x, 2)))


def test_a_state_made_anew_at_every_step_is_told_about() -> None:
    class Forgetful(OneStep):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            for x_t in x.unbind(0):
                mem = self.lif.init_leaky()
                _, mem = self.lif(self.fc(x_t), mem)
            return mem

    net = Forgetful()
    delayplug.add_delays(net, 3)
    with pytest.warns(UserWarning, match="seems to begin a new sequence"):
        net(torch.rand(8, 2, 4))


def test_a_layer_whose_neuron_does_not_run_any_more_is_an_error() -> None:
    class Bypassed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc1, self.lif1 = nn.Linear(4, 6), snntorch.Leaky(beta=0.9)
            self.fc2, self.lif2 = nn.Linear(6, 6), snntorch.Leaky(beta=0.9)
            self.bypass = False

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            mem1, mem = self.lif1.init_leaky(), self.lif2.init_leaky()
            for x_t in x.unbind(0):
                current = self.fc1(x_t)
                spikes, mem1 = (current, mem1) if self.bypass else self.lif1(current, mem1)
                _, mem = self.lif2(self.fc2(spikes), mem)
            return mem

    net, x = Bypassed(), torch.rand(8, 2, 4)
    delayplug.add_delays(net, 3, example=x)
    net.bypass = True
    with pytest.raises(delayplug.SequenceError, match="was not called after its delayed input"):
        net(x)


def test_a_layer_that_is_left_out_at_first_starts_afresh() -> None:
    class Late(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc, self.rec = nn.Linear(4, 6), nn.Linear(6, 6)
            self.lif = snntorch.Leaky(beta=0.9, init_hidden=True, threshold=0.3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            self.lif.reset_mem()
            out: list[torch.Tensor] = []
            for x_t in x.unbind(0):
                out.append(self.lif(self.fc(x_t) + self.rec(out[-1])) if out else self.lif(self.fc(x_t)))
            return torch.stack(out)

    torch.manual_seed(0)
    net, x = Late(), torch.rand(8, 2, 4) * 3
    delayplug.add_delays(net, 4, example=x, init=2, interpolation="linear", recurrent=True)
    first = net(x)
    net(torch.ones_like(x) * 5)
    assert torch.equal(net(x), first)
    for _ in range(2):
        net(x).sum().backward()


@pytest.mark.parametrize("kind", [neuron.SLTTLIFNode, neuron.OTTTLIFNode])
def test_a_backward_pass_at_every_step(kind: type[nn.Module]) -> None:
    torch.manual_seed(0)
    net, x = nn.Sequential(layer.Linear(6, 8), kind()), torch.rand(6, 3, 6)

    def run(net: nn.Module) -> None:
        functional.reset_net(net)
        for x_t in x:
            out = net(x_t)
            (out[0] if isinstance(out, list) else out).sum().backward()

    delayplug.add_delays(net, 4, example=run)
    run(net)
    assert net[0].delay.delays.grad.any()


def test_a_state_detached_by_replacing_it_goes_on() -> None:
    net, neuron = delayed_sequential()
    utils.reset(net)
    x = torch.rand(8, 2, 4) * 4
    whole = torch.stack([net(x_t) for x_t in x])
    utils.reset(net)
    parts = [net(x_t) for x_t in x[:4]]
    torch.stack(parts).sum().backward()
    neuron.mem = neuron.mem.detach()
    parts += [net(x_t) for x_t in x[4:]]
    assert torch.equal(torch.stack(parts), whole)
    torch.stack(parts[4:]).sum().backward()


def test_layer_and_neuron_must_be_called_alternately():
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


def by_hand(net, x):
    """A user who loops over the submodules of a model that is never called itself."""
    mem1, mem2 = torch.zeros(B, H), torch.zeros(B, O)
    for x_t in x:
        spk, mem1 = net.lif1(net.fc1(x_t), mem1)
        spk, mem2 = net.lif2(net.fc2(spk), mem2)
    return mem2


def by_hand_norse(net, x):
    s1 = s2 = None
    for x_t in x:
        z, s1 = net.lif1(net.fc1(x_t), s1)
        z, s2 = net.lif2(net.fc2(z), s2)
    return s2.v


@pytest.mark.parametrize(("make", "loop"), [(FreshZeros, by_hand), (CellNet, by_hand_norse)])
def test_fresh_states_without_a_call_of_the_model(make, loop):
    net = add_delays(make(), MAX_DELAY)
    x = sequence()
    first = loop(net, x)
    assert first.any()
    for _ in range(2):  # zeros that the user made, or no state, begin
        assert torch.equal(loop(net, x), first)


@pytest.mark.parametrize(("make", "loop"), [(FreshZeros, by_hand), (CellNet, by_hand_norse)])
def test_an_example_that_loops_by_hand_does_not_count_as_a_sequence(make, loop):
    net = make()
    add_delays(net, MAX_DELAY, example=lambda net: loop(net, sequence()))
    torch.testing.assert_close(loop(net, sequence()), make_again(net, loop))


def make_again(net, loop):
    delayplug.reset_delays(net)
    return loop(net, sequence())


@pytest.mark.cpu("values are looked at there alone")
def test_an_interrupted_run_does_not_spoil_the_next():
    net = add_delays(CarriedCells(), MAX_DELAY)
    x = sequence()
    expected, _ = net(x)
    broken = x.clone()
    broken[4] = torch.nan  # the layer refuses it in the middle of the sequence
    with pytest.raises(ArgumentError):
        net(broken)
    assert torch.equal(net(x)[0], expected)
    net.fc1(x[0])  # a look at one layer
    assert torch.equal(net(x)[0], expected)


def test_a_batch_of_another_size_in_the_middle_of_carried_norse_states():
    net = add_delays(norse.SequentialState(nn.Linear(F, H), norse.LIFCell()), MAX_DELAY)
    _, state = net(sequence()[0])
    with pytest.raises(ArgumentError, match="state"):
        net(sequence(batch=B + 1)[0], state)
