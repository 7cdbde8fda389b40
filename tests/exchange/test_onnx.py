"""ONNX files, run by onnxruntime: the same spikes as the model, for sequences of any length and any batch."""

from pathlib import Path
from typing import Any

import onnx
import onnxruntime
import pytest
import snntorch as snn
import torch
from torch import Tensor, nn

from delayplug import ExchangeError, LearnableDelay, add_delays, to_nir, to_onnx
from delayplug.bench.config import RunConfig
from delayplug.bench.model.network import DelayNetwork
from delayplug.exchange.graph import Graph, Input, Neurons, Output
from delayplug.exchange.to_module import GraphNetwork, run_neuron
from delayplug.toolkits import plugins
from tests.exchange.models import KINDS, F, O, delayed, drive, from_nir, make, make_conv, run, spikes
from tests.exchange.tutorials import SHAPE, TUTORIALS, images, tutorial
from tests.neurons.test_cell import NEURONS, currents


def play(path: Path, x: Tensor) -> Tensor:
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return torch.from_numpy(session.run(None, {"input": x.cpu().numpy()})[0]).to(x.device)


@pytest.mark.parametrize("granularity", ["synaptic", "axonal", "dendritic"])
@pytest.mark.parametrize("kind", KINDS)
def test_networks(kind: str, granularity: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = delayed(make(kind), granularity, filter_fn=["0", "2"])
    path = to_onnx(model, tmp_path / "net.onnx")
    sizes = [d.dim_param or d.dim_value for d in onnx.load(path).graph.input[0].type.tensor_type.shape.dim]
    assert sizes == ["steps", "batch", F]
    rates = []
    for steps, batch in ((9, 3), (30, 1), (2, 5)):  # also shorter than the delays
        x = spikes(steps, batch)
        wanted = run(kind, model, x)
        rates.append(float(wanted.mean()))
        assert torch.equal(play(path, x), wanted), (steps, batch)
    assert 0 < max(rates) < 1


@pytest.mark.parametrize("granularity", ["synaptic", "axonal"])
@pytest.mark.parametrize("kind", ["snntorch", "norse", "spikingjelly-s"])
def test_convolutions(kind: str, granularity: str, tmp_path: Path) -> None:
    torch.manual_seed(5)
    shape = (2, 8, 8)
    model = delayed(make_conv(kind), granularity, example=drive(kind, shape), filter_fn=["0", "3", "6"])
    path = to_onnx(model, tmp_path / "net.onnx", example=drive(kind, shape))
    x = spikes(18, 2, shape)
    wanted = run(kind, model, x)
    assert 0 < wanted.mean() < 1
    assert torch.equal(play(path, x), wanted)


@pytest.mark.parametrize("delays", [True, False])
@pytest.mark.parametrize("name", TUTORIALS)
def test_the_convolutional_networks_of_tutorials(name: str, delays: bool, tmp_path: Path) -> None:
    """Max pooling as a module and as a function, a leading image, batch norm, dropout, Norse's own readout."""
    told, model = tutorial(name)
    if delays:
        add_delays(model, 3, example=told.drive)
    x = images(14)
    with torch.no_grad():
        wanted = told.run(model, x)
    assert wanted.count_nonzero() > 5
    path = to_onnx(model, tmp_path / "net.onnx", example=told.drive, **told.options)
    sizes = [d.dim_param or d.dim_value for d in onnx.load(path).graph.input[0].type.tensor_type.shape.dim]
    assert sizes == ["steps", "batch", *SHAPE]
    if name == "norse":
        torch.testing.assert_close(play(path, x), wanted, atol=1e-6, rtol=1e-5)
    else:
        assert torch.equal(play(path, x), wanted)


@pytest.mark.parametrize("name", NEURONS)
def test_neurons(name: str, tmp_path: Path) -> None:
    backend, make_neuron = NEURONS[name]
    toolkit = plugins.toolkit(backend)
    made = make_neuron()
    cell = toolkit.describe(made)
    graph = Graph({"in": Input((2,)), "cell": Neurons(cell), "out": Output()}, [("in", "cell"), ("cell", "out")])
    try:
        network = GraphNetwork(graph, toolkit)
    except ExchangeError:
        pytest.fail("a toolkit builds what it describes")
    x = currents(cell)
    path = to_onnx(network, tmp_path / "cell.onnx")
    with torch.no_grad():
        wanted = run_neuron(toolkit, made, x)
    if cell.threshold is None:
        torch.testing.assert_close(play(path, x), wanted, atol=1e-6, rtol=1e-6)
    else:
        assert torch.equal(play(path, x), wanted)


@pytest.mark.parametrize("backend", ["snntorch", "norse", "spikingjelly"])
def test_the_benchmarks_network(backend: str, tmp_path: Path) -> None:
    torch.manual_seed(6)
    network = DelayNetwork((10, 12, 4), plugins.toolkit(backend), RunConfig(max_delay=6, tau=2.0, taps=2))
    x = spikes(12, 3, (10,))
    network(x)
    network.eval()
    with torch.no_grad():
        wanted = network(x)[: len(x)]
    path = to_onnx(network, tmp_path / "net.onnx", example=x)
    torch.testing.assert_close(play(path, x), wanted, atol=1e-5, rtol=1e-5)


def test_what_came_from_nir(tmp_path: Path) -> None:
    torch.manual_seed(3)
    back = from_nir(to_nir(delayed(make("norse")), dt=1e-3), backend="snntorch", dt=1e-3)
    x = spikes(12)
    with torch.no_grad():
        assert torch.equal(play(to_onnx(back, tmp_path / "net.onnx"), x), back(x))


def test_a_full_disk_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "net.onnx"
    path.write_text("old")

    def full(part: Path, content: bytes) -> None:
        part.touch()
        raise OSError("No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match="No space left"):
        to_onnx(delayed(make("snntorch")), path)
    assert {each.name: each.read_text() for each in tmp_path.iterdir()} == {"net.onnx": "old"}


@pytest.mark.parametrize(
    ("parts", "reason"),
    [
        (
            lambda: [nn.Linear(F, O), snn.Leaky(0.5, init_hidden=True, reset_delay=False)],
            r"^1: a reset by the rule 'subtract-while-above'",
        ),
        (lambda: [nn.Linear(F, O), nn.ReLU(), snn.Leaky(0.5, init_hidden=True)], "before 2: the operation relu in 1"),
        (
            lambda: [nn.Linear(F, O), snn.RLeaky(0.5, linear_features=O, init_hidden=True)],
            "1 .RLeaky. feeds spikes back",
        ),
    ],
)
def test_what_is_refused(parts: Any, reason: str, tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    with pytest.raises(ExchangeError, match=reason):
        to_onnx(nn.Sequential(*parts()), path)
    assert not path.exists()


def test_delays_between_steps_are_refused(tmp_path: Path) -> None:
    model = nn.Sequential(LearnableDelay(F, O, max_delay=4, round_in_eval=False), snn.LeakyParallel(O, O))
    with pytest.raises(ExchangeError):
        to_onnx(model, tmp_path / "net.onnx", example=spikes())
    model = delayed(make("snntorch"), round_in_eval=False)
    with pytest.raises(ExchangeError, match=r"0 \(Linear\).*round_in_eval=True"):
        to_onnx(model, tmp_path / "net.onnx")


def test_a_missing_folder_is_named_before_anything_is_computed(tmp_path: Path) -> None:
    net = nn.Sequential(nn.Linear(4, 3), snn.Leaky(beta=0.9, init_hidden=True, reset_mechanism="zero"))
    with pytest.raises(FileNotFoundError, match="there is no folder"):
        to_onnx(net, tmp_path / "missing" / "network.onnx")
