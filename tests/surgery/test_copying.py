"""Copies of a memory, and what of it goes into a file."""

import copy
import io
from collections.abc import Callable

import norse.torch as norse
import pytest
import snntorch
import torch
from spikingjelly.activation_based import functional, layer, neuron
from torch import Tensor, nn

import delayplug
from delayplug import add_delays
from delayplug.toolkits.vocabulary import Turns
from tests.surgery.networks import shifted

D = 2


def jelly(mode: str) -> nn.Module:
    net = nn.Sequential(layer.Linear(4, 6), neuron.LIFNode())
    functional.set_step_mode(net, mode)
    return net


def fire(x: Tensor) -> Tensor:
    """A surrogate that can be saved, unlike snnTorch's own."""
    return (x > 0).float()


class Passed(nn.Module):
    """Keeps the state of its neuron as its own attribute."""

    def __init__(self, node: nn.Module, start: Callable[[], object]) -> None:
        super().__init__()
        self.fc, self.node, self.state = nn.Linear(4, 6), node, start()

    def forward(self, x: Tensor) -> Tensor:
        y, self.state = self.node(self.fc(x), self.state)
        return y


MAKE: dict[str, Callable[[], nn.Module]] = {
    "hidden": lambda: nn.Sequential(nn.Linear(4, 6), snntorch.Leaky(beta=0.9, init_hidden=True, spike_grad=fire)),
    "s": lambda: jelly("s"),
    "m": lambda: jelly("m"),
    "passed": lambda: Passed(snntorch.Leaky(beta=0.9, spike_grad=fire), lambda: torch.zeros(2, 6)),
    "norse": lambda: Passed(norse.LIFBoxCell(norse.LIFBoxParameters(tau_mem_inv=torch.tensor(400.0))), lambda: None),
}


def run(net: nn.Module, x: Tensor) -> Tensor:
    nodes = [module for module in net.modules() if isinstance(module, neuron.LIFNode)]
    return net(x) if nodes and nodes[0].step_mode == "m" else torch.stack([net(x_t) for x_t in x])


def delayed(name: str) -> tuple[nn.Module, Tensor, Tensor]:
    """A network with delays, its input, and what it should give."""
    torch.manual_seed(0)
    net, x = MAKE[name](), torch.rand(10, 2, 4)
    with torch.no_grad():
        next(net.parameters()).mul_(6)
        expected = run(copy.deepcopy(net), shifted(x, D))
    assert expected.any()
    return add_delays(net, 4, init=D, interpolation="linear"), x, expected


def through_a_file(net: nn.Module) -> nn.Module:
    file = io.BytesIO()
    torch.save(net, file)
    file.seek(0)
    return torch.load(file, weights_only=False)


COPIES = {"copy": copy.deepcopy, "file": through_a_file, "twice": lambda net: copy.deepcopy(copy.deepcopy(net))}


@pytest.mark.real("memory that is copied with what is noted on it")
@pytest.mark.parametrize("copied", COPIES)
@pytest.mark.parametrize("name", MAKE)
def test_a_copy_goes_on_for_itself_and_the_original_too(name: str, copied: str) -> None:
    if (name, copied) == ("norse", "file"):
        pytest.skip("Norse's parameters cannot be pickled")
    net, x, expected = delayed(name)
    with torch.no_grad():
        first = run(net, x[:4])
        other = COPIES[copied](net)
        third = COPIES[copied](net)
        a, b = run(net, x[4:7]), run(other, x[4:7])
        c, d = run(net, x[7:]), run(other, x[7:])
        e = run(third, torch.cat([x[4:7], x[:3]]))
    assert torch.equal(torch.cat([first, a, c]), expected)
    assert torch.equal(torch.cat([first, b, d]), expected)
    assert torch.equal(e[:3], expected[4:7])


@pytest.mark.parametrize("name", ["hidden", "s", "m"])
def test_a_copy_of_a_fresh_or_reset_network_begins(name: str) -> None:
    net, x, expected = delayed(name)
    with torch.no_grad():
        for _ in range(2):
            for other in (copy.deepcopy(net), through_a_file(net)):
                assert torch.equal(run(other, x), expected)
            run(net, x)
            node = net[1]
            node.reset() if isinstance(node, neuron.LIFNode) else node.reset_mem()


def test_a_copy_has_no_graph_and_the_original_keeps_its_own() -> None:
    net, x, _ = delayed("s")
    run(net, x[:4].requires_grad_())
    functional.detach_net(net)  # torch copies no tensor with a graph
    other = copy.deepcopy(net)
    mine, copied = delayplug.delay_state(net)["0"], delayplug.delay_state(other)["0"]
    assert mine.history.requires_grad
    assert not copied.history.requires_grad
    assert torch.equal(copied.history, mine.history)


def test_what_the_next_call_was_told_to_go_on_from_goes_with_a_copy() -> None:
    net, x, expected = delayed("hidden")
    with torch.no_grad():
        first, mem = run(net, x[:4]), net[1].mem.clone()
        state = delayplug.delay_state(net)
        run(net, x)
        net[1].mem = mem
        delayplug.set_delay_state(net, state)
        for other in (copy.deepcopy(net), through_a_file(net)):
            assert torch.equal(torch.cat([first, run(other, x[4:])]), expected)


def test_a_copied_neuron_is_that_of_the_copied_memory() -> None:
    net, x, _ = delayed("hidden")
    run(net, x)
    net[1].reset_mem()
    other = copy.deepcopy(net)
    memory = other[0].delay_memory
    assert memory.neuron is other[1]
    assert memory.link is net[0].delay_memory.link
    assert not memory.knows_its_neuron
    run(other, x)
    assert memory.knows_its_neuron


def test_a_replica_has_nothing_under_way() -> None:
    net, x, _ = delayed("hidden")
    run(net, x)
    memory = net[0].delay_memory
    replica = memory.replica()
    assert memory.state is not None
    assert replica.state is None
    assert replica.link is memory.link
    assert not replica.knows_its_neuron
    assert replica.snapshot().last is None
    assert memory.snapshot().last is not None


def test_a_memory_saved_by_delayplug_0_1() -> None:
    net, x, _ = delayed("hidden")
    run(net, x[:4])
    memory = net[0].delay_memory
    state, mem = memory.state.detach(), net[1].mem.detach()
    old = type(memory).__new__(type(memory))
    words = {"probe": memory.toolkit, "neuron": net[1], "turns": "sequence, then steps", "state": state}
    old.__setstate__({**words, "_held": (mem, "no tensor"), "_returned": (), "_caller_keeps_state": True, "_missed": 0})
    assert old.turns is Turns.SEQUENCE_THEN_STEPS
    assert old.toolkit is memory.toolkit
    assert old.state is state
    now = old.snapshot()
    assert now.passes
    assert [torch.equal(tensor, mem) for tensor in now.left] == [True]
    old.__setstate__({**words, "state": None, "_held": (), "_returned": None})
    assert old.state is None
    assert not old.snapshot().passes
