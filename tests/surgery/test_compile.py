"""Delayed models under torch.compile: right, and with a number of graphs that does not grow."""

from collections.abc import Callable
from typing import Any

import norse.torch as norse
import pytest
import torch
from networks import CellNet, F, H, InitLeaky, O, ResetMem, jelly, sequence
from spikingjelly.activation_based import functional
from torch import Tensor, nn
from torch._dynamo.utils import counters

from delayplug import WiringError, add_delays, named_delays

pytestmark = pytest.mark.filterwarnings("ignore")  # the compiler's, about the toolkits


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
