"""Second derivatives, and the transforms of `torch.func`: every layer, engine and way to run a sequence."""

import itertools

import pytest
import torch
from torch import nn
from torch.autograd import forward_ad
from torch.func import functional_call, grad, hessian, jacfwd, jacrev, jvp, stack_module_state, vmap

from delayplug import ConvDelay, DelayState, LearnableDelay
from delayplug.layers import autograd, taps
from delayplug.layers.autograd import gradients, is_transformed, needs_graph
from delayplug.layers.engines import channels, fourier, spatial
from tests.layers.running import F64

pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit.script.*:FutureWarning")  # of torch's forward mode

INTERPOLATIONS = ("gauss", "triangle", "linear")
RUNS = ("forward", "chunk", "step")
CONVOLUTIONS = {
    "grouped": lambda: nn.Conv1d(2, 2, 2, groups=2, stride=2),
    "transposed": lambda: nn.ConvTranspose1d(2, 2, 2, groups=2),
    "padded": lambda: nn.Conv1d(2, 1, 3, padding="same", padding_mode="circular"),
}


class Run(nn.Module):
    """A layer over a sequence, at once, in two parts or by steps; a convolution's with its weight."""

    def __init__(self, layer, how):
        super().__init__()
        self.layer, self.how = layer, how

    def forward(self, x, weight=None):
        if self.how == "forward":
            return self.layer(x, weight=weight)
        state, parts = None, []
        if self.how == "chunk":
            for part in x.split(2):
                y, state = self.layer.chunk(part, state, weight)
                parts.append(y)
            return torch.cat(parts)
        for x_t in x:
            y, state = self.layer.step(x_t, state, weight)
            parts.append(y)
        return torch.stack(parts)


def build(kind, interpolation, max_delay=2):
    """A layer, the shape of its input, and the weight that it is called with."""
    options = {"max_delay": max_delay, "interpolation": interpolation, "learn_sigma": interpolation != "linear"}
    weight, shape = None, (3, 2, 2)
    if kind in CONVOLUTIONS:
        conv = CONVOLUTIONS[kind]().double()
        layer, shape, weight = ConvDelay(conv, dtype=F64, **options), (3, 1, 2, 3), conv.weight.detach()
    elif kind == "channel":
        layer, shape = LearnableDelay(2, dtype=F64, **options), (3, 2, 2, 2)
    else:
        layer = LearnableDelay(2, 2, taps=2, bias=True, engine=kind, dtype=F64, **options)
    with torch.no_grad():  # off the kinks, where a difference quotient means nothing
        layer.delays.copy_(torch.randint_like(layer.delays, max_delay) + 0.2 + 0.15 * torch.rand_like(layer.delays))
        if layer.sigma is not None:
            layer.sigma.fill_(1.5)
    return layer, shape, weight


LAYERS = [*itertools.product(("fft", "direct", "auto", "dcls", "channel", *CONVOLUTIONS), INTERPOLATIONS)]


def function_of(run, weight):
    """The run as a function of its input, its parameters and its weight, and their values."""
    names = [name for name, _ in run.named_parameters()]
    values = [parameter.detach().clone() for parameter in run.parameters()]

    def function(x, *values):
        named = dict(zip(names, values, strict=False))
        return functional_call(run, named, (x,) if weight is None else (x, values[-1]))

    return function, [*values, *([] if weight is None else [weight.clone()])]


# -------------------------------------------------------------------------------------------------- second derivatives


@pytest.mark.parametrize("how", RUNS)
@pytest.mark.parametrize(("kind", "interpolation"), LAYERS)
def test_second_derivatives(kind, interpolation, how):
    layer, shape, weight = build(kind, interpolation)
    function, values = function_of(Run(layer, how), weight)
    inputs = [value.requires_grad_() for value in (torch.rand(shape, dtype=F64), *values)]
    assert torch.autograd.gradgradcheck(function, inputs, fast_mode=True)


@pytest.mark.parametrize("how", RUNS)
@pytest.mark.parametrize("kind", ["auto", "fft", "channel", "grouped"])
def test_second_derivatives_of_rounded_delays(kind, how):
    layer, shape, weight = build(kind, "gauss")
    run = Run(layer.eval(), how)
    function, values = function_of(run, weight)
    names = [name for name, _ in run.named_parameters()]
    for place, value in enumerate(values):  # neither delays nor widths
        value.requires_grad_(names[place : place + 1] in ([], ["layer.weight"], ["layer.bias"]))
    x = torch.rand(shape, dtype=F64, requires_grad=True)
    assert torch.autograd.gradgradcheck(function, [x, *values], fast_mode=True)


def curvature(layer, x):
    """The gradient of a gradient's size, for the input and all parameters."""
    inputs = [x, *layer.parameters()]
    first = torch.autograd.grad(layer(x).square().sum(), inputs, create_graph=True)
    return torch.autograd.grad(sum(value.square().sum() for value in first), inputs)


@pytest.mark.parametrize("engine", ["fft", "direct", "auto"])
@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
def test_second_derivatives_are_those_of_dcls(interpolation, engine):
    reference, *_ = build("dcls", interpolation, max_delay=5)
    layer, *_ = build(engine, interpolation, max_delay=5)
    layer.load_state_dict(reference.state_dict())
    x = torch.rand(9, 2, 2, dtype=F64, requires_grad=True)
    for found, expected in zip(curvature(layer, x), curvature(reference, x), strict=True):
        assert torch.allclose(found, expected, rtol=1e-5)


@pytest.mark.parametrize("kind", ["fft", "channel", "grouped"])
def test_a_penalty_on_gradients_trains_by_backward(kind):
    layer, shape, weight = build(kind, "gauss")
    x = torch.rand(shape, dtype=F64, requires_grad=True)
    (slope,) = torch.autograd.grad(layer(x, weight=weight).sum(), x, create_graph=True)
    slope.square().sum().backward()
    assert layer.delays.grad.any()


@pytest.mark.parametrize("kind", ["fft", "channel", "grouped"])
def test_first_derivatives_take_the_fast_way(kind, monkeypatch):
    def fails(*_):
        raise AssertionError

    for module in (taps, channels, fourier, spatial):
        monkeypatch.setattr(module, "gradients", fails)
    layer, shape, weight = build(kind, "gauss")
    layer(torch.rand(shape, dtype=F64, requires_grad=True), weight=weight).sum().backward()
    assert layer.delays.grad is not None
    with pytest.raises(AssertionError):
        layer(torch.rand(shape, dtype=F64), weight=weight).sum().backward(create_graph=True)


def test_gradients_of_those_that_are_wanted():
    a, b = torch.rand(3, requires_grad=True), torch.rand(3, requires_grad=True)
    first, second = gradients(lambda a, b: a * b**2, (a, b), torch.ones(3), (False, True))
    assert first is None
    assert torch.allclose(second, 2 * a * b)
    (by_a,) = torch.autograd.grad(second.sum(), a)
    assert torch.allclose(by_a, 2 * b)


# --------------------------------------------------------------------------------------------------------- torch.func


def test_a_transform_is_noticed():
    seen = []

    def function(x):
        seen.append(is_transformed())
        return x.sum()

    x = torch.ones(2)
    function(x)
    grad(function)(x)
    vmap(function)(x)
    jvp(function, (x,), (x,))
    with forward_ad.dual_level():
        function(x)
    function(x)
    assert seen == [False, True, True, True, True, False]
    assert needs_graph()
    with torch.no_grad():
        assert not needs_graph()


WAYS = [*itertools.product(("fft", "auto", "dcls", "channel", "grouped", "transposed"), RUNS, (True, False))]


@pytest.mark.parametrize("pruned", [False, True])
@pytest.mark.parametrize(("kind", "how", "training"), WAYS)
def test_derivatives_by_transforms(kind, how, training, pruned):
    layer, shape, weight = build(kind, "gauss")
    layer.prune(torch.rand_like(layer.delays) < 0.6 if pruned else None)
    run = Run(layer.train(training), how)
    function, values = function_of(run, weight)
    x = torch.rand(shape, dtype=F64)

    def loss(*inputs):
        return function(*inputs).square().sum()

    inputs, every = [x, *values], tuple(range(len(values) + 1))
    learned = [value.clone().requires_grad_() for value in inputs]
    expected = torch.autograd.grad(loss(*learned), learned, allow_unused=True, materialize_grads=True)
    for found, right in zip(grad(loss, argnums=every)(*inputs), expected, strict=True):
        assert torch.allclose(found, right)
    tangents = tuple(torch.rand_like(value) for value in inputs)
    _, slope = jvp(loss, tuple(inputs), tangents)
    assert torch.allclose(slope, sum((a * b).sum() for a, b in zip(expected, tangents, strict=True)))
    for found, right in zip(jacfwd(function, every)(*inputs), jacrev(function, every)(*inputs), strict=True):
        assert torch.allclose(found, right)
    with forward_ad.dual_level():
        duals = [forward_ad.make_dual(value, tangent) for value, tangent in zip(inputs, tangents, strict=True)]
        assert torch.allclose(forward_ad.unpack_dual(loss(*duals)).tangent, slope)


@pytest.mark.parametrize(("kind", "how", "training"), WAYS)
def test_samples_and_ensembles_by_vmap(kind, how, training):
    runs = [Run(build(kind, "gauss")[0].train(training), how) for _ in range(3)]
    _, shape, weight = build(kind, "gauss")
    xs = torch.rand(3, *shape, dtype=F64)
    expected = torch.stack([runs[0](x, weight) for x in xs])
    assert torch.allclose(vmap(lambda x: runs[0](x, weight))(xs), expected)
    parameters, buffers = stack_module_state(runs)

    def one(parameters, buffers, x):
        return functional_call(runs[0], (parameters, buffers), (x, weight))

    found = vmap(one)(parameters, buffers, xs)
    assert torch.allclose(found, torch.stack([run(x, weight) for run, x in zip(runs, xs, strict=True)]))

    def loss(parameters, buffers, x):
        return one(parameters, buffers, x).square().sum()

    each = vmap(grad(loss))({name: value.detach() for name, value in parameters.items()}, buffers, xs)
    for i, run in enumerate(runs):
        own = {name: value.detach() for name, value in run.named_parameters()}
        for name, value in grad(loss)(own, dict(run.named_buffers()), xs[i]).items():
            assert torch.allclose(each[name][i], value)


@pytest.mark.parametrize("kind", ["fft", "channel", "grouped"])
def test_hessians(kind):
    layer, shape, weight = build(kind, "gauss")
    function, values = function_of(Run(layer, "forward"), weight)
    x = torch.rand(shape, dtype=F64)

    def loss(delays):
        return function(x, delays, *values[1:]).square().sum()

    expected = torch.autograd.functional.hessian(loss, values[0])
    assert expected.any()
    assert torch.allclose(hessian(loss)(values[0]), expected)


def test_histories_go_through_vmap():
    layer = LearnableDelay(2, 2, max_delay=3, dtype=F64)
    x, histories = torch.rand(4, 5, 2, dtype=F64), torch.rand(4, 3, 5, 2, dtype=F64)

    def step(x, history):
        y, state = layer.step(x, DelayState(history))
        return y, state.history

    for found, rows in zip(vmap(step)(x, histories), zip(*map(step, x, histories), strict=True), strict=True):
        assert torch.allclose(found, torch.stack(rows))


def test_what_is_outside_of_a_transform_is_left_alone():
    layer = LearnableDelay(2, 2, max_delay=3)
    with torch.no_grad():
        layer.delays.fill_(7)
    x = torch.rand(6, 2, 2)
    y = vmap(layer)(x.unsqueeze(0))[0]
    assert (layer.delays == 7).all()
    assert torch.allclose(layer(x), y)
    assert (layer.delays == 3).all()
    assert autograd.is_transformed() is False
