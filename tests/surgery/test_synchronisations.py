"""How often delays read the value of a tensor: on a device, the host waits for it each time.

Counted on the CPU, by what would wait on a device; the networks without delays are counted, too, and do not matter.
"""

import contextlib
import copy
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import norse.torch as norse
import pytest
import snntorch
import torch
from snntorch import utils
from spikingjelly.activation_based import functional, layer, neuron
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from delayplug import SequenceError, add_delays
from tests.devices import DEVICE, waits

T, B, I, O = 6, 3, 5, 4  # noqa: E741

ROOT = Path(__file__).parents[2]
READS = ("_local_scalar_dense", "item", "is_nonzero", "equal", "nonzero", "masked_select", "_unique2", "allclose")


def _room() -> str:
    """Where in delayplug a value is read; "" for everybody else."""
    frame = sys._getframe(2)
    while frame is not None:
        path = Path(frame.f_code.co_filename)
        if path.is_relative_to(ROOT / "delayplug") or path.is_relative_to(ROOT / "adapters"):
            return path.relative_to(ROOT).as_posix()
        frame = frame.f_back
    return ""


class _Lists(TorchFunctionMode):
    """`tolist` of a tensor on the CPU is no operation that a dispatch mode sees."""

    reads: list[str]

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in (Tensor.tolist, Tensor.numpy):
            self.reads.append(f"{func.__name__} in {_room()}")
        return func(*args, **(kwargs or {}))


class Reads(TorchDispatchMode):
    """The operations that read values within the block."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []
        self._lists = _Lists()
        self._lists.reads = self.names

    def __enter__(self) -> "Reads":
        self._lists.__enter__()
        super().__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        self._lists.__exit__(*error)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        masks = name in ("index", "index_put_") and any(i is not None and i.dtype == torch.bool for i in args[1])
        if name in READS or masks:
            self.names.append(f"{name} in {_room()}")
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize(
    "read",
    [
        lambda x: x.sum().item(),
        lambda x: bool(x.any()),
        lambda x: x.tolist(),
        lambda x: x.sum().tolist(),
        lambda x: torch.equal(x, x),
        lambda x: x[x > 0],
        lambda x: x.nonzero(),
        lambda x: float(x[0]),
        lambda x: x.cpu().numpy(),
    ],
)
def test_a_read_is_counted(read: Callable[[Tensor], Any]) -> None:
    x = torch.ones(3)
    with Reads() as reads:
        x.add(1).sum()
    assert reads.names == []
    with Reads() as reads:
        read(x)
    assert len(reads.names) == 1


class Passed(nn.Module):
    """Its neuron is passed its state."""

    def __init__(self, node: nn.Module) -> None:
        super().__init__()
        self.fc, self.node = nn.Linear(I, O), node

    def forward(self, x: Tensor, *state: Any) -> tuple[Tensor, Any]:
        y, *state = self.node(self.fc(x), *state)
        return y, state


def jelly(mode: str) -> nn.Module:
    net = nn.Sequential(layer.Linear(I, O), neuron.LIFNode(), layer.Linear(O, O), neuron.IFNode())
    functional.set_step_mode(net, mode)
    return net


def hidden() -> nn.Module:
    return nn.Sequential(nn.Linear(I, O), snntorch.Synaptic(alpha=0.8, beta=0.9, init_hidden=True))


def zeros() -> tuple[Tensor, ...]:
    return (torch.zeros(B, O),)


class Way(NamedTuple):
    """A way to drive a network: what makes it, what begins a sequence, and one call."""

    make: Callable[[], nn.Module]
    begin: Callable[[nn.Module], Any]
    call: Callable[[nn.Module, Tensor, Any], Any]
    whole: bool = False


def held(net: nn.Module, x: Tensor, state: Any) -> None:
    net(x)


def passed(net: nn.Module, x: Tensor, state: Any) -> Any:
    return net(x, *state)[1]


def reset(net: nn.Module) -> None:
    for module in net.modules():
        if isinstance(module, snntorch.SpikingNeuron):
            module.reset_mem()
    functional.reset_net(net)


WAYS: dict[str, Way] = {
    "snntorch, held": Way(hidden, reset, held),
    "snntorch, held, reset all": Way(hidden, utils.reset, held),
    "snntorch, passed": Way(lambda: Passed(snntorch.Leaky(beta=0.9)), lambda net: (net.node.init_leaky(),), passed),
    "snntorch, two passed": Way(
        lambda: Passed(snntorch.Synaptic(alpha=0.8, beta=0.9)), lambda net: net.node.init_synaptic(), passed
    ),
    "norse, cell": Way(lambda: Passed(norse.LIFCell()), lambda net: (None,), passed),
    "norse, layer": Way(lambda: Passed(norse.LIF()), lambda net: (None,), passed, whole=True),
    "spikingjelly, s": Way(lambda: jelly("s"), functional.reset_net, held),
    "spikingjelly, m": Way(lambda: jelly("m"), functional.reset_net, held, whole=True),
}


def driven(way: Way, net: nn.Module, x: Tensor) -> list[list[str]]:
    """What is read in each call of three sequences."""
    counted = []
    for _ in range(3):
        state = way.begin(net)
        for chunk in x.split(2) if way.whole else x:
            with Reads() as reads:
                state = way.call(net, chunk, state)
            counted.append(reads.names)
    return counted


def of_sequences(names: list[str]) -> list[str]:
    """Those of the reads that tell one sequence from the next; the layers look at the values of inputs on the CPU."""
    return [name for name in names if "delayplug" in name and "delayplug/layers/" not in name]


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("way", WAYS)
def test_nothing_is_read_in_steps_and_at_beginnings(way: str, training: bool) -> None:
    net = add_delays(WAYS[way].make(), 4).train(training)
    with torch.set_grad_enabled(training):
        assert [of_sequences(names) for names in driven(WAYS[way], net, torch.rand(T, B, I))] == [[]] * (
            9 if WAYS[way].whole else 18
        )


@pytest.mark.skipif(DEVICE.type == "cpu", reason="a CPU is not waited for")
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("way", WAYS)
def test_no_device_is_waited_for(way: str, training: bool) -> None:
    plain, x = WAYS[way].make().train(training).to(DEVICE), torch.rand(T, B, I)
    net = add_delays(copy.deepcopy(plain), 4)
    with torch.set_grad_enabled(training):
        driven(WAYS[way], net, x)  # compiles
        assert driven(WAYS[way], net, x) == driven(WAYS[way], plain, x)
        assert waits(lambda: driven(WAYS[way], net, x)) == waits(lambda: driven(WAYS[way], plain, x))


@pytest.mark.skipif(DEVICE.type == "cpu", reason="a CPU is not waited for")
def test_waits_are_counted() -> None:
    x = torch.rand(4)
    assert waits(lambda: x.add(1).sum()) == 0
    assert waits(lambda: x.sum().item()) == 1


def test_zeros_made_within_the_call_of_the_model_are_not_read() -> None:
    class Net(Passed):
        def forward(self, x: Tensor) -> Tensor:
            state = (torch.zeros(x.shape[1], O),)
            for x_t in x:
                y, state = super().forward(x_t, *state)
            return y

    net = add_delays(Net(snntorch.Leaky(beta=0.9)), 4, example=torch.rand(T, B, I))
    for _ in range(3):
        with Reads() as reads:
            net(torch.rand(T, B, I))
        assert of_sequences(reads.names) == []


def test_streams_and_slices_are_not_read() -> None:
    net = add_delays(Passed(snntorch.Leaky(beta=0.9)), 4)
    states = [(net.node.init_leaky(),), (net.node.init_leaky(),)]
    for t in range(T):
        count = B - t // 3
        for i, (mem,) in enumerate(states):
            with Reads() as reads:
                _, states[i] = net(torch.rand(count, I), mem[:count])
            assert of_sequences(reads.names) == []


@pytest.mark.parametrize("kind", ["zeros", "clone"])
@pytest.mark.parametrize("node", ["one", "two"])
def test_one_read_for_a_state_that_nobody_has_seen(node: str, kind: str) -> None:
    net = add_delays(Passed(snntorch.Leaky(beta=0.9) if node == "one" else snntorch.Synaptic(alpha=0.8, beta=0.9)), 4)
    fresh = (torch.zeros(B, O),) * (1 if node == "one" else 2)
    state = fresh
    for _ in range(2):
        for t in range(T):
            if t == 0 and kind == "zeros":
                state = tuple(map(torch.clone, fresh))
            with Reads() as reads:
                _, state = net(torch.rand(B, I), *state)
            assert len(of_sequences(reads.names)) <= (t == 0)
    with Reads() as reads, contextlib.suppress(SequenceError):
        net(torch.rand(B, I), *(s.clone() + 1 for s in state))
    assert len(of_sequences(reads.names)) == 1
