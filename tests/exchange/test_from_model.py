"""Layers and models as graphs: those that are supported, and the reasons why others are not."""

from typing import Any

import norse.torch as norse
import pytest
import torch
from spikingjelly.activation_based import functional, layer, neuron
from torch import nn
from torch.nn.utils import parametrizations, prune, weight_norm

from delayplug import ExchangeError, LearnableDelay, WiringError, to_nir
from tests.exchange.models import F, Net, O, X, box, delayed, from_nir, make, node, spikes

DT = 1e-3


@pytest.mark.parametrize(
    ("parts", "shape", "reason"),
    [
        (
            lambda: [nn.Conv2d(2, 3, 3), nn.MaxPool2d(2), node(0.5)],
            (2, 8, 8),
            "before 2: the operation max_pool2d.* in 1 ",
        ),
        (lambda: [nn.ConvTranspose2d(2, 3, 3), node(0.5)], (2, 8, 8), "0 .ConvTranspose2d..*Conv1d and Conv2d"),
        (lambda: [nn.Conv2d(2, 3, (1, 3)), node(0.5)], (2, 8, 8), "0: a convolution with a kernel of .1, 3."),
        (lambda: [nn.Conv2d(2, 3, 3, padding_mode="circular"), node(0.5)], (2, 8, 8), "0.*padding_mode='circular'"),
        (lambda: [nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3, track_running_stats=False), node(0.5)], (2, 8, 8), "running"),
        (lambda: [nn.AvgPool2d(3, ceil_mode=True), nn.Conv2d(2, 3, 2), node(0.5)], (2, 8, 8), "0.*ceil_mode"),
        (lambda: [nn.Linear(F, O), neuron.EIFNode()], (F,), "1 .EIFNode.*LIFNode"),
        (lambda: [nn.Embedding(F, O), node(0.5)], (F,), "0|run"),
    ],
)
def test_layers(parts: Any, shape: tuple[int, ...], reason: str) -> None:
    with pytest.raises(ExchangeError, match=reason):
        to_nir(nn.Sequential(*parts()), spikes(1, 2, shape)[0], dt=DT)


def test_layers_that_are_supported() -> None:
    """A batch norm without a layer before it, a dropout, a delay by itself, a layer of a wrapper."""
    torch.manual_seed(3)
    model = nn.Sequential(
        LearnableDelay(F, max_delay=3),
        layer.BatchNorm1d(F),
        layer.Linear(F, O),
        layer.Dropout(0.5),
        neuron.LIFNode(2.0),
    )
    functional.set_step_mode(model, "m")
    model[1].running_mean.copy_(torch.randn(F))
    model[2].weight.data.mul_(8)
    model.eval()
    x = spikes(12)
    with torch.no_grad():
        wanted = model(x)
        functional.reset_net(model)
        assert 0 < wanted.mean() < 1
        graph = to_nir(model, x, dt=DT)
        assert torch.equal(from_nir(graph, backend="spikingjelly", dt=DT)(x), wanted)
    lifted = norse.SequentialState(norse.Lift(nn.Linear(F, O)), norse.LIF())
    graph = to_nir(lifted, dt=DT)
    assert [type(n).__name__ for n in graph.nodes.values()] == ["Input", "Affine", "CubaLIF", "Output"]


def test_models_that_cannot_be_run() -> None:
    with pytest.raises(WiringError, match="no neurons"):
        to_nir(nn.Sequential(nn.Linear(F, O)), X, dt=DT)
    with pytest.raises(ExchangeError, match="pass example="):
        to_nir(Net(), dt=DT)
    with pytest.raises(ExchangeError, match="does not run on the example"):
        to_nir(Net(), torch.zeros(3, 2, F + 1), dt=DT)
    with pytest.raises(ExchangeError, match="no layer or neuron of the model ran"):
        to_nir(Net(), lambda model: None, dt=DT)
    model = make("snntorch")
    model[0].weight.data[0, 0] = float("nan")
    with pytest.raises(ExchangeError, match=r"0 \(Linear\): weights that are NaN"):
        to_nir(model, dt=DT)


def test_one_norse_cell_of_another_time_step() -> None:
    """A step is a step: Norse's dt and tau_mem_inv together say what a step does."""
    parameters = norse.LIFBoxParameters(tau_mem_inv=torch.tensor(100.0))
    model = delayed(norse.SequentialState(nn.Linear(F, O), norse.LIFBoxCell(parameters, dt=0.002)))
    graph = to_nir(model, dt=5e-4)
    assert graph.nodes["1"].tau.tolist() == pytest.approx([5e-4 / 0.2] * O)
    assert box(0.5).dt == 1.0


@pytest.mark.parametrize("lifted", [False, True])
@pytest.mark.parametrize(
    ("on", "trained"),
    [
        (weight_norm, "weight_g"),
        (lambda module: prune.l1_unstructured(module, "weight", amount=0.3), "weight_orig"),
        (parametrizations.weight_norm, "parametrizations.weight.original0"),
    ],
    ids=["weight_norm", "pruning", "parametrization"],
)
def test_weights_that_a_hook_makes_are_those_of_the_parameters_now(on: Any, trained: str, lifted: bool) -> None:
    """An optimizer's step changes what they are made from; the hook runs with the next call."""
    torch.manual_seed(1)
    model = make("norse")
    if lifted:
        model = norse.SequentialState(norse.Lift(model[0]), norse.LIF(norse.LIFParameters(tau_mem_inv=500.0)))
    module = model[0].lifted_module if lifted else model[0]
    on(module)
    example = spikes(4, 2) if lifted else spikes(4, 2)[0]
    delayed(model, init=2, example=example)
    with torch.no_grad():
        model(example)
        module.get_parameter(trained).mul_(0.5)
        early = to_nir(model, example, dt=DT).nodes["0"]
        model(example)
        late = to_nir(model, example, dt=DT).nodes["0"]
    assert torch.equal(torch.as_tensor(early.weight), torch.as_tensor(late.weight))
    assert torch.equal(torch.as_tensor(late.weight), module.weight.detach())
