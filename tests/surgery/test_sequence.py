"""What may happen between two steps of one sequence."""

import copy
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
from tests.surgery.networks import Hoisted


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


def test_a_sequence_builds_its_kernel_once() -> None:
    layer = LearnableDelay(3, 2, max_delay=4)
    state = layer.initial_state(5)
    _, first = layer.step(torch.ones(5, 3), state)
    _, second = layer.step(torch.ones(5, 3), first)
    assert second.kernel is first.kernel


def delayed_sequential() -> tuple[nn.Sequential, snntorch.Leaky]:
    torch.manual_seed(0)
    neuron = snntorch.Leaky(beta=0.9, init_hidden=True)
    net = nn.Sequential(nn.Linear(4, 6), neuron)
    delayplug.add_delays(net, 5, init=3, interpolation="linear")
    return net, neuron


def test_a_state_zeroed_in_place_is_a_new_sequence() -> None:
    net, neuron = delayed_sequential()
    x = torch.rand(8, 2, 4) * 4
    with torch.no_grad():
        utils.reset(net)
        first = torch.stack([net(x_t) for x_t in x])
        neuron.mem.zero_()
        second = torch.stack([net(x_t) for x_t in x])
    assert torch.equal(first, second)


def test_a_state_edited_in_place_goes_on() -> None:
    net, neuron = delayed_sequential()
    with torch.no_grad():
        utils.reset(net)
        for x_t in torch.rand(4, 2, 4) * 4:
            net(x_t)
        neuron.mem.add_(0.5)
        assert net[0].delay_memory.read(torch.Size((2, 4)), None) is not None


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
        public = {"probe": memory.toolkit, "neuron": neuron, "turns": "together", "state": snapshot.state, "fold": None}
        private = {
            **{"_held": snapshot.held, "_versions": snapshot.versions, "_returned": snapshot.returned},
            **{"_had_graph": False, "_caller_keeps_state": False, "_dropped": False, "_continues": True},
            **{"_length": 4, "_single": 0, "_missed": 0, "_given": 0, "_is_fed": True},
        }
        memory.__setstate__({**public, **private})
        neuron.mem = mem
        assert memory.snapshot() == snapshot
        assert all(map(torch.equal, [net(x_t) for x_t in x[4:]], expected))


class OneStep(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(4, 6)
        self.lif = snntorch.Leaky(beta=0.9)

    def forward(self, x: torch.Tensor, mem: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        spikes, mem = self.lif(self.fc(x), mem)
        return spikes, mem


def test_a_foreign_state_is_told_about() -> None:
    net = OneStep()
    delayplug.add_delays(net, 5)
    _, mem = net(torch.rand(2, 4) * 4, torch.zeros(2, 6))
    with pytest.warns(UserWarning, match="a state that it did not return"):
        net(torch.rand(2, 4), torch.ones_like(mem))


@pytest.mark.parametrize("carry", [torch.clone, lambda mem: mem.detach().clone(), lambda mem: mem.double().float()])
def test_a_copied_state_is_carried(carry) -> None:
    net = OneStep()
    delayplug.add_delays(net, 5)
    x = torch.rand(2, 4) * 4
    _, mem = net(x, torch.zeros(2, 6))
    _, mem = net(torch.rand(2, 4), carry(mem))
    assert torch.equal(net.fc.delay_memory.state.history[-2], x)
    mem.sum().backward()


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


def test_a_reset_between_layer_and_neuron_is_an_error() -> None:
    class Late(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc, self.lif = nn.Linear(4, 6), snntorch.Leaky(beta=0.9, init_hidden=True)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            currents = self.fc(x)
            self.lif.reset_mem()
            return torch.stack([self.lif(current) for current in currents])

    net = Late()
    x = torch.rand(8, 2, 4)
    delayplug.add_delays(net, 3, example=x)
    net(x)
    with pytest.raises(delayplug.SequenceError, match="reset it before"):
        net(x)


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
def test_an_edited_state_may_still_be_zero(grad: bool) -> None:
    class Clamped(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(4, 6, bias=False)
            self.lif = snntorch.Leaky(beta=0.9)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            mem = torch.zeros(x.shape[1], 6)
            for x_t in x.unbind(0):
                _, mem = self.lif(self.fc(x_t), mem)
                mem = mem.clamp(-1, 1)
            return mem

    net = Clamped()
    delayplug.add_delays(net, 3, init=2, interpolation="linear")
    x = torch.rand(8, 2, 4)
    x[:3] = 0  # silence at first: the membrane stays at zero
    with torch.set_grad_enabled(grad):
        assert net(x).any()
        assert torch.equal(net(x), net(x))


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
    with pytest.raises(delayplug.SequenceError, match="was not called between two calls"):
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
    with pytest.raises(SequenceError, match="reset_delays"):
        loop(net, x)
    delayplug.reset_delays(net)
    assert torch.equal(loop(net, x), first)


@pytest.mark.parametrize(("make", "loop"), [(FreshZeros, by_hand), (CellNet, by_hand_norse)])
def test_an_example_that_loops_by_hand_does_not_count_as_a_sequence(make, loop):
    net = make()
    add_delays(net, MAX_DELAY, example=lambda net: loop(net, sequence()))
    torch.testing.assert_close(loop(net, sequence()), make_again(net, loop))


def make_again(net, loop):
    delayplug.reset_delays(net)
    return loop(net, sequence())


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
