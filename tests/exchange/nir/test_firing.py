"""What the r of an integrate-and-fire neuron means, and warnings of neurons that can hardly be meant."""

import warnings
from pathlib import Path
from typing import Any

import nir
import norse.torch as norse
import numpy as np
import pytest
import torch
from spikingjelly.activation_based import layer, neuron
from spikingjelly.activation_based.nir_exchange import export_to_nir as export_spikingjelly
from torch import Tensor, nn

import delayplug
from delayplug import ArgumentError, Cell, to_nir
from delayplug.exchange.graph import Graph, Input, Neurons, Output, Pool, Scale, Synapses, Threshold
from delayplug.exchange.nir.firing import doubtful
from tests.exchange.models import TOOLKITS, F, O, from_nir, make, run, spikes

SILENT = pytest.mark.filterwarnings("error::UserWarning")


def integrators(*more: nn.Module) -> nn.Module:
    """Norse's network of neurons without a leak; its exporter wants a number for each neuron."""
    torch.manual_seed(1)
    layers = [nn.Linear(F, 6), norse.IAFCell(norse.IAFParameters(v_th=torch.ones(6)), dt=1.0), *more]
    for parameter in nn.ModuleList(layers).parameters():
        parameter.data.copy_(torch.randint(-3, 6, parameter.shape) / 8)
    return norse.SequentialState(*layers)


def leaking(tau_mem_inv: float, dt: float) -> nn.Module:
    numbers = {"tau_mem_inv": tau_mem_inv, "v_leak": 0.0, "v_th": 0.1}
    return norse.LIFBoxCell(norse.LIFBoxParameters(**{k: torch.full((O,), v) for k, v in numbers.items()}), dt=dt)


@SILENT
@pytest.mark.cpu("Norse exports networks that are on it")
@pytest.mark.parametrize("dt", [1e-4, 1e-3, 1.0])
@pytest.mark.parametrize("backend", TOOLKITS)
def test_norses_integrators_add_their_input_at_every_step(backend: str, dt: float, tmp_path: Path) -> None:
    model = integrators()
    nir.write(tmp_path / "iaf.nir", norse.to_nir(model, torch.zeros(F)))
    x = spikes(20)
    with torch.no_grad():
        out = from_nir(tmp_path / "iaf.nir", backend=backend, dt=dt, integrator="per step")(x)
    assert 0 < out.mean() < 1
    assert torch.equal(out, run("norse", model, x))


@pytest.mark.cpu("Norse exports networks that are on it")
@pytest.mark.parametrize("backend", TOOLKITS)
def test_a_file_of_norses_with_both_kinds_of_neurons(backend: str) -> None:
    """Norse writes tau = dt / tau_mem_inv, here 1e-3 s / 250: the leak of a quarter per step is that of dt = 1e-6 s."""
    model = integrators(nn.Linear(6, O), leaking(250.0, 1e-3))
    x = spikes(20)
    with torch.no_grad():
        out = from_nir(norse.to_nir(model, torch.zeros(F)), backend=backend, dt=1e-6, integrator="per step")(x)
    assert 0 < out.mean() < 1
    assert torch.equal(out, run("norse", model, x))


@SILENT
def test_spikingjelly_and_we_write_rates_per_second() -> None:
    torch.manual_seed(1)
    model = nn.Sequential(layer.Linear(F, O), neuron.IFNode(v_threshold=0.7))
    for parameter in model.parameters():
        parameter.data.copy_(torch.randint(-3, 6, parameter.shape) / 8)
    x = spikes(12)
    expected = run("spikingjelly-s", model, x)
    assert 0 < expected.mean() < 1
    for written in (export_spikingjelly(model, torch.zeros(1, F), dt=1e-3), to_nir(model, dt=1e-3)):
        assert torch.equal(from_nir(written, backend="spikingjelly", dt=1e-3)(x), expected)


def integrator(r: float, weight: float = 0.2, inputs: int = 4, **numbers: Any) -> nir.NIRGraph:
    nodes = {
        "input": nir.Input(np.array([inputs])),
        "fc": nir.Linear(np.full((3, inputs), weight)),
        "if": nir.IF(np.full(3, r), np.full(3, numbers.get("threshold", 1.0))),
        "output": nir.Output(np.array([3])),
    }
    return nir.NIRGraph(nodes, [("input", "fc"), ("fc", "if"), ("if", "output")])


@pytest.mark.parametrize(
    ("graph", "options", "reason"),
    [
        (integrator(1.0), {"dt": 1e-3}, r"if hardly fires: a step adds 0.001 times its input.*integrator='per step'"),
        (integrator(1.0, inputs=9000), {"dt": 1e-3}, "if hardly fires"),  # all at once would do; real input does not
        (integrator(1e3), {"dt": 1e-6}, "if hardly fires: a step adds 0.001 times"),
        (integrator(1e4), {"dt": 1e-3, "integrator": "per step"}, "fires with nearly every spike.*'per second'"),
        (integrator(1e4), {"dt": 1e-3}, "fires with nearly every spike that it gets: a step adds 10 times"),
    ],
)
def test_neurons_that_can_hardly_be_meant(graph: nir.NIRGraph, options: dict[str, Any], reason: str) -> None:
    with pytest.warns(UserWarning, match=reason) as found:
        delayplug.from_nir(graph, backend="norse", **options)
    assert found[0].filename == __file__


@SILENT
@pytest.mark.parametrize(
    ("graph", "options"),
    [
        (integrator(1e3), {"dt": 1e-3}),
        (integrator(1e3, weight=0.01, inputs=1000), {"dt": 1e-3}),
        (integrator(1e3, weight=5.0), {"dt": 1e-3}),  # every spike makes it fire, and that is what r = 1 / dt says
        (integrator(1.0), {"dt": 1.0}),
        (integrator(1.0), {"dt": 1e-3, "integrator": "per step"}),
        (integrator(1.0, weight=400.0), {"dt": 1e-3}),
    ],
)
def test_others_are_read_without_a_word(graph: nir.NIRGraph, options: dict[str, Any]) -> None:
    from_nir(graph, backend="norse", **options)


@SILENT
@pytest.mark.parametrize("kind", ["snntorch", "norse", "spikingjelly-s"])
def test_what_we_write_is_read_without_a_word(kind: str) -> None:
    torch.manual_seed(1)
    model = make(kind)
    from_nir(to_nir(model, dt=1e-3), backend="snntorch", dt=1e-3)


def doubts(*nodes: Any, dt: float = 1.0) -> list[str]:
    graph = Graph({"in": Input((2,))})
    last = "in"
    for i, node in enumerate((*nodes, Output())):
        last = graph.add(f"n{i}", node, [last])
    return doubtful(graph, dt, "per second")


def cell(threshold: float | None, leak: float = 0.5, **numbers: Any) -> Neurons:
    return Neurons(Cell.of(leak=leak, threshold=threshold, **{"gain": leak or 1.0, **numbers}))


def number(value: float) -> Tensor:
    return torch.tensor(value, dtype=torch.float64)


def test_a_membrane_that_never_comes_to_its_threshold() -> None:
    weights = Synapses(torch.tensor([[1.0, -4.0], [0.5, 0.25]]), torch.tensor([0.25, 0.0]))
    assert doubts(weights, cell(1.2)) == []
    (reason,) = doubts(weights, cell(1.25))
    assert reason.startswith("n1 cannot fire: with every input spiking at every step its membrane comes to 1.25")
    assert doubts(weights, cell(1.25, rest=0.1)) == []
    assert doubts(weights, cell(1.25, synapse=0.5)) == []  # the current comes to twice its input
    assert doubts(weights, Scale(number(-2.0)), cell(1.2)) == []  # 8 - 0.5
    assert doubts(weights, Scale(number(0.5)), cell(1.2)) != []
    assert doubts(weights, Threshold(number(0.0)), cell(0.9)) == []
    assert doubts(weights, Threshold(number(0.0)), cell(1.0)) != []
    assert doubts(weights, cell(None), cell(50.0)) == []  # the membrane of a readout has no bound
    assert len(doubts(weights, cell(1.25), cell(1.0))) == 2


def test_pools_add() -> None:
    graph = Graph({"in": Input((1, 4, 4))})
    graph.add("pool", Pool("sum", (2, 2), (2, 2), (0, 0)), ["in"])
    graph.add("lif", cell(3.9), ["pool"])
    graph.add("out", Output(), ["lif"])
    assert doubtful(graph, 1.0, "per second") == []
    graph.nodes["pool"] = Pool("average", (2, 2), (2, 2), (0, 0))
    assert doubtful(graph, 1.0, "per second") != []


def test_another_word() -> None:
    with (
        warnings.catch_warnings(),
        pytest.raises(ArgumentError, match="integrator: expected one of per second, per step, got 'euler'"),
    ):
        from_nir(integrator(1.0), backend="norse", dt=1e-3, integrator="euler")  # type: ignore[arg-type]
