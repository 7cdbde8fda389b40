"""From what a call of a neuron goes on."""

import copy
from typing import Any

import pytest
import snntorch
import torch
from spikingjelly.activation_based import base, functional, neuron
from torch import Tensor, nn

import delayplug
from delayplug import DelayState, SequenceError, add_delays
from delayplug.surgery.resolve import Resolver, not_empty
from delayplug.toolkits.plugins import toolkit
from delayplug.toolkits.vocabulary import Mode, Turns
from tests.surgery.networks import shifted


@pytest.mark.parametrize(
    ("turns", "step_mode", "mode"),
    [
        (Turns.TOGETHER, "s", Mode.STEP),
        (Turns.TOGETHER, "m", Mode.SEQUENCE),
        (Turns.INSIDE, "m", Mode.SEQUENCE),
        (Turns.SEQUENCE_THEN_STEPS, "s", Mode.SEQUENCE),
        (Turns.STEPS_THEN_SEQUENCE, "m", Mode.STEP),
    ],
)
def test_what_a_call_of_the_layer_is(turns: Turns, step_mode: str, mode: Mode) -> None:
    assert Resolver(neuron.LIFNode(step_mode=step_mode), toolkit("spikingjelly"), turns).mode() is mode


def test_what_the_next_call_goes_on_from_if_it_was_told() -> None:
    resolver, state = Resolver(neuron.LIFNode(), toolkit("spikingjelly")), DelayState(torch.ones(3, 2, 4))
    assert resolver.state is None
    resolver.go_on_from(state)
    assert resolver.state is state
    resolver.go_on_from(None)
    assert resolver.state is None
    assert resolver.state_names == ()
    assert resolver.call_serial() == 0


def test_tensors_with_values_count_once() -> None:
    one, other = torch.zeros(2), torch.zeros(2)
    assert [id(t) for t in not_empty((one, 0.0, torch.zeros(0), other, None, one))] == [id(one), id(other)]


class Step(nn.Module):
    """A neuron that is passed its state."""

    def __init__(self, node: nn.Module) -> None:
        super().__init__()
        self.fc, self.node = nn.Linear(4, 6), node

    def forward(self, x: Tensor, *state: Tensor) -> tuple[Tensor, list[Tensor]]:
        y, *state = self.node(self.fc(x), *state)
        return y, state


def networks(node: nn.Module, d: int = 2) -> tuple[Step, Step]:
    torch.manual_seed(0)
    plain = Step(node)
    with torch.no_grad():
        plain.fc.weight.mul_(4)
    return add_delays(copy.deepcopy(plain), 4, init=d, interpolation="linear"), plain


def steps(net: nn.Module, x: Tensor, *state: Tensor) -> tuple[Tensor, list[Tensor]]:
    out = []
    for x_t in x:
        y, state = net(x_t, *state)
        out.append(y)
    return torch.stack(out), list(state)


def test_a_part_of_an_older_state_is_a_conflict() -> None:
    net, _ = networks(snntorch.Synaptic(alpha=0.8, beta=0.9))
    x = torch.rand(6, 2, 4)
    _, first = steps(net, x, torch.zeros(2, 6), torch.zeros(2, 6))
    _, second = steps(net, x, *first)
    with pytest.raises(SequenceError, match=r"different calls.*set_delay_state"):
        net(x[0], first[0], second[1])


def test_parts_of_different_samples_are_a_conflict() -> None:
    net, _ = networks(snntorch.Synaptic(alpha=0.8, beta=0.9))
    x = torch.rand(6, 2, 4)
    _, (syn, mem) = steps(net, x, torch.zeros(2, 6), torch.zeros(2, 6))
    with pytest.raises(SequenceError, match=r"same samples.*select_delays"):
        net(x[0, :1], syn[:1], mem[1:])


@pytest.mark.parametrize("start", [0.0, 0.3])
def test_a_beginning_is_known_again_if_nothing_would_be_lost(start: float) -> None:
    net, plain = networks(snntorch.Leaky(beta=0.9))
    x = torch.rand(8, 2, 4)
    expected, _ = steps(plain, shifted(x, 2), torch.full((2, 6), start))
    assert expected.any()
    for _ in range(3):
        y, _ = steps(net, x, torch.full((2, 6), start))  # of a user who calls the parts by hand
        assert torch.equal(y, expected)
    other = torch.full((2, 6), 0.2)
    with pytest.raises(SequenceError, match="reset_delays"):
        steps(net, x, other)
    delayplug.reset_delays(net)
    y, _ = steps(net, x, other)
    assert torch.equal(y, steps(plain, shifted(x, 2), other)[0])


def test_a_silent_state_is_no_beginning_while_something_is_under_way() -> None:
    net, _ = networks(snntorch.Leaky(beta=0.9))
    with torch.no_grad():
        net.fc.bias.zero_()
    x = torch.rand(4, 2, 4)
    _, (mem,) = net(x[0], torch.zeros(2, 6))
    assert not mem.any()  # the input is still under way
    with pytest.raises(SequenceError, match="reset_delays"):
        net(x[1], mem.clone())
    delayplug.reset_delays(net)
    _, (mem,) = net(torch.zeros(2, 4), torch.zeros(2, 6))
    net(x[1], mem.clone())  # nothing is under way: a copy and a beginning are the same


def test_a_learned_start_begins_and_gets_its_gradient() -> None:
    net, plain = networks(snntorch.Leaky(beta=0.9))
    x = torch.rand(8, 2, 4)
    v0 = nn.Parameter(torch.full((6,), 0.4))
    for _ in range(2):
        grads = []
        for model, inputs in ((net, x), (plain, shifted(x, 2))):
            v0.grad = None
            y, _ = steps(model, inputs, v0.expand(2, -1))
            y.sum().backward()
            grads.append((y, v0.grad))
        assert torch.equal(grads[0][0], grads[1][0])
        torch.testing.assert_close(grads[0][1], grads[1][1])
        assert grads[0][1].any()


def test_a_held_state_that_does_not_fit_the_batch_is_made_again() -> None:
    torch.manual_seed(0)
    plain = nn.Sequential(nn.Linear(4, 6), snntorch.Leaky(beta=0.9, init_hidden=True))
    net = add_delays(copy.deepcopy(plain), 4, init=2, interpolation="linear")
    with torch.no_grad():
        for batch in (3, 2, 5):
            x = torch.rand(8, batch, 4) * 4
            y = torch.stack([net(x_t) for x_t in x])
            assert torch.equal(y, torch.stack([plain(x_t) for x_t in shifted(x, 2)]))
            assert y.any()


class Own(base.MemoryModule):
    """A user's neuron whose state is an attribute that its toolkit does not know."""

    def __init__(self) -> None:
        super().__init__()
        self.h = self.fresh()

    def fresh(self) -> Any:
        return torch.zeros(1)

    def reset(self) -> None:
        super().reset()
        self.h = self.fresh()

    def single_step_forward(self, x: Tensor) -> Tensor:
        h = self.h * 0.5 + x
        spikes = (h > 1).float()
        self.h = h * (1 - spikes)
        return spikes

    def multi_step_forward(self, x: Tensor) -> Tensor:
        return torch.stack([self.single_step_forward(x_t) for x_t in x])


class Listed(Own):
    """Its state is in a list, which is not looked into."""

    def fresh(self) -> Any:
        return [0.0]

    def single_step_forward(self, x: Tensor) -> Tensor:
        h = self.h[0] * 0.5 + x
        spikes = (h > 1).float()
        self.h = [h * (1 - spikes)]
        return spikes


@pytest.mark.parametrize("mode", ["s", "m"])
def test_a_state_under_a_name_of_the_user_s(mode: str) -> None:
    torch.manual_seed(0)
    plain = nn.Sequential(nn.Linear(4, 6), Own())
    functional.set_step_mode(plain, mode)
    net = add_delays(copy.deepcopy(plain), 4, init=2, interpolation="linear")
    x = torch.rand(8, 2, 4) * 4

    def run(net: nn.Module, x: Tensor) -> Tensor:
        return net(x) if mode == "m" else torch.stack([net(x_t) for x_t in x])

    with torch.no_grad():
        expected = run(plain, shifted(x, 2))
        assert expected.any()
        for _ in range(3):
            assert torch.equal(torch.cat([run(net, x[:3]), run(net, x[3:])]), expected)
            functional.reset_net(net)
        run(net, x)
        net[1].h = net[1].h.clone()
        with pytest.raises(SequenceError, match="reset_delays"):
            run(net, x)


def test_a_state_that_nobody_sees_is_refused() -> None:
    net = add_delays(nn.Sequential(nn.Linear(4, 6), Listed()), 4)
    functional.set_step_mode(net, "s")
    x = torch.rand(4, 2, 4)
    net(x[0])
    with pytest.raises(SequenceError, match=r"does not show its state.*new_sequence"):
        net(x[1])


def test_a_state_in_the_middle_of_a_sequence_belongs_to_no_other() -> None:
    class Hoisted(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc, self.node, self.foreign = nn.Linear(4, 6), snntorch.Leaky(beta=0.9), None

        def forward(self, x: Tensor) -> Tensor:
            mem = self.node.init_leaky()
            out = []
            for t, current in enumerate(self.fc(x)):
                if t == 3 and self.foreign is not None:
                    mem = self.foreign
                _, mem = self.node(current, mem)
                out.append(mem)
            return torch.stack(out)

    net, x = Hoisted(), torch.rand(6, 2, 4)
    add_delays(net, 4, example=x)
    expected = net(x)
    assert torch.equal(net(x), expected)
    net.foreign = expected[2]
    with pytest.raises(SequenceError, match="middle"):
        net(x)
    net.foreign = None
    assert torch.equal(net(x), expected)


@pytest.mark.parametrize("called", ["layer", "neuron"])
def test_a_module_that_is_called_by_itself_gets_advice_that_works(called: str) -> None:
    net = add_delays(nn.Sequential(nn.Linear(4, 6), neuron.LIFNode()), 3)
    x = torch.rand(2, 4)
    module, value = (net[0], x) if called == "layer" else (net[1], torch.rand(2, 6))
    net(x)

    def often() -> None:
        for _ in range(3):
            module(value)
            net[0](x)

    with pytest.raises(
        SequenceError, match=r"by itself, as in a notebook, call delayplug.reset_delays\(model\) before"
    ):
        often()
    for _ in range(4):
        delayplug.reset_delays(net)
        module(value)
    functional.reset_net(net)
    delayplug.reset_delays(net)
    first = net(x)
    functional.reset_net(net)
    assert torch.equal(net(x), first)
