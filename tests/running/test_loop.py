"""A neuron of single steps over a whole sequence, whichever way its toolkit keeps the state."""

from collections.abc import Callable
from typing import Any

import norse.torch as norse
import pytest
import snntorch
import torch
from spikingjelly.activation_based import functional, neuron
from torch import Tensor, nn

from delayplug.running.loop import over_time
from delayplug.toolkits import plugins

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
