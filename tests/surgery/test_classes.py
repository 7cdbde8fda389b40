"""Tools that exchange a layer's class or hang hooks on it, before and after the delays, taken off in any order."""

import copy
import itertools
import pickle
from abc import ABC

import norse.torch as norse
import pytest
import torch
from spikingjelly.activation_based import functional, layer, neuron
from torch import Tensor, nn
from torch.nn.utils import (
    parametrizations,
    parametrize,
    prune,
    remove_spectral_norm,
    remove_weight_norm,
    spectral_norm,
    weight_norm,
)

from delayplug import add_delays, named_delays, plan_delays, remove_delays
from delayplug.surgery.classes import as_plain, mixed, mixed_in, put_in, take_out
from tests.networks import F, H, sequence

SHIFT = 2

KINDS = {  # how each is put on a layer, and taken off
    "weight_norm": (parametrizations.weight_norm, lambda m: parametrize.remove_parametrizations(m, "weight")),
    "spectral_norm": (parametrizations.spectral_norm, lambda m: parametrize.remove_parametrizations(m, "weight")),
    "own": (
        lambda m: parametrize.register_parametrization(m, "weight", nn.Tanh()),
        lambda m: parametrize.remove_parametrizations(m, "weight"),
    ),
    "bias": (
        lambda m: parametrize.register_parametrization(m, "bias", nn.Softplus()),
        lambda m: parametrize.remove_parametrizations(m, "bias"),
    ),
    "hooked_weight_norm": (weight_norm, remove_weight_norm),
    "hooked_spectral_norm": (spectral_norm, remove_spectral_norm),
    "pruning": (
        lambda m: prune.l1_unstructured(m, "weight", amount=0.4),
        lambda m: prune.remove(m, "weight"),
    ),
}

NETWORKS = {
    "linear": lambda: nn.Sequential(layer.Linear(F, H), neuron.LIFNode(v_threshold=0.2)),
    "convolution": lambda: nn.Sequential(layer.Conv1d(F, H, 3, padding=1), neuron.LIFNode(v_threshold=0.2)),
    "lifted": lambda: norse.SequentialState(norse.Lift(nn.Linear(F, H)), norse.LIF()),
}


def network(name: str) -> tuple[nn.Module, nn.Module, Tensor]:
    """A network, the module of its weights, and an input."""
    torch.manual_seed(0)
    net = NETWORKS[name]()
    functional.set_step_mode(net, "m")
    module = net[0].lifted_module if name == "lifted" else net[0]
    with torch.no_grad():
        module.weight.mul_(40 if name == "lifted" else 2)
    x = sequence(12).unsqueeze(-1).repeat(1, 1, 1, 4) if name == "convolution" else sequence(12)
    return net, module, x


def run(net: nn.Module, x: Tensor) -> Tensor:
    functional.reset_net(net)
    y: Tensor | tuple[Tensor, object] = net(x)
    functional.reset_net(net)
    return y[0] if isinstance(y, tuple) else y


def train(net: nn.Module, x: Tensor) -> None:
    """Two steps of training; delays are put back to whole steps afterwards."""
    net.train()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    for _ in range(2):
        optimizer.zero_grad()
        (run(net, x).mean() - 0.3).square().backward()
        optimizer.step()
    for _, delay in named_delays(net):
        with torch.no_grad():
            delay.delays.fill_(SHIFT)
    optimizer.zero_grad()


def expected(name: str, module: nn.Module, x: Tensor, shift: int) -> Tensor:
    """What a plain network gives with the weights and the bias that the module has now."""
    plain, target, _ = network(name)
    with torch.no_grad():
        target.weight.copy_(module.weight)
        target.bias.copy_(module.bias)
    return run(plain.eval(), torch.cat((torch.zeros_like(x[:shift]), x[: len(x) - shift])))


# + and - are the delays on and off, p and q the other tool: first on, then off.
ORDERS = [o for o in itertools.permutations("+-pq") if o.index("+") < o.index("-") and o.index("p") < o.index("q")]


@pytest.mark.parametrize("order", [*ORDERS, ("p", "+", "-"), ("+", "p", "-", "+", "-", "q")], ids="".join)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", NETWORKS)
def test_every_order_of_putting_on_and_taking_off(name, kind, order):
    net, module, x = network(name)
    kind_of = type(net[0]), type(module)
    on, off = KINDS[kind]
    actions = {
        "+": lambda: add_delays(net, 4, init=SHIFT, interpolation="linear", filter_fn=["0"], example=x),
        "-": lambda: remove_delays(net),
        "p": lambda: on(module),
        "q": lambda: off(module),
    }
    for action in order:
        actions[action]()
        train(net, x)
        shift = SHIFT if any(named_delays(net)) else 0
        with torch.no_grad():
            y = run(net.eval(), x)
            torch.testing.assert_close(y, expected(name, module, x, shift))
            assert 0 < y.mean() < 1
    if "q" in order:
        assert (type(net[0]), type(module)) == kind_of
        assert not module._forward_pre_hooks
        assert [key for key, _ in module.named_parameters()] in (["weight", "bias"], ["bias", "weight"])


def copied(net: nn.Module, how) -> nn.Module | None:
    """A copy; None where torch refuses to make one, which it does with a RuntimeError."""
    try:
        return how(net)
    except RuntimeError:
        return None


@pytest.mark.parametrize(
    "how", [copy.deepcopy, lambda net: pickle.loads(pickle.dumps(net))], ids=["deepcopy", "pickle"]
)
@pytest.mark.parametrize("order", ["+p", "p+"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_copy_is_made_where_the_plain_network_has_one(kind, order, how):
    (net, module, x), (plain, plain_module, _) = network("linear"), network("linear")
    on, off = KINDS[kind]
    on(plain_module)
    for action in order:
        if action == "p":
            on(module)
        else:
            add_delays(net, 4, init=SHIFT, interpolation="linear")
    net.eval()
    with torch.no_grad():
        y, _ = run(net, x), run(plain.eval(), x)
        other = copied(net, how)
        assert (other is None) == (copied(plain, how) is None)
        if other is not None:
            assert torch.equal(run(other, x), y)
            remove_delays(other)
            assert type(other[0]).__mro__[-5:] == type(plain[0]).__mro__[-5:]
            assert torch.equal(run(net, x), y)  # the original has its delays still
    remove_delays(net)
    off(module)
    assert type(net[0]) is layer.Linear


@pytest.mark.parametrize("granularity", ["synaptic", "axonal", "dendritic"])
@pytest.mark.parametrize(
    "make",
    [
        lambda: nn.Sequential(layer.Linear(F, H, step_mode="m"), neuron.LIFNode(step_mode="m")),
        lambda: nn.Sequential(layer.Conv2d(2, 4, 3, step_mode="m"), neuron.LIFNode(step_mode="m")),
        lambda: nn.Sequential(layer.ConvTranspose2d(2, 4, 3, step_mode="m"), neuron.LIFNode(step_mode="m")),
        lambda: nn.Sequential(nn.Conv2d(2, 4, 3), neuron.LIFNode(step_mode="m")),
        lambda: nn.Sequential(nn.Conv2d(2, 4, 3), neuron.LIFNode()),
        lambda: norse.SequentialState(norse.Lift(nn.Conv2d(2, 4, 3)), norse.LIF()),
        lambda: norse.SequentialState(nn.Conv2d(2, 4, 3), norse.LIFCell()),
    ],
    ids=["linear", "convolution", "transposed", "no_time", "step", "lifted", "cell"],
)
def test_a_parametrized_layer_is_planned_like_a_plain_one(make, granularity):
    plain, net = make(), make()
    module = next(m for m in net.modules() if isinstance(m, nn.Linear | nn.Conv2d | nn.ConvTranspose2d))
    parametrizations.weight_norm(module)
    plans = [str(plan_delays(model, granularity=granularity)) for model in (plain, net)]
    assert plans[0] == plans[1]


class Mixin(nn.Module):
    """As a tool may put in front of the class of a layer."""


def test_the_class_has_the_names_of_the_plain_one():
    cls = mixed(Mixin, nn.Linear)
    assert cls is mixed(Mixin, nn.Linear)
    assert issubclass(cls, nn.Linear)
    assert issubclass(cls, Mixin)
    names = ("__name__", "__qualname__", "__module__", "__doc__")
    assert [getattr(cls, name) for name in names] == [getattr(nn.Linear, name) for name in names]
    assert mixed_in(cls) == (Mixin, nn.Linear)


def test_a_class_that_another_tool_made_stays_when_the_mixin_is_taken_out():
    class Sharded(nn.Module):  # FSDP2 does so
        def shard(self) -> str:
            return "sharded"

    net = nn.Linear(2, 3)
    put_in(Mixin, net)
    net.__class__ = type("ShardedLinear", (Sharded, type(net)), {"tool": "of the tool"})
    assert mixed_in(type(net)) == (Mixin, nn.Linear)
    take_out(net)
    assert not isinstance(net, Mixin)
    assert (net.shard(), net.tool, type(net).__name__) == ("sharded", "of the tool", "ShardedLinear")
    assert type(net).__bases__ == (Sharded, nn.Linear)


def test_a_parametrization_of_one_layer_says_nothing_of_another():
    plain = parametrizations.weight_norm(nn.Linear(2, 3))
    net = copy.deepcopy(plain)  # torch lets a copy share the class
    put_in(Mixin, net)
    parametrize.remove_parametrizations(net, "weight")
    assert parametrize.is_parametrized(plain, "weight")
    assert plain.weight.shape == (3, 2)
    assert type(net) is mixed(Mixin, nn.Linear)


class Abstract(nn.Linear, ABC):
    """Of a metaclass other than type."""


@pytest.mark.parametrize("plain", [nn.Linear, Abstract])
def test_the_class_shows_as_what_it_is(plain):
    net = plain(2, 3)
    put_in(Mixin, net)
    parametrize.register_parametrization(net, "weight", nn.Tanh())
    for cls in type(net).__mro__[:2]:
        text = repr(cls)
        assert text.startswith(f"<class '{cls.__module__}.{cls.__qualname__}', a {plain.__name__} with delays")
    take_out(net)
    assert "with delays" not in repr(type(net))
    parametrize.remove_parametrizations(net, "weight")
    assert type(net) is plain


def test_a_layer_as_one_of_its_plain_class():
    net, module, _ = network("linear")
    add_delays(net, 4)
    plain = as_plain(module)
    assert type(plain) is layer.Linear
    assert plain.weight is module.weight
    assert type(module) is not layer.Linear
