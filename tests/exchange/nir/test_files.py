"""Graphs that other programs wrote, and such as they might write."""

from pathlib import Path
from typing import Any

import nir
import norse.torch as norse
import numpy as np
import pytest
import snntorch as snn
import torch
from snntorch.export_nir import export_to_nir as export_snntorch
from spikingjelly.activation_based import layer, neuron
from spikingjelly.activation_based.nir_exchange import (
    export_to_nir as export_spikingjelly,
    import_from_nir as import_spikingjelly,
)
from torch import Tensor, nn

from delayplug import to_nir
from tests.exchange.models import TOOLKITS, F, O, delayed, from_nir, make, run, spikes

DT = 1e-4  # what snnTorch and SpikingJelly assume


def vector(n: int, value: float) -> Tensor:
    """Their exporters want a number for each neuron."""
    return torch.full((n,), value)


def awake(*parts: nn.Module) -> list[nn.Module]:
    torch.manual_seed(1)
    for parameter in nn.ModuleList(parts).parameters():
        parameter.data.copy_(torch.randint(-3, 9, parameter.shape) / 8)
    return list(parts)


@pytest.mark.cpu("toolkits export networks that are on it")
@pytest.mark.parametrize("backend", TOOLKITS)
def test_snntorch_wrote_it(backend: str, tmp_path: Path) -> None:
    options: Any = {"reset_mechanism": "zero", "init_hidden": True}
    neurons = [snn.Leaky(vector(n, 0.75), vector(n, 1.1), **options) for n in (6, O)]
    model = nn.Sequential(*awake(nn.Linear(F, 6), neurons[0], nn.Linear(6, O), neurons[1]))
    nir.write(tmp_path / "snntorch.nir", export_snntorch(model, torch.zeros(1, F), ignore_dims=[0]))
    x = spikes(12)
    with torch.no_grad():
        out = from_nir(tmp_path / "snntorch.nir", backend=backend, dt=DT)(x)
    assert 0 < out.mean() < 1
    assert torch.equal(out, run("snntorch", model, x))


@pytest.mark.cpu("toolkits export networks that are on it")
@pytest.mark.parametrize("backend", TOOLKITS)
def test_norse_wrote_it(backend: str, tmp_path: Path) -> None:
    """Norse writes tau = dt / tau_mem_inv, the true one where dt is one; and a batch into the input's shape."""
    neurons = [
        norse.LIFBoxCell(norse.LIFBoxParameters(vector(n, 0.25), vector(n, 0.0), vector(n, 0.3)), dt=1.0)
        for n in (6, O)
    ]
    model = norse.SequentialState(*awake(nn.Linear(F, 6), neurons[0], nn.Linear(6, O), neurons[1]))
    nir.write(tmp_path / "norse.nir", norse.to_nir(model, torch.zeros(1, F), dt=1.0))
    x = spikes(12)
    with torch.no_grad():
        out = from_nir(tmp_path / "norse.nir", backend=backend, dt=1.0)(x)
    assert 0 < out.mean() < 1
    assert torch.equal(out, run("norse", model, x))


@pytest.mark.cpu("toolkits export networks that are on it")
@pytest.mark.parametrize("backend", TOOLKITS)
def test_spikingjelly_wrote_it(backend: str, tmp_path: Path) -> None:
    torch.manual_seed(1)
    model = nn.Sequential(
        layer.Linear(F, 6), neuron.LIFNode(tau=2.0, v_threshold=0.7), layer.Linear(6, O), neuron.IFNode(v_threshold=0.7)
    )
    for parameter in model.parameters():
        parameter.data.mul_(3).add_(0.2)
    graph = export_spikingjelly(model, torch.zeros(1, F), dt=DT)
    nir.write(tmp_path / "spikingjelly.nir", graph)
    x = spikes(12)
    with torch.no_grad():
        out = from_nir(tmp_path / "spikingjelly.nir", backend=backend, dt=DT)(x)
    assert 0 < out.mean() < 1
    assert torch.equal(out, run("spikingjelly-s", model, x))


@pytest.mark.cpu("toolkits import networks onto it")
def test_spikingjelly_reads_what_we_write() -> None:
    """Without delays, which it has not; and stepwise, as its module wants."""
    torch.manual_seed(1)
    model = make("snntorch", leak=0.25, threshold=1.1)
    theirs = import_spikingjelly(to_nir(model, dt=DT), dt=DT)
    x, state, out = spikes(12), None, []
    with torch.no_grad():
        for x_t in x:
            y, state = theirs(x_t, state)
            out.append(y)
    assert torch.equal(torch.stack(out), run("snntorch", model, x))


# ------------------------------------------------------------------------------------------------- made by hand


def lif(n: int, **numbers: Any) -> nir.LIF:
    """A neuron with leak 1/2, gain 1 and threshold 1 at dt = 1e-3."""
    full = {"tau": 2e-3, "r": 2.0, "v_leak": 0.0, "v_threshold": 1.0, "v_reset": 0.0, **numbers}
    return nir.LIF(**{name: np.full(n, value) for name, value in full.items()})


def graph(nodes: dict[str, Any], edges: list[tuple[str, str]]) -> nir.NIRGraph:
    nodes = {"input": nir.Input(np.array([2])), "lif": lif(1), "output": nir.Output(np.array([1])), **nodes}
    return nir.NIRGraph(nodes, [*edges, ("lif", "output")], type_check=False)


def out_of(found: Any, x: Tensor, backend: str = "snntorch") -> list[float]:
    with torch.no_grad():
        result: list[float] = from_nir(found, backend=backend, dt=1e-3)(x).flatten().tolist()
    return result


def pulses(*times: tuple[int, int]) -> Tensor:
    x = torch.zeros(8, 1, 2)
    for step, channel in times:
        x[step, 0, channel] = 1.0
    return x


def ones(*rows: float) -> np.ndarray:
    return np.array([rows], dtype=np.float32)


@pytest.mark.parametrize("backend", TOOLKITS)
def test_an_axonal_delay(backend: str) -> None:
    nodes = {"delay": nir.Delay(np.array([0.0, 0.003])), "fc": nir.Linear(ones(2.0, 2.0))}
    found = graph(nodes, [("input", "delay"), ("delay", "fc"), ("fc", "lif")])
    assert out_of(found, pulses((1, 0)), backend) == [0, 1, 0, 0, 0, 0, 0, 0]
    assert out_of(found, pulses((1, 1)), backend) == [0, 0, 0, 0, 1, 0, 0, 0]


def test_subgraphs_are_dissolved() -> None:
    inner = nir.NIRGraph(
        {
            "in": nir.Input(np.array([2])),
            "delay": nir.Delay(np.array([0.002, 0.002])),
            "fc": nir.Linear(ones(2.0, 2.0)),
            "out": nir.Output(np.array([1])),
        },
        [("in", "delay"), ("delay", "fc"), ("fc", "out")],
    )
    outer = nir.NIRGraph(
        {"in": nir.Input(np.array([2])), "block": inner, "out": nir.Output(np.array([1]))},
        [("in", "block"), ("block", "out")],
    )
    found = graph({"sub": outer}, [("input", "sub"), ("sub", "lif")])
    assert out_of(found, pulses((1, 0))) == [0, 0, 0, 1, 0, 0, 0, 0]


def test_scales_thresholds_and_integrators() -> None:
    nodes = {
        "fc": nir.Linear(ones(1.0, 1.0)),
        "scale": nir.Scale(np.array([3.0])),
        "sum": nir.I(np.array([1000.0])),
        "over": nir.Threshold(np.array([2.5])),
    }
    edges = [("input", "fc"), ("fc", "scale"), ("scale", "sum"), ("sum", "over"), ("over", "lif")]
    assert out_of(graph(nodes, edges), pulses((2, 0))) == [0, 0, 0, 1, 0, 1, 0, 1]  # above one, not at one
    nodes["lif"] = lif(1, v_threshold=0.9)
    assert out_of(graph(nodes, edges), pulses((2, 0))) == [0, 0, 1, 1, 1, 1, 1, 1]


def test_sum_pools_and_one_dimension() -> None:
    nodes = {
        "input": nir.Input(np.array([1, 4, 4])),
        "pool": nir.SumPool2d(np.array([2, 2]), np.array([2, 2]), np.array([0, 0])),
        "flat": nir.Flatten({"input": np.array([1, 2, 2])}, 0, -1),
        "fc": nir.Linear(ones(0.5, 0.5, 0.5, 0.5)),
    }
    found = graph(nodes, [("input", "pool"), ("pool", "flat"), ("flat", "fc"), ("fc", "lif")])
    x = torch.zeros(3, 1, 1, 4, 4)
    x[1, 0, 0, :2, 0] = 1.0
    assert out_of(found, x) == [0, 0, 0]  # 0.5 + 0.5: at the threshold
    x[1, 0, 0, 3, 3] = 1.0
    assert out_of(found, x) == [0, 1, 0]
    conv = nir.Conv1d(4, np.ones((1, 2, 3), dtype=np.float32), 1, "same", 1, 1, np.zeros(1, dtype=np.float32))
    nodes = {
        "input": nir.Input(np.array([2, 4])),
        "conv": conv,
        "lif": nir.LIF(*(np.full((1, 4), v) for v in (2e-3, 2, 0, 1.5, 0))),
    }
    nodes["output"] = nir.Output(np.array([1, 4]))
    x = torch.zeros(2, 1, 2, 4)
    x[0, 0, :, 1] = 1.0
    assert out_of(graph(nodes, [("input", "conv"), ("conv", "lif")]), x) == [1, 1, 1, 0, 0, 0, 0, 0]


def test_a_residual_connection() -> None:
    """What comes along several edges is added."""

    class Residual(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc1, self.fc2 = nn.Linear(F, F), nn.Linear(F, F)
            self.lif1, self.lif2 = (snn.Leaky(0.5, reset_mechanism="zero") for _ in range(2))

        def forward(self, x: Tensor) -> Tensor:
            mem1, mem2, out = self.lif1.reset_mem(), self.lif2.reset_mem(), []
            for x_t in x:
                spk1, mem1 = self.lif1(self.fc1(x_t), mem1)
                spk2, mem2 = self.lif2(0.5 * self.fc2(spk1) + spk1, mem2)
                out.append(spk2)
            return torch.stack(out)

    torch.manual_seed(4)
    model = Residual()
    for parameter in model.parameters():
        parameter.data.copy_((parameter.data * 16).round() / 8 + 0.125)
    delayed(model, example=spikes(4, 2))
    x = spikes(12)
    with torch.no_grad():
        wanted = model(x)
        found = to_nir(model, spikes(4, 2), dt=1e-3)
        assert 0 < wanted.mean() < 1
        for backend in TOOLKITS:
            assert torch.equal(from_nir(found, backend=backend, dt=1e-3)(x), wanted), backend
