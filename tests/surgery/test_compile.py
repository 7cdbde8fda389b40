"""Delayed models under torch.compile: right, and with a number of graphs that does not grow."""

from collections.abc import Callable
from typing import Any

import norse.torch as norse
import pytest
import torch
from spikingjelly.activation_based import functional
from torch import Tensor, nn
from torch._dynamo.utils import counters

from delayplug import WiringError, add_delays, named_delays, over_steps, unroll
from delayplug.bench.config import RunConfig
from delayplug.bench.model.network import DelayNetwork
from delayplug.neurons.loops import compiled_loops
from delayplug.toolkits import plugins
from tests.networks import CellNet, F, H, InitLeaky, O, ResetMem, jelly, sequence

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]  # the compiler's, about the toolkits


def whole(net: Any, x: Tensor) -> Tensor:
    return net(x)


def reset_first(net: Any, x: Tensor) -> Tensor:
    functional.reset_net(net)
    return net(x)


def carrying(net: Any, x: Tensor) -> Tensor:
    state, out = None, []
    for x_t in x:
        y, state = net(x_t, state)
        out.append(y)
    return torch.stack(out)


def sequential_state() -> nn.Module:
    return norse.SequentialState(nn.Linear(F, H), norse.LIFCell(), nn.Linear(H, O), norse.LIFCell())


def hidden_states() -> nn.Module:
    return InitLeaky()


CASES: dict[str, tuple[Callable[[], nn.Module], Callable[[Any, Tensor], Tensor]]] = {
    "snntorch class": (InitLeaky, whole),
    "snntorch hidden": (ResetMem, whole),
    "norse class": (CellNet, whole),
    "norse sequential": (sequential_state, carrying),
    "spikingjelly": (lambda: jelly("m"), reset_first),
}


@pytest.mark.parametrize(("make", "run"), CASES.values(), ids=CASES)
def test_a_compiled_model_is_right_and_does_not_recompile(make, run):
    torch._dynamo.reset()
    counters.clear()
    torch.manual_seed(0)
    net = add_delays(make(), 4, init=2, interpolation="linear")
    samples = [sequence(seed=1), sequence(seed=2), sequence(seed=3, batch=5), sequence(seed=4, batch=5)]
    with torch.no_grad():
        expected = [run(net, x) for x in samples]
        compiled = torch.compile(net, backend="eager")
        for x, y in zip(samples, expected, strict=True):
            torch.testing.assert_close(run(compiled, x), y)
    optimizer = torch.optim.SGD(compiled.parameters(), lr=0.1)
    train(compiled, run, optimizer, steps=3)
    graphs, limits = counters["stats"]["unique_graphs"], counters["recompile_limit"]
    assert 0 < graphs < 40, graphs
    train(compiled, run, optimizer, steps=6)
    assert counters["stats"]["unique_graphs"] == graphs, "every training step compiles anew"
    assert not limits
    with torch.no_grad():
        torch.testing.assert_close(run(compiled, samples[2]), run(net, samples[2]))


def train(net: nn.Module, run: Callable[[Any, Tensor], Tensor], optimizer: torch.optim.Optimizer, steps: int) -> None:
    for seed in range(steps):
        optimizer.zero_grad()
        y = run(net, sequence(seed=seed))
        (y * torch.randn_like(y)).sum().backward()
        assert all(delay.delays.grad is not None for _, delay in named_delays(net))
        optimizer.step()


@pytest.mark.parametrize("compiled", [torch.compile, lambda net: net.compile() or net])
def test_a_model_that_is_compiled_already_is_refused(compiled):
    with pytest.raises(WiringError, match="add delays to the plain model, then compile it"):
        add_delays(compiled(InitLeaky()), 4)


# ------------------------------------------------------------------------------------------- loops over the time


@pytest.mark.parametrize("backend", ["snntorch", "norse", "spikingjelly"])
def test_compiled_loops_of_the_benchmark(backend: str) -> None:
    """The same spikes and gradients, in training and evaluation."""
    network = DelayNetwork((F, H, O), plugins.toolkit(backend), RunConfig(max_delay=4, dropout=0.0))

    def results(x: Tensor) -> list[Tensor]:
        network.zero_grad()
        y = network(x)
        y.square().sum().backward()
        return [y.detach(), *(p.grad.clone() for p in network.parameters() if p.grad is not None)]

    for batch, training in ((3, True), (3, False), (3, True)):
        network.train(training)
        x = sequence(steps=27, batch=batch)
        network.compiles = False
        expected = results(x)
        network.compiles = True
        for found, right in zip(results(x), expected, strict=True):
            assert torch.allclose(found, right, atol=1e-5, rtol=1e-4)


def test_neurons_of_one_kind_have_graphs_of_their_own() -> None:
    """torch.compile keeps eight graphs for one function: ten neurons must not fall back to their loops."""
    toolkit = plugins.toolkit("snntorch")
    neurons = [toolkit.spiking_neuron(tau=1.5 + i) for i in range(10)]
    x = sequence(steps=11)
    counters.clear()
    with compiled_loops():
        for neuron in neurons:
            toolkit.run(neuron, x)
        assert counters["stats"]["unique_graphs"] == 10
        for neuron in neurons:
            toolkit.run(neuron, x)
    assert counters["stats"]["unique_graphs"] == 10


@pytest.mark.parametrize("make", [hidden_states, sequential_state], ids=lambda make: make.__name__)
def test_unroll_compiled(make: Callable[[], nn.Module]) -> None:
    torch.manual_seed(0)
    net = add_delays(make(), max_delay=3)
    x = sequence(steps=23)
    expected = unroll(net, x)
    counters.clear()
    found = unroll(net, x, compile=True)
    assert torch.allclose(found, expected, atol=1e-5)
    assert counters["stats"]["unique_graphs"] > 0
    found.sum().backward()


def test_what_does_not_compile_runs_in_a_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    def step(neuron: nn.Module, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        return neuron(x) + state, state + 1

    def fails(*_: Any) -> None:
        raise AssertionError("a bug of the compiler's")

    monkeypatch.setattr(torch, "compile", lambda *_, **__: fails)

    neuron, x = nn.Linear(F, H), sequence(steps=23)
    expected = over_steps(step, neuron, x, torch.zeros(()))
    with compiled_loops():
        with pytest.warns(UserWarning, match=r"Linear does not compile .*\(AssertionError: a bug"):
            found = over_steps(step, neuron, x, torch.zeros(()))
        assert torch.allclose(found, expected)
        assert torch.allclose(over_steps(step, neuron, x, torch.zeros(())), expected)


def test_no_compiler_unless_asked_for() -> None:
    counters.clear()
    unroll(hidden_states(), sequence(steps=23))
    assert not counters["stats"]["unique_graphs"]
