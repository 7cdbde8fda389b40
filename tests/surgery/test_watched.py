"""Methods of a neuron that its hooks do not see."""

import copy

import norse.torch as norse
import pytest
import snntorch
import torch
from snntorch import utils
from spikingjelly.activation_based import neuron
from torch import nn

from delayplug import SequenceError, add_delays, remove_delays
from delayplug.surgery.identity import mark_of
from delayplug.surgery.link import Link
from delayplug.surgery.watched import Watched, unwatch_methods, watch_methods
from delayplug.toolkits.plugins import toolkit
from delayplug.toolkits.vocabulary import Turns


def watched(node: nn.Module) -> set[str]:
    return {name for name, value in node.__dict__.items() if isinstance(value, Watched)}


def link(name: str = "spikingjelly") -> Link:
    return Link(toolkit(name), Turns.TOGETHER)


@pytest.mark.parametrize(
    ("make", "name", "methods"),
    [
        (neuron.LIFNode, "spikingjelly", {"reset", "functional_forward", "_replicate_for_data_parallel"}),
        (lambda: snntorch.Leaky(beta=0.9), "snntorch", {"reset_mem", "_replicate_for_data_parallel"}),
        (norse.LIFCell, "norse", set()),
    ],
)
def test_what_is_watched_and_not_any_more(make, name: str, methods: set[str]) -> None:
    node, one, other = make(), link(name), link(name)
    watch_methods(node, one.toolkit, one)
    watch_methods(node, other.toolkit, other)
    assert watched(node) == methods
    unwatch_methods(node, one)
    assert watched(node) == methods
    unwatch_methods(node, other)
    assert watched(node) == set()


def test_a_reset_is_the_class_s_own_and_seen_by_every_link() -> None:
    node, links = snntorch.Leaky(beta=0.9), [link("snntorch"), link("snntorch")]
    for one in links:
        watch_methods(node, one.toolkit, one)
    node.mem = torch.ones(2)
    returned = node.reset_mem()
    assert torch.equal(returned, torch.zeros(2))
    for one in links:
        assert mark_of(node.mem, one).note is None
        assert mark_of(returned, one).note is None


def test_a_reset_of_all_neurons_of_a_class_is_seen() -> None:
    node, plain, one = snntorch.Leaky(beta=0.9), snntorch.Leaky(beta=0.9), link("snntorch")
    watch_methods(node, one.toolkit, one)
    node.init_hidden = plain.init_hidden = True
    node.mem, plain.mem = torch.ones(2), torch.ones(2)
    snntorch.Leaky.reset_hidden()
    assert not node.mem.any()
    assert mark_of(node.mem, one).note is None
    assert not plain.mem.any()
    assert mark_of(plain.mem, one) is None
    unwatch_methods(node, one)
    node.mem = torch.ones(2)
    snntorch.Leaky.reset_hidden()
    assert not node.mem.any()
    assert mark_of(node.mem, one) is None


@pytest.mark.parametrize("kind", [snntorch.Leaky, snntorch.Alpha], ids=["leaky", "alpha"])
def test_snntorch_s_reset_of_a_network_begins_a_sequence(kind: type[nn.Module]) -> None:
    torch.manual_seed(0)
    options = {"alpha": 0.9} if kind is snntorch.Alpha else {}
    net = nn.Sequential(nn.Linear(2, 3), kind(beta=0.8, init_hidden=True, threshold=0.3, **options))
    add_delays(net, 4, init=2, interpolation="linear")
    x = torch.rand(8, 2, 2) * 4
    out = []
    for _ in range(3):
        utils.reset(net)
        out.append(torch.stack([net(x_t) for x_t in x]))
    assert out[0].any()
    assert torch.equal(out[1], out[0])
    assert torch.equal(out[2], out[0])


def test_a_copy_watches_for_itself() -> None:
    node, one = neuron.LIFNode(), link()
    watch_methods(node, one.toolkit, one)
    copied = copy.deepcopy(node)
    assert copied.reset.neuron is copied
    assert copied.reset.links == [one]
    node.v, copied.v = torch.ones(2), torch.ones(2)
    copied.reset()
    assert copied.v == 0.0
    assert node.v.any()


def test_a_replica_watches_for_itself() -> None:
    node, one = neuron.LIFNode(), link()
    watch_methods(node, one.toolkit, one)
    node.v = torch.ones(2)
    replica = node._replicate_for_data_parallel()
    assert replica.reset.neuron is replica
    assert replica.reset.links == [one]
    assert watched(replica) == watched(node)
    replica.reset()
    assert replica.v == 0.0
    assert node.v.any()


def test_an_explicit_call_is_the_class_s_own() -> None:
    torch.manual_seed(0)
    plain, x = neuron.LIFNode(), torch.rand(2, 3) * 3
    node, one = copy.deepcopy(plain), link()
    watch_methods(node, one.toolkit, one)
    (expected,), (expected_v,) = plain.functional_forward((x,), (torch.ones(2, 3),))
    (y,), (v,) = node.functional_forward((x,), (torch.ones(2, 3),))
    assert torch.equal(y, expected)
    assert torch.equal(v, expected_v)
    assert expected.any()


def test_removed_delays_leave_a_neuron_as_it_was() -> None:
    net = nn.Sequential(nn.Linear(2, 3), neuron.LIFNode())
    before = set(net[1].__dict__)
    add_delays(net, 3)
    assert watched(net[1])
    remove_delays(net)
    assert set(net[1].__dict__) == before
    assert not net[1]._forward_hooks
    assert not net[1]._forward_pre_hooks


def test_a_quiet_network_is_reset_by_its_toolkit() -> None:
    """A quiet neuron with inputs under way: its zeros could be a copy of the ones that the last call left."""
    net = nn.Sequential(nn.Linear(3, 4, bias=False), snntorch.Leaky(beta=0.9, init_hidden=True))
    x = torch.ones(4, 2, 3)
    with torch.no_grad():
        net[0].weight.fill_(1.0)
        add_delays(net, 3, init=2, interpolation="linear")
        utils.reset(net)
        first = [net(x_t) for x_t in x]
        for steps in (1, 2):
            utils.reset(net)
            for x_t in x[:steps]:
                assert not net(x_t).any()
            assert net[0].delay_memory.state.history.any()
            utils.reset(net)
            assert torch.equal(torch.stack([net(x_t) for x_t in x]), torch.stack(first))
        utils.reset(net)
        net(x[0])
        net[1].mem = net[1].mem.clone()
        with pytest.raises(SequenceError):
            net(x[1])
    assert torch.stack(first)[2:].any()
