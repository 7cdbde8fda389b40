"""torch.fx sees a layer with delays as one node, whatever its class; exporters that would drop delays are refused."""

import copy
import warnings

import nir
import nirtorch
import norse.torch as norse
import numpy as np
import pytest
import snntorch
import torch
from snntorch.export_nir import export_to_nir as export_snntorch
from spikingjelly.activation_based import functional, layer, neuron
from spikingjelly.activation_based.nir_exchange import export_to_nir as export_spikingjelly
from torch import Tensor, fx, nn
from torchvision.models.feature_extraction import create_feature_extractor

from delayplug import ConvDelay, ExchangeError, LearnableDelay, WiringError, add_delays, remove_delays, to_nir
from tests.networks import B, F, H, O, sequence

NEURONS = (neuron.LIFNode, snntorch.Leaky)


class Tracer(fx.Tracer):
    """Neurons are leaves for it, and of the layers those of torch."""

    def is_leaf_module(self, m: nn.Module, name: str) -> bool:
        return isinstance(m, NEURONS) or super().is_leaf_module(m, name)


class Users(nn.Linear):
    """Not of torch's own modules: its forward is traced into without delays."""


def network(kind: type[nn.Linear], mode: str) -> nn.Module:
    torch.manual_seed(0)
    net = nn.Sequential(
        kind(F, H), neuron.LIFNode(v_threshold=0.2), nn.Sequential(kind(H, O), neuron.LIFNode(v_threshold=0.1))
    )
    functional.set_step_mode(net, mode)
    return add_delays(net, 4, init=2, interpolation="linear").eval()


@torch.no_grad()
def run(net: nn.Module, mode: str) -> Tensor:
    functional.reset_net(net)
    y = net(sequence()) if mode == "m" else torch.stack([net(x) for x in sequence()])
    functional.reset_net(net)
    return y["out"] if isinstance(y, dict) else y


@pytest.mark.parametrize("mode", ["s", "m"])
@pytest.mark.parametrize("kind", [nn.Linear, layer.Linear, Users])
def test_a_traced_network_computes_what_the_network_does(kind, mode):
    net = network(kind, mode)
    y = run(net, mode)
    assert 0 < y.mean() < 1
    graph = Tracer().trace(net)
    assert [node.target for node in graph.nodes] == ["input", "0", "1", "2.0", "2.1", "output"]
    traced = fx.GraphModule(net, graph)
    for model in (traced, traced, copy.deepcopy(traced)):
        assert torch.equal(run(model, mode), y)


@pytest.mark.parametrize("kind", [nn.Linear, layer.Linear, Users])
def test_features_are_extracted_at_the_names_of_the_plain_network(kind):
    net = network(kind, "m")
    y = run(net, "m")
    features = create_feature_extractor(
        net, {"0": "current", "2.1": "out"}, tracer_kwargs={"leaf_modules": [*NEURONS, layer.Linear]}
    )
    out = features(sequence())
    assert out["current"].shape == (*sequence().shape[:2], H)
    assert torch.equal(out["out"], y)


def test_neurons_of_snntorch_step_by_step():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(F, H), snntorch.Leaky(beta=0.8, init_hidden=True, threshold=0.2))
    add_delays(net, 4, init=2, interpolation="linear").eval()
    traced = fx.GraphModule(net, Tracer().trace(net))

    def run(model: nn.Module) -> Tensor:
        net[1].reset_mem()
        return torch.stack([model(x) for x in sequence()])

    y = run(net)
    assert torch.equal(run(traced), y)
    assert torch.equal(run(net), y)


def test_layers_of_delays_in_a_network_of_the_users_own():
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = LearnableDelay(F, H, max_delay=4)
            self.conv = nn.Conv1d(1, 2, 3)
            self.delay = ConvDelay(self.conv, max_delay=4)

        def forward(self, x: Tensor) -> Tensor:
            return self.delay(self.fc(x, tail=2).unsqueeze(2), weight=self.conv.weight)

    net = Net().eval()
    traced = fx.symbolic_trace(net)
    y = net(sequence())
    assert y.shape == (len(sequence()) + 2, B, 2, H - 2)
    assert torch.equal(traced(sequence()), y)


def test_what_traces_without_modules_is_told():
    graph = fx.Graph()
    x = fx.Proxy(graph.placeholder("x"))
    for layer_ in (LearnableDelay(F, H, max_delay=2), network(nn.Linear, "m")[0]):
        with pytest.raises(WiringError, match=r"is traced by GraphAppendingTracer"):
            layer_(x)


def vector(value: float) -> Tensor:
    """Exporters want a number for each neuron."""
    return torch.full((H,), value)


def box() -> nn.Module:
    return norse.LIFBoxCell(norse.LIFBoxParameters(vector(0.25), vector(0.0), vector(0.3)), dt=1.0)


def leaky() -> nn.Module:
    return snntorch.Leaky(vector(0.75), threshold=vector(1.0), init_hidden=True)


class Cells(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.flat, self.block, self.lif = nn.Flatten(), nn.Sequential(nn.Linear(F, H)), box()

    def forward(self, x: Tensor) -> Tensor:
        return self.lif(self.block(self.flat(x)))[0]


EXPORTS = {
    "snntorch": (
        lambda: nn.Sequential(nn.Linear(F, H), leaky()),
        lambda net: export_snntorch(net, torch.zeros(1, F), ignore_dims=[0]),
    ),
    "norse": (
        lambda: norse.SequentialState(nn.Linear(F, H), box()),
        lambda net: norse.to_nir(net, torch.zeros(1, F), dt=1.0),
    ),
    "norse_class": (Cells, lambda net: norse.to_nir(net, torch.zeros(1, F), dt=1.0)),
    "spikingjelly": (
        lambda: nn.Sequential(layer.Linear(F, H), neuron.LIFNode()),
        lambda net: export_spikingjelly(net, torch.zeros(1, F)),
    ),
    "nirtorch": (
        lambda: nn.Sequential(nn.Linear(F, H), neuron.LIFNode()),
        lambda net: nirtorch.torch_to_nir(net, {neuron.LIFNode: lambda m: nir.Threshold(np.ones(H))}),
    ),
}


@pytest.mark.cpu("toolkits export networks that are on it")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("granularity", ["synaptic", "axonal", "dendritic"])
@pytest.mark.parametrize("name", EXPORTS)
def test_exporters_that_would_drop_the_delays_are_refused_by_name(name, granularity):
    make, export = EXPORTS[name]
    net = make()
    plain = export(net)
    assert any(isinstance(node, nir.Affine) for node in plain.nodes.values())
    add_delays(net, 4, granularity=granularity, example=torch.zeros(1, F), init=2)
    for _ in range(2):
        # A table that is asked for the class of a module before it is called raises a KeyError of the class.
        by_class = name in ("spikingjelly", "nirtorch")
        error, says = (KeyError, "others would lose them") if by_class else (ExchangeError, "would be lost")
        with pytest.raises(error, match=rf"a Linear (has|with) delays.*{says}") as raised:
            export(net)
        assert "delayplug.to_nir" in str(raised.value)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert net(torch.zeros(1, F)) is not None
    assert any(isinstance(node, nir.Delay) for node in to_nir(net, torch.zeros(1, F), dt=1e-3).nodes.values())
    remove_delays(net)
    assert export(net).nodes.keys() == plain.nodes.keys()
    assert not nn.modules.module._global_forward_hooks


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_layers_of_delays_are_not_written_by_other_exporters():
    net = norse.SequentialState(nn.Linear(F, F), LearnableDelay(F, H, max_delay=4), box())
    with pytest.raises(ExchangeError, match=r"a LearnableDelay has delays.*delayplug\.to_nir"):
        norse.to_nir(net, torch.zeros(1, F), dt=1.0)


def test_what_nirtorch_traces_through_is_refused_by_name():
    net = nn.Sequential(layer.Conv1d(F, H, 3), neuron.LIFNode())
    add_delays(net, 4)
    with pytest.raises(ExchangeError, match=r"a Conv1d has delays.*would be lost: use delayplug\.to_nir"):
        nirtorch.torch_to_nir(net, {neuron.LIFNode: lambda m: nir.Threshold(np.ones(H))})
