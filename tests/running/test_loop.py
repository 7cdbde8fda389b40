"""One loop over time for models with and without a state, and for neurons whichever way their toolkit keeps it."""

import functools
from collections.abc import Callable
from typing import Any

import norse.torch as norse
import pytest
import snntorch
import torch
from spikingjelly.activation_based import functional, neuron
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from delayplug._triton import interpreted, is_installed
from delayplug.running.loop import call, from_fresh_state, has_loop, over_time, step_by_step
from delayplug.surgery.inventory import Network
from delayplug.toolkits import plugins
from tests.running.models import NETS, build, sequence, spikes


def test_outputs_are_stacked_and_the_state_is_passed_on() -> None:
    def step(x_t: Tensor, total: Any) -> tuple[Any, Any]:
        total = total + x_t
        return {"sum": total, "name": "sum"}, total

    x = torch.arange(4.0).view(4, 1)
    y, last = step_by_step(step, x, torch.zeros(1))
    assert y["sum"].flatten().tolist() == [0, 1, 3, 6]
    assert y["name"] == "sum"
    assert last.tolist() == [6]


class Counting(nn.Module):
    """Returns the state that it got."""

    def forward(self, x: Tensor, state: Any = "the default") -> tuple[Any, Any]:
        return state, 1


def test_a_state_is_an_argument_of_that_name() -> None:
    x = torch.zeros(1, 2)
    assert call(Counting(), x) == ("the default", 1)  # that of the model, not None
    assert call(Counting(), x, 5) == (5, 1)
    y, state = call(nn.Identity(), x, 5)
    assert (y is x, state) == (True, None)


@pytest.mark.parametrize("name", NETS)
def test_whether_a_model_loops_by_itself(name: str) -> None:
    net, x = build(name, "plain"), spikes()
    toolkit = plugins.toolkit_of(net.modules())[1]
    before = {key: value.clone() for key, value in net.state_dict().items()}
    # Neurons that take sequences are called once for a sequence, so that nothing loops there, either.
    assert has_loop(Network(net, toolkit), x) is (name == "snntorch state")
    assert all(torch.equal(value, before[key]) for key, value in net.state_dict().items())


@pytest.mark.parametrize("name", ["snntorch hidden", "norse cells", "spikingjelly s"])
def test_a_fresh_state_before_and_after(name: str) -> None:
    net, x = build(name, "plain"), spikes()
    expected = sequence(name, net, x)
    network = Network(net, plugins.toolkit_of(net.modules())[1])
    step = functools.partial(call, net)
    with torch.no_grad():
        step_by_step(step, x[:3])  # somebody else's state
        for _ in range(2):
            assert torch.equal(from_fresh_state(network, lambda: step_by_step(step, x)[0]), expected)


# -------------------------------------------------------------------------------------------------- neurons


MADE: dict[str, tuple[str, Callable[[], nn.Module]]] = {
    "returned": ("snntorch", lambda: snntorch.Leaky(beta=0.75)),
    "held": ("snntorch", lambda: snntorch.Leaky(beta=0.75, init_hidden=True)),
    "passed": ("norse", lambda: norse.LIFBoxCell(dt=0.1)),
    "switched": ("spikingjelly", lambda: neuron.LIFNode(tau=2.0)),
}


def spikes_of(value: Any) -> Tensor:
    return value[0] if isinstance(value, tuple) else value


def stepped(name: str, made: nn.Module, x: Tensor) -> Tensor:
    """The loop that a user writes."""
    outputs, state = [], None
    for x_t in x.unbind(0):
        if name in ("passed", "returned"):
            spikes, state = made(x_t) if state is None else made(x_t, state)
        else:
            spikes = spikes_of(made(x_t))
        outputs.append(spikes)
    return torch.stack(outputs)


@pytest.mark.parametrize("name", MADE)
def test_a_neuron_over_time_is_its_steps(name: str) -> None:
    backend, make = MADE[name]
    x = torch.rand(9, 3, 4, generator=torch.Generator().manual_seed(0)) * 3
    expected = stepped(name, make(), x)
    made = make()
    got = spikes_of(over_time(plugins.toolkit(backend), made, made.forward, x))
    assert 0 < expected.sum() < expected.numel()
    assert torch.equal(got, expected)


@pytest.mark.skipif(not is_installed() or torch.cuda.is_available(), reason="needs Triton and its interpreter")
@pytest.mark.parametrize("name", MADE)
def test_a_neuron_over_time_is_the_same_in_a_kernel(name: str) -> None:
    backend, make = MADE[name]
    x = torch.rand(9, 3, 4, generator=torch.Generator().manual_seed(0)) * 3
    toolkit, made = plugins.toolkit(backend), make()
    expected = over_time(toolkit, made, made.forward, x)
    made = make()
    with interpreted():
        got = over_time(toolkit, made, made.forward, x.requires_grad_())
    assert type(got) is type(expected)
    for a, b in zip(tree_leaves(expected), tree_leaves(got), strict=True):
        assert torch.equal(a, b)
        assert b.grad_fn is not None
    assert "Fused" in spikes_of(got).grad_fn.name()


def test_a_forward_that_is_not_the_classs_own_is_the_one_that_runs() -> None:
    made, toolkit = norse.LIFBoxCell(dt=0.1), plugins.toolkit("norse")
    x = torch.rand(5, 2, 3)
    plain = made.forward

    def louder(x: Tensor, state: Any = None) -> Any:
        return plain(2 * x, state)

    assert torch.equal(over_time(toolkit, made, louder, x)[0], over_time(toolkit, made, plain, 2 * x)[0])


def test_the_step_mode_is_put_back_after_an_error() -> None:
    made = neuron.LIFNode()

    def fails(x: Tensor) -> Tensor:
        assert made.step_mode == "m"
        raise RuntimeError("out of memory")

    with pytest.raises(RuntimeError, match="out of memory"):
        over_time(plugins.toolkit("spikingjelly"), made, fails, torch.rand(3, 2, 4))
    assert made.step_mode == "s"
    functional.reset_net(made)
