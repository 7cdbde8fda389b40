"""Layers and models as graphs: those that are supported, and the reasons why others are not."""

import itertools
from typing import Any

import nir
import norse.torch as norse
import numpy as np
import pytest
import torch
from spikingjelly.activation_based import functional, layer, neuron
from torch import Tensor, nn
from torch.nn.utils import parametrizations, prune, weight_norm

from delayplug import ExchangeError, LearnableDelay, WiringError, to_nir
from tests.exchange.models import F, Net, O, X, box, delayed, drive, from_nir, make, node, run, spikes

DT = 1e-3


@pytest.mark.parametrize(
    ("parts", "shape", "reason"),
    [
        (
            lambda: [nn.Conv2d(2, 3, 3), nn.MaxPool2d(2), node(0.5)],
            (2, 8, 8),
            "1: NIR has no maximum over windows, other than of spikes: pool behind the neuron",
        ),
        (lambda: [nn.ConvTranspose2d(2, 3, 3), node(0.5)], (2, 8, 8), "0 .ConvTranspose2d..*Conv1d and Conv2d"),
        (lambda: [nn.Conv2d(2, 3, (1, 3)), node(0.5)], (2, 8, 8), "0: a convolution with a kernel of .1, 3."),
        (lambda: [nn.Conv2d(2, 3, 3, padding_mode="circular"), node(0.5)], (2, 8, 8), "0.*padding_mode='circular'"),
        (lambda: [nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3, track_running_stats=False), node(0.5)], (2, 8, 8), "running"),
        (lambda: [nn.AvgPool2d(3, ceil_mode=True), nn.Conv2d(2, 3, 2), node(0.5)], (2, 8, 8), "0.*ceil_mode"),
        (
            lambda: [nn.AdaptiveAvgPool2d(3), nn.Conv2d(2, 3, 2), node(0.5)],
            (2, 8, 8),
            r"0 .*from \(8, 8\) to \(3, 3\): its windows have different sizes",
        ),
        (lambda: [nn.MaxPool2d(2, return_indices=True), Values(), node(0.5)], (2, 8, 8), "0.*return_indices"),
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


class Values(nn.Module):
    """The values of a pooling that gives indices, too."""

    def forward(self, x: tuple[Tensor, Tensor]) -> Tensor:
        return x[0]


@pytest.mark.parametrize("backend", ["snntorch", "norse", "spikingjelly"])
def test_pools(backend: str) -> None:
    """NIR has the maximum of spikes as a sum that is above zero; it comes back as a maximum, which learns."""
    torch.manual_seed(4)
    layers = [
        *(nn.Conv2d(2, 3, 3), node(0.5), nn.MaxPool2d(3, 2, padding=1), nn.Conv2d(3, 3, 2), nn.BatchNorm2d(3)),
        *(
            node(0.5),
            nn.MaxPool2d(2, ceil_mode=True),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(3, O),
            node(0.5),
        ),
    ]
    model = nn.Sequential(*layers).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randint(-4, 9, parameter.shape) / 8)
    graph = to_nir(model, drive("spikingjelly-s", (2, 12, 12)), dt=DT)
    assert [type(n).__name__ for n in graph.nodes.values()].count("SumPool2d") == 2
    x = spikes(12, 2, (2, 12, 12))
    wanted = run("spikingjelly-s", model, x)
    assert 0 < wanted.mean() < 1
    back = from_nir(graph, backend=backend)
    with torch.no_grad():
        assert torch.equal(back(x), wanted)
    assert [type(part).__name__ for part in back.parts.values()].count("MaxPool2d") == 2
    back.train()
    back(x).sum().backward()
    assert all(parameter.grad is not None for parameter in back.parameters())


def test_a_sum_that_is_not_of_spikes_stays_one() -> None:
    shape, two = np.array([1, 4, 4]), np.array([2, 2])
    nodes = {"input": nir.Input(shape), "pool": nir.SumPool2d(two, two, np.array([0, 0]))}
    nodes |= {"above": nir.Threshold(np.full((1, 2, 2), 0.5)), "output": nir.Output(np.array([1, 2, 2]))}
    graph = nir.NIRGraph(nodes, [*itertools.pairwise(nodes)], type_check=False)
    x = torch.full((1, 1, 1, 4, 4), 0.2)
    with torch.no_grad():
        assert from_nir(graph, backend="snntorch", dt=DT)(x).tolist() == [[[[[1, 1], [1, 1]]]]]


def test_the_shape_of_the_input_is_the_models() -> None:
    """A layer that flattens it does not change it in a file."""
    torch.manual_seed(2)

    class Viewed(Net):
        def forward(self, x: Tensor) -> Any:
            return super().forward(x.flatten(2))

    flat = nn.Sequential(nn.Flatten(), nn.Linear(12, O), node(0.5))
    repeated = nn.Sequential(layer.Flatten(step_mode="m"), layer.Linear(12, O, step_mode="m"), neuron.LIFNode(2.0))
    functional.set_step_mode(repeated, "m")

    def once(model: nn.Module) -> None:
        functional.reset_net(model)
        model(spikes(1, 2, (1, 3, 4))[0].unsqueeze(0).repeat(5, 1, 1, 1, 1))

    for model, example, shape in [
        (flat, drive("spikingjelly-s", (1, 3, 4)), (1, 3, 4)),
        (flat, drive("spikingjelly-s", (12,)), (12,)),
        (flat, drive("spikingjelly-s", (1, 12)), (1, 12)),
        (repeated, once, (1, 3, 4)),
        (Viewed(), spikes(4, 2, (1, 1, F)), (1, 1, F)),
        (Viewed(), spikes(4, 2, (F,)), (F,)),
        (nn.Sequential(nn.Linear(F, O), node(0.5)), drive("spikingjelly-s", (F,)), (F,)),
    ]:
        graph = to_nir(model, example, dt=DT)
        assert tuple(graph.nodes["input"].input_type["input"]) == shape
        flattened = [n for n in graph.nodes.values() if isinstance(n, nir.Flatten)]
        assert len(flattened) == (len(shape) > 1)
        x = spikes(8, 2, shape)
        if model is flat:
            wanted = run("spikingjelly-s", model, x)
            with torch.no_grad():
                assert torch.equal(from_nir(graph, backend="norse")(x), wanted)
    with pytest.raises(ExchangeError, match=r"the model flattens its input, .*: pass example="):
        to_nir(flat, dt=DT)


def test_norses_readout_with_weights_of_its_own() -> None:
    torch.manual_seed(6)
    parameters = norse.LIParameters(tau_mem_inv=torch.tensor(500.0), tau_syn_inv=torch.tensor(250.0))
    model = norse.SequentialState(nn.Linear(F, F), box(0.5, 0.25), norse.LILinearCell(F, O, parameters))
    x = spikes(12)
    for delays in (False, True):
        if delays:
            delayed(model, "axonal", filter_fn=["2"], init=2)
        wanted = run("norse", model, x)
        graph = to_nir(model, spikes(1, 2)[0], dt=DT)
        kinds = [type(n).__name__ for n in graph.nodes.values()]
        assert kinds[3:-1] == ["Delay"] * delays + ["Linear", "CubaLI"]
        with torch.no_grad():
            torch.testing.assert_close(from_nir(graph, backend="norse")(x), wanted, atol=1e-6, rtol=1e-5)


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
