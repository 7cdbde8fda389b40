"""One loop over time for models with and without a state, and for neurons."""

import functools
from typing import Any

import norse.torch as norse
import pytest
import snntorch
import torch
from spikingjelly.activation_based import neuron
from torch import Tensor, nn

from delayplug.running.loop import call, from_fresh_state, has_loop, over_time, step_by_step
from delayplug.surgery.inventory import Network
from delayplug.toolkits import plugins
from delayplug.toolkits.capabilities import streams
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


@pytest.mark.parametrize(
    ("backend", "make"),
    [
        ("snntorch", lambda: snntorch.Leaky(beta=0.8)),
        ("norse", lambda: norse.LIFCell()),
        ("spikingjelly", lambda: neuron.LIFNode(tau=2.0)),
        ("snntorch", lambda: snntorch.Leaky(beta=0.8, init_hidden=True)),
    ],
)
def test_a_neuron_over_time(backend: str, make: Any) -> None:
    toolkit, x = plugins.toolkit(backend), 3 * torch.rand(12, 2, 5)
    one, other = make(), make()
    state: tuple[Any, ...] = ()
    expected = []
    for x_t in x:
        out = one(x_t, *state)
        state = out[1:] if isinstance(out, tuple) else ()
        expected.append(out[0] if isinstance(out, tuple) else out)
    assert torch.stack(expected).any()
    calls = []

    def counted(*args: Any) -> Any:
        calls.append(args)
        return type(other).forward(other, *args)

    for forward in (other.forward, counted):
        streams(toolkit).reset(other)
        out = over_time(toolkit, other, forward, x)
        torch.testing.assert_close(out[0] if isinstance(out, tuple) else out, torch.stack(expected))
    assert calls
