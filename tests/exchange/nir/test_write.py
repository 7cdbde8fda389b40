"""Out into NIR, through a file, and back: the same spikes, within a toolkit and across toolkits."""

import copy
import warnings
from pathlib import Path
from typing import Any

import nir
import pytest
import torch
from hypothesis import given, settings, strategies as st
from torch import nn

import delayplug
from delayplug import LearnableDelay, nir_branches, to_nir
from delayplug.bench.config import RunConfig
from delayplug.bench.model.network import DelayNetwork
from delayplug.toolkits import plugins
from tests.exchange.models import (
    KINDS,
    MAX_DELAY,
    TOOLKITS,
    F,
    O,
    delayed,
    drive,
    from_nir,
    make,
    make_conv,
    run,
    spikes,
    toolkit_of,
)
from tests.layers.kernels import needs_triton, running
from tests.profiles import examples

DT = 1e-3
GRANULARITIES = ("synaptic", "axonal", "dendritic")


def names_of(kind: str) -> list[str]:
    return [] if kind == "nested" else ["0", "2"]


@settings(max_examples=examples(16))
@given(
    kind=st.sampled_from(KINDS),
    granularity=st.sampled_from(GRANULARITIES),
    leak=st.sampled_from([0.25, 0.5]),
    threshold=st.sampled_from([0.5, 1.0, 1.25]),
    bias=st.booleans(),
    dt=st.sampled_from([1.0, 1e-3, 1e-4, 3.7e-3]),
    seed=st.integers(0, 999),
)
def test_any_network_fires_the_same_in_every_toolkit(
    kind: str, granularity: str, leak: float, threshold: float, bias: bool, dt: float, seed: int
) -> None:
    torch.manual_seed(seed)
    model = delayed(make(kind, leak, threshold, bias), granularity, filter_fn=names_of(kind))
    x = spikes(seed=seed)
    wanted = run(kind, model, x)
    graph = to_nir(model, dt=dt)
    for backend in TOOLKITS:
        with torch.no_grad():
            assert torch.equal(from_nir(graph, backend=backend, dt=dt)(x), wanted), backend


@pytest.mark.parametrize("granularity", GRANULARITIES)
@pytest.mark.parametrize("kind", KINDS)
def test_networks_fire(kind: str, granularity: str) -> None:
    """The test above would say little about silent networks."""
    torch.manual_seed(0)
    rates = [
        float(run(kind, delayed(make(kind), granularity, filter_fn=["0", "2"]), spikes(seed=n)).mean())
        for n in range(5)
    ]
    assert 0.05 < sum(rates) / 5 < 0.95


@pytest.mark.parametrize("granularity", GRANULARITIES)
@pytest.mark.parametrize("kind", KINDS)
def test_a_file_keeps_a_graph(kind: str, granularity: str, tmp_path: Path) -> None:
    torch.manual_seed(1)
    model = delayed(make(kind), granularity, filter_fn=["0", "2"])
    graph = to_nir(model, dt=DT)
    assert graph.check_types()
    nir.write(tmp_path / "net.nir", graph)
    read = nir.read(tmp_path / "net.nir")  # with nir's own checks
    assert set(read.nodes) == set(graph.nodes)
    assert sorted(read.edges) == sorted(graph.edges)
    x = spikes()
    back = from_nir(tmp_path / "net.nir", backend=toolkit_of(kind), dt=DT)
    with torch.no_grad():
        assert torch.equal(back(x), run(kind, model, x))


@pytest.mark.parametrize("kind", KINDS)
def test_graphs_of_graphs_are_the_same(kind: str) -> None:
    """Nothing grows or moves when a graph goes through a toolkit and out again, twice."""
    torch.manual_seed(2)
    graph = to_nir(delayed(make(kind), filter_fn=["0", "2"]), dt=DT)
    for backend in TOOLKITS:
        again = to_nir(from_nir(graph, backend=backend, dt=DT), dt=DT)
        assert set(again.nodes) == set(graph.nodes)
        assert sorted(again.edges) == sorted(graph.edges)
        for name, node in graph.nodes.items():
            for word, value in node.to_dict().items():
                if hasattr(value, "shape"):
                    other = again.nodes[name].to_dict()[word]
                    # a leak that a toolkit keeps in another form is rounded to float32
                    torch.testing.assert_close(torch.as_tensor(other), torch.as_tensor(value), atol=1e-9, rtol=1e-6)


def test_delays_per_channel_are_one_node() -> None:
    torch.manual_seed(3)
    model = delayed(make("snntorch"), "axonal")
    graph = to_nir(model, dt=0.5)
    node = graph.nodes["0.delay"]
    assert isinstance(node, nir.Delay)
    expected = (model[0].delay.delays.detach() + 0.5).floor() * 0.5
    assert torch.equal(torch.as_tensor(node.delay).float(), expected)
    assert ("0.delay", "0") in graph.edges
    assert nir_branches(graph) == {}


@pytest.mark.parametrize("granularity", GRANULARITIES)
@pytest.mark.parametrize("kind", ["snntorch", "norse", "spikingjelly-s"])
def test_convolutions_and_pools(kind: str, granularity: str, tmp_path: Path) -> None:
    torch.manual_seed(5)
    shape = (2, 8, 8)
    model = delayed(make_conv(kind), granularity, example=drive(kind, shape), filter_fn=["0", "3", "6"])
    x = spikes(18, 2, shape)
    wanted = run(kind, model, x)
    assert 0 < wanted.mean() < 1
    graph = to_nir(model, drive(kind, shape), dt=DT)
    nir.write(tmp_path / "net.nir", graph)
    kinds = {type(node).__name__ for node in graph.nodes.values()}
    assert {"Conv2d", "AvgPool2d", "Flatten", "Delay"} <= kinds
    for backend in TOOLKITS:
        back = from_nir(tmp_path / "net.nir", backend=backend, dt=DT)
        with torch.no_grad():
            assert torch.equal(back(x), wanted), backend


@needs_triton
@pytest.mark.parametrize("backend", TOOLKITS)
def test_neurons_that_run_in_kernels_are_written_as_neurons(backend: str) -> None:
    network = DelayNetwork((10, 6, 4), plugins.toolkit(backend), RunConfig(delays="learned", max_delay=3)).eval()
    x = spikes(4, 2, (10,))
    with running():
        graph = to_nir(network, x, dt=DT)
    assert sum(type(node).__name__ in ("LIF", "LI") for node in graph.nodes.values()) == 2


@pytest.mark.parametrize("backend", TOOLKITS)
@pytest.mark.parametrize("delays", ["learned", "none", "axonal", "dendritic"])
def test_the_benchmarks_network(backend: str, delays: Any) -> None:
    """Several taps, absent synapses, batch norm behind each layer, dropout, a readout; a tail, added to the input."""
    torch.manual_seed(6)
    options: Any = {"taps": 2, "fan_in": 7} if delays == "learned" else {}
    network = DelayNetwork(
        (10, 12, 12, 4), plugins.toolkit(backend), RunConfig(delays=delays, max_delay=6, tau=2.0, **options)
    )
    x = spikes(12, 3, (10,))
    network(x)
    for norm in network.norms:
        nn.init.uniform_(norm.weight, 0.5, 2.0)
        nn.init.uniform_(norm.bias, -0.5, 1.0)
    network.eval()
    with torch.no_grad():
        *hidden, wanted = network.activity(x)
    assert all(0 < layer.mean() < 1 for layer in hidden)
    graph = to_nir(network, x, dt=DT)
    steps = len(x) + network.tail
    padded = torch.cat([x, x.new_zeros(network.tail, *x.shape[1:])])
    for other in TOOLKITS:
        back = from_nir(graph, backend=other, dt=DT)
        with torch.no_grad():
            values = back.activity(padded)
        for i, layer in enumerate(hidden):
            assert torch.equal(values[f"neurons.{i}"][:steps], layer[:steps]), other
        torch.testing.assert_close(values["output"][:steps], wanted[:steps], atol=1e-5, rtol=1e-5)
    if delays == "learned":
        made = back.get_submodule("parts.synapses_0_weights")
        assert isinstance(made, LearnableDelay)
        assert made.taps == 2
        assert made.max_delay == 6


def test_what_comes_back_can_be_trained() -> None:
    torch.manual_seed(7)
    back = from_nir(to_nir(delayed(make("norse")), dt=DT), backend="spikingjelly", dt=DT)
    assert [delay.max_delay for _, delay in delayplug.named_delays(back)] == [MAX_DELAY, MAX_DELAY]
    assert not back.training
    x, still = spikes(), None
    with torch.no_grad():
        still = back(x)
    back.train()
    before = [p.detach().clone() for p in back.parameters()]
    optimizer = torch.optim.Adam(delayplug.parameter_groups(back, lr=1e-2, delay_lr=0.5))
    delayplug.SigmaSchedule(back, epochs=3)
    back(x).sum().backward()
    optimizer.step()
    assert sum(not torch.equal(a, b) for a, b in zip(before, back.parameters(), strict=True)) >= 4
    assert still is not None
    with torch.no_grad():
        copied = copy.deepcopy(back.eval())(x)
        assert torch.equal(copied, back(x))


def test_the_model_is_left_as_it_was() -> None:
    torch.manual_seed(8)
    model = delayed(make("spikingjelly-m"))
    model.train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    random = torch.get_rng_state()
    to_nir(model, dt=DT)
    assert model.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert torch.equal(torch.get_rng_state(), random)


def test_a_reset_by_subtraction_warns_and_comes_back() -> None:
    import snntorch as snn

    torch.manual_seed(9)
    model = nn.Sequential(nn.Linear(F, O), snn.Leaky(beta=0.5, init_hidden=True))
    model[0].weight.data.abs_().mul_(4)
    delayed(model)
    with pytest.warns(UserWarning, match="subtract-next-step.*metadata"):
        graph = to_nir(model, dt=DT)
    x = spikes()
    with torch.no_grad():
        out = from_nir(graph, backend="snntorch", dt=DT)(x)
    assert torch.equal(out, run("snntorch", model, x))
    assert 0 < out.mean() < 1
    with pytest.raises(delayplug.ExchangeError, match=r"1: Norse has no reset by the rule 'subtract-next-step'"):
        from_nir(graph, backend="norse", dt=DT)
    with pytest.raises(delayplug.ExchangeError, match="strict=False"):
        to_nir(model, dt=DT, strict=True)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        graph.nodes["1"].metadata.clear()
        from_nir(graph, backend="norse", dt=DT)  # without our note it is a neuron that resets to zero


def test_whole_delays_far_out_and_none() -> None:
    """Every delay at its largest, and a layer without delays."""
    torch.manual_seed(10)
    model = delayed(make("snntorch"), filter_fn=["0"], init=float(MAX_DELAY))
    graph = to_nir(model, dt=DT)
    assert nir_branches(graph) == {"0": 1}
    back = from_nir(graph, backend="snntorch", dt=DT)
    assert isinstance(back.get_submodule("parts.0"), LearnableDelay)
    assert type(back.get_submodule("parts.2")) is nn.Linear
    x = spikes()
    with torch.no_grad():
        assert torch.equal(back(x), run("snntorch", model, x))
