"""Adaptive neurons in each toolkit's terms: equal among toolkits and in kernels, and neurons for all of delayplug."""

from typing import Any

import norse.torch as norse
import pytest
import snntorch
import torch
from delayplug_norse.adaptive import AdaptiveLIFCell, AdaptiveLIFParameters
from delayplug_snntorch.adaptive import AdaptiveLIF
from delayplug_spikingjelly.adaptive import AdaptiveLIFNode
from spikingjelly.activation_based import functional
from torch import Tensor, nn

from delayplug import AdaptiveParameters, BackendError, Benchmarks, ExchangeError, add_delays, freeze_delays, unroll
from delayplug._triton import is_installed
from delayplug.neurons.loops import compiled_loops
from delayplug.neurons.recurrence import in_steps
from delayplug.testing.capability_laws import assert_dynamics
from delayplug.testing.laws import Laws
from delayplug.testing.networks import Network
from delayplug.toolkits import plugins
from tests.corpus import norse_networks, snntorch_networks, spikingjelly_networks
from tests.neurons.cases import in_kernel

pytestmark = [
    pytest.mark.filterwarnings("ignore::UserWarning:snntorch"),
    pytest.mark.filterwarnings("ignore:The .grad"),
]
BACKENDS = ("snntorch", "norse", "spikingjelly")
F, HIDDEN, OUT = 5, 6, 4
MS: dict[str, Any] = {"step_ms": 10.0, "strength": 3.0}


@pytest.fixture(autouse=True)
def few_instances() -> None:
    """snnTorch looks at every neuron ever made, and never forgets one."""
    snntorch.SpikingNeuron.instances.clear()


# ---------------------------------------------------------------------------------------------------- the laws


class SnnTorchNet(nn.Module):
    """The loop and both states of each neuron are in forward."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.lif1 = nn.Linear(F, HIDDEN), AdaptiveLIF(HIDDEN, **MS)
        self.fc2, self.lif2 = nn.Linear(HIDDEN, OUT), AdaptiveLIF(OUT, **MS)

    def forward(self, x: Tensor, state: Any = None) -> tuple[Tensor, Any]:
        if state is None:
            self.lif1.reset_mem()
            self.lif2.reset_mem()
        first, second = ((), ()) if state is None else state
        out = []
        for x_t in x:
            spikes, *first = self.lif1(self.fc1(x_t), *first)
            spikes, *second = self.lif2(self.fc2(spikes), *second)
            out.append(spikes)
        return torch.stack(out), (tuple(first), tuple(second))


def snntorch_hidden() -> nn.Module:
    return nn.Sequential(
        nn.Linear(F, HIDDEN),
        AdaptiveLIF(HIDDEN, init_hidden=True, **MS),
        nn.Linear(HIDDEN, OUT),
        AdaptiveLIF(OUT, init_hidden=True, **MS),
    )


def steps(net: Any, x: Tensor, state: Any) -> tuple[Tensor, Any]:
    return torch.stack([net(x_t) for x_t in x]), state


def reset_all(net: nn.Module) -> None:
    for neuron in net.modules():
        if isinstance(neuron, AdaptiveLIF):
            neuron.reset_mem()


def cut_all(net: nn.Module, state: Any) -> Any:
    AdaptiveLIF.detach_hidden()
    return state


class TestSnnTorch(Laws):
    backend = "snntorch"
    networks = (
        Network(
            "states-in-forward",
            lambda: snntorch_networks.awake(SnnTorchNet(), 1.0, 6.0),
            (F,),
            ("fc1", "fc2"),
            snntorch_networks.carried,
            cut=snntorch_networks.cut,
        ),
        Network(
            "hidden",
            lambda: snntorch_networks.awake(snntorch_hidden(), 1.0, 6.0),
            (F,),
            ("0", "2"),
            steps,
            reset_all,
            cut_all,
        ),
    )


def norse_cells() -> nn.Module:
    cells = [AdaptiveLIFCell(AdaptiveLIFParameters(size, **MS)) for size in (HIDDEN, OUT)]
    return norse.SequentialState(nn.Linear(F, HIDDEN), cells[0], nn.Linear(HIDDEN, OUT), cells[1])


class TestNorse(Laws):
    backend = "norse"
    networks = (
        Network(
            "cells",
            lambda: norse_networks.awake(norse_cells(), 1.0, 6.0),
            (F,),
            ("0", "2"),
            norse_networks.steps,
            cut=norse_networks.cut,
        ),
    )


def jelly(mode: str) -> nn.Module:
    net = nn.Sequential(
        nn.Linear(F, HIDDEN), AdaptiveLIFNode(HIDDEN, **MS), nn.Linear(HIDDEN, OUT), AdaptiveLIFNode(OUT, **MS)
    )
    return spikingjelly_networks.awake(spikingjelly_networks.in_mode(mode, net), 8.0)


class TestSpikingJelly(Laws):
    backend = "spikingjelly"
    networks = (
        Network(
            "mode-s",
            lambda: jelly("s"),
            (F,),
            ("0", "2"),
            spikingjelly_networks.steps,
            spikingjelly_networks.start,
            spikingjelly_networks.cut,
        ),
        Network(
            "mode-m",
            lambda: jelly("m"),
            (F,),
            ("0", "2"),
            spikingjelly_networks.whole,
            spikingjelly_networks.start,
            spikingjelly_networks.cut,
            sees="sequences",
        ),
    )


# ------------------------------------------------------------------------------------------------ among toolkits


def made(backend: str, size: int = 7) -> tuple[Any, nn.Module]:
    """The benchmark's neuron, the same one in each toolkit."""
    toolkit: Any = plugins.toolkit(backend)
    torch.manual_seed(3)
    return toolkit, toolkit.adaptive_neuron(size, step_ms=10.0)


def inputs(size: int = 7) -> Tensor:
    return torch.rand(40, 3, size, generator=torch.Generator().manual_seed(1)) * 8


@pytest.mark.parametrize("compiles", [False, True])
def test_equal_spikes_and_gradients(compiles: bool) -> None:
    weight = torch.randn(40, 3, 7, generator=torch.Generator().manual_seed(2))
    results = []
    for backend in BACKENDS:
        toolkit, neuron = made(backend)
        x = inputs().requires_grad_()
        with compiled_loops(compiles):
            spikes = toolkit.run(neuron, x)
        leaves = [x, *neuron.parameters()]
        assert len(leaves) == 5
        results.append((spikes, torch.autograd.grad((spikes * weight).sum(), leaves)))
        assert torch.equal(toolkit.run(neuron, x), spikes)  # starts afresh
        mask = (torch.rand(3, 7) < 0.6).float()
        assert torch.equal(toolkit.run_masked(neuron, x, mask), spikes * mask)
    spikes, grads = results[0]
    assert 0.05 < spikes.mean() < 0.95
    assert all(grad.any() for grad in grads)
    for others, other_grads in results[1:]:
        assert torch.equal(others, spikes)
        for a, b in zip(grads, other_grads, strict=True):
            torch.testing.assert_close(b, a, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_loop_is_its_dynamics(backend: str) -> None:
    toolkit, neuron = made(backend)
    assert_dynamics(toolkit, neuron, inputs())
    run = toolkit.run(neuron, inputs())
    assert torch.equal(in_steps(toolkit.dynamics(neuron), inputs()).output, run)


@pytest.mark.skipif(not is_installed(), reason="needs Triton")
@pytest.mark.parametrize("backend", BACKENDS)
def test_the_kernel_is_the_loop(backend: str) -> None:
    toolkit, neuron = made(backend, 3)
    assert_dynamics(toolkit, neuron, inputs(3)[:9], in_kernel)


@pytest.mark.parametrize("backend", BACKENDS)
def test_no_description_in_numbers(backend: str) -> None:
    toolkit, neuron = made(backend)
    assert toolkit.is_neuron(neuron)
    assert toolkit.is_spiking(neuron)
    with pytest.raises(ExchangeError, match="adaptive"):
        toolkit.describe(neuron)


@pytest.mark.parametrize("backend", BACKENDS)
def test_states_of_a_class_of_its_own_keep_their_loop(backend: str) -> None:
    toolkit, neuron = made(backend)
    neuron.__class__ = type("Own", (type(neuron),), {})
    assert toolkit.dynamics(neuron) is None


def test_another_number_of_neurons_is_refused() -> None:
    for backend in BACKENDS:
        toolkit, neuron = made(backend)
        with pytest.raises(ValueError, match="an input for 7 neurons"):
            toolkit.run(neuron, torch.rand(4, 2, 1))


def test_a_toolkit_without_one() -> None:
    class Plain(Benchmarks):
        def spiking_neuron(self, *, tau: float, threshold: float = 1.0, alpha: float = 5.0) -> nn.Module:
            return nn.Identity()

        def readout_neuron(self, *, tau: float) -> nn.Module:
            return nn.Identity()

        def run(self, neuron: nn.Module, x: Tensor) -> Tensor:
            return x

    with pytest.raises(BackendError, match="Plain has no adaptive neurons"):
        Plain().adaptive_neuron(3, step_ms=1.0)


def test_unrolled_and_frozen_with_delays() -> None:
    torch.manual_seed(0)
    net = add_delays(jelly("s"), max_delay=4, interpolation="linear")
    x = (torch.rand(12, 2, F) < 0.4).float()
    functional.reset_net(net)
    expected = torch.stack([net(x_t) for x_t in x])
    functional.reset_net(net)
    torch.testing.assert_close(unroll(net, x), expected)
    net.eval()
    freeze_delays(net)
    assert [type(m).__name__ for m in net.modules()].count("AdaptiveLIFNode") == 2
    assert any(isinstance(m, AdaptiveParameters) for m in net.modules())


# ------------------------------------------------------------------------------------------- snnTorch's conventions


def test_states_of_snntorch() -> None:
    neuron, x = AdaptiveLIF(7, step_ms=10.0, init_hidden=True, output=True), inputs()[0]
    spikes, mem, ada = neuron(x)
    assert spikes.shape == mem.shape == ada.shape == x.shape
    assert neuron.mem is mem
    _, second, _ = neuron(x)
    assert not torch.equal(second, mem)
    AdaptiveLIF.detach_hidden()
    assert neuron.mem.grad_fn is None
    assert neuron.ada.grad_fn is None
    AdaptiveLIF.reset_hidden()
    assert torch.equal(neuron(x)[2], ada)
    with pytest.raises(TypeError, match="init_hidden"):
        neuron(x, mem, ada)
    with pytest.raises(TypeError, match="both states"):
        AdaptiveLIF(7, step_ms=10.0)(x, mem)


def test_a_batch_of_another_size_begins_a_sequence() -> None:
    for neuron in (AdaptiveLIF(7, step_ms=10.0, init_hidden=True), AdaptiveLIFNode(7, step_ms=10.0)):
        x, narrow = inputs()[0], inputs()[0, :2]
        neuron(x)
        narrow_out, fresh = neuron(narrow), type(neuron)(7, step_ms=10.0)
        fresh.load_state_dict(neuron.state_dict())
        first = fresh(narrow)
        assert torch.equal(narrow_out, first[0] if isinstance(first, tuple) else first)
