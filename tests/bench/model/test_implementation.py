"""Which code computes the neurons of a run."""

import pytest
import torch
from spikingjelly.activation_based import functional
from torch import nn

from delayplug import _triton, fused_neurons
from delayplug.bench.config import configure
from delayplug.bench.model.implementation import implementation
from delayplug.bench.model.network import DelayNetwork
from delayplug.toolkits import plugins
from delayplug.toolkits.capabilities import Benchmarks, benchmarks

CPU = torch.device("cpu")


@pytest.mark.parametrize("backend", ["snntorch", "norse"])
def test_loops(backend: str) -> None:
    benchmark = benchmarks(plugins.toolkit(backend))
    neuron = benchmark.spiking_neuron(tau=2.0)
    assert implementation(benchmark, neuron, CPU) == "loop"
    assert implementation(benchmark, neuron, CPU, compiles=True) == "compiled loop"


def test_what_spikingjelly_chooses(monkeypatch: pytest.MonkeyPatch) -> None:
    benchmark = benchmarks(plugins.toolkit("spikingjelly"))
    neuron = benchmark.spiking_neuron(tau=2.0)
    assert implementation(benchmark, neuron, CPU, compiles=True) == "spikingjelly: torch"
    assert implementation(benchmark, neuron, torch.device("mps")) == "spikingjelly: torch"
    assert implementation(benchmark, benchmark.adaptive_neuron(3, step_ms=1.0), CPU) == "loop"

    def chosen(kind: str, device: torch.device) -> dict[str, object]:
        return {"implementation": f"triton for {kind} on {device}"}

    monkeypatch.setattr(functional, "neuron_implementation", chosen)
    with fused_neurons(False):
        assert implementation(benchmark, neuron, torch.device("cuda", 1)) == "spikingjelly: triton for lif on cuda:1"


@pytest.mark.parametrize("backend", ["snntorch", "norse", "spikingjelly"])
def test_one_kernel_for_all_toolkits_where_it_runs(backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_triton, "runs_on", lambda device: True)
    benchmark = benchmarks(plugins.toolkit(backend))
    for neuron in _three(benchmark):
        assert implementation(benchmark, neuron, CPU) == "fused kernel"
        with fused_neurons(False):
            assert implementation(benchmark, neuron, CPU) != "fused kernel"


def _three(benchmark: Benchmarks) -> tuple[nn.Module, ...]:
    adaptive = benchmark.adaptive_neuron(3, step_ms=1.0)
    return benchmark.spiking_neuron(tau=2.0), benchmark.readout_neuron(tau=2.0), adaptive


def test_of_a_network() -> None:
    config = configure("quick", backend="norse", compile=True)
    network = DelayNetwork((5, 4, 3), plugins.toolkit("norse"), config)
    assert network.implementation(CPU) == "compiled loop"
