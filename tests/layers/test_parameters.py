"""What a layer with delays holds: saved, copied, stood in for, and when training diverged."""

import copy
import io
import math
import pickle
import re

import pytest
import torch
from torch import nn
from torch.func import functional_call
from torch.nn.utils import parametrize

from delayplug import ArgumentError, ConvDelay, LearnableDelay, freeze_delays
from tests.layers.running import F64, equal, make

LAYERS = {
    "synapse": lambda: make(4, 3, taps=2, bias=True),
    "learned": lambda: make(4, 3, learn_sigma=True),
    "channel": lambda: make(4, interpolation="triangle"),
    "linear": lambda: make(4, 3, interpolation="linear"),
}


def saved(layer):
    file = io.BytesIO()
    torch.save(layer.state_dict(), file)
    return torch.load(io.BytesIO(file.getvalue()), weights_only=True)


@pytest.mark.parametrize("build", LAYERS.values(), ids=LAYERS)
def test_state_dict_deepcopy_and_pickle(build):
    layer, other = build(), build()
    x = torch.randn(9, 2, 4, dtype=F64)
    y = layer(x)
    assert not equal(other(x), y, 1e-3)
    other.load_state_dict(saved(layer))
    for copied in (other, copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        assert torch.equal(copied(x), y)
        assert repr(copied) == repr(layer)
    copied.delays.data.zero_()
    assert torch.equal(layer(x), y)


@pytest.mark.parametrize("value", [-0.1, 6.1, math.nan, math.inf])
@pytest.mark.parametrize("assign", [False, True])
def test_loading_delays_out_of_range(value, assign):
    model = nn.Sequential(make(4, 3))
    state = model.state_dict()
    state["0.delays"] = state["0.delays"].clone()
    state["0.delays"].view(-1)[2] = value
    with pytest.raises(ArgumentError, match=r"0.delays: expected delays between 0 and 6 steps, got values from .*"):
        model.load_state_dict(state, assign=assign)


@pytest.mark.parametrize("learn_sigma", [False, True])
@pytest.mark.parametrize("value", [0.0, -1.0, math.nan, math.inf])
def test_loading_a_width_that_is_none(value, learn_sigma):
    layer = make(4, 3, learn_sigma=learn_sigma)
    state = {**layer.state_dict(), "sigma": torch.full_like(layer.sigma, value)}
    with pytest.raises(ArgumentError, match=r"sigma: expected finite widths >= 0.27 steps, got values from"):
        layer.load_state_dict(state)


def test_widths_at_the_floor_load_in_every_precision():
    for dtype in (torch.float64, torch.float32, torch.bfloat16):
        layer = LearnableDelay(4, 3, max_delay=6, sigma=0.27, dtype=dtype)
        for other in (torch.float64, torch.float32, torch.bfloat16):
            LearnableDelay(4, 3, max_delay=6, dtype=other).load_state_dict(layer.state_dict())


# ----------------------------------------------------------------------------------------------- training that diverged

DIVERGED = {
    "synapse": lambda: (LearnableDelay(3, 2, max_delay=4), torch.ones(5, 1, 3), None),
    "direct": lambda: (LearnableDelay(3, 2, max_delay=4, engine="direct"), torch.ones(5, 1, 3), None),
    "channel": lambda: (LearnableDelay(3, max_delay=4), torch.ones(5, 1, 3), None),
    "conv": lambda: (ConvDelay(nn.Conv1d(2, 3, 2), max_delay=4), torch.ones(5, 1, 2, 6), torch.ones(3, 2, 2)),
}


@pytest.mark.cpu("values are looked at there alone")
@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("build", DIVERGED.values(), ids=DIVERGED)
def test_delays_that_are_no_numbers_are_named(build, value, training):
    layer, x, weight = build()
    layer.train(training)
    layer.delays.data.view(-1)[1] = value
    kind = f"{type(layer).__name__} {tuple(layer.delays.shape)}"
    for name in (kind, "blocks.0.fc"):
        layer.layer_name = "" if name == kind else name
        message = rf"delays of {re.escape(name)}.*: expected finite .* NaN or infinity in 1 of \d+. Training diverged"
        for run in (
            lambda: layer(x, weight=weight),
            lambda: layer.chunk(x, None, weight),
            lambda: layer.step(x[0], None, weight),
        ):
            for grad in (True, False):
                with torch.set_grad_enabled(grad), pytest.raises(ArgumentError, match=message):
                    run()


@pytest.mark.cpu("values are looked at there alone")
@pytest.mark.parametrize("learn_sigma", [True, "layer"])
def test_widths_that_are_no_numbers_are_named(learn_sigma):
    layer = LearnableDelay(3, 2, max_delay=4, learn_sigma=learn_sigma)
    layer.sigma.data.fill_(math.inf)
    with pytest.raises(ArgumentError, match=r"sigma of LearnableDelay .*Training diverged"):
        layer(torch.ones(5, 1, 3))


@pytest.mark.cpu("values are looked at there alone")
@pytest.mark.parametrize("optimizer", [torch.optim.SGD, torch.optim.Adam])
@pytest.mark.parametrize("gradient", [math.nan, math.inf])
def test_a_step_with_a_gradient_that_is_no_number(optimizer, gradient):
    layer = LearnableDelay(3, 2, max_delay=4)
    layer(torch.ones(5, 1, 3)).sum().backward()
    layer.delays.grad[0, 1] = gradient
    optimizer(layer.parameters(), lr=0.1).step()
    assert layer.delays.isfinite().sum() == 5
    for mode in (True, False):
        with pytest.raises(ArgumentError, match="Training diverged"):
            layer.train(mode)(torch.ones(5, 1, 3))


@pytest.mark.parametrize("interpolation", ["gauss", "triangle", "linear"])
@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
@pytest.mark.parametrize("build", DIVERGED.values(), ids=DIVERGED)
def test_where_values_cannot_be_looked_at_they_make_nan(build, training, interpolation, monkeypatch):
    """As on a GPU, which a look would wait for: no index error, and no output that looks right."""
    layer, x, weight = build()
    layer.interpolation, layer.sigma = interpolation, None if interpolation == "linear" else layer.sigma
    monkeypatch.setattr(type(layer), "_checks_values", lambda self: False)
    for value in (math.nan, math.inf):
        layer.delays.data.fill_(1)
        layer.delays.data.view(-1)[1] = value
        kernel = layer.train(training).kernel(weight)
        assert kernel.isnan().any()
        assert kernel.flatten(1).isnan().any(0).sum() == 1
        assert layer(x, weight=weight).isnan().any()


@pytest.mark.cpu("values are looked at there alone")
def test_frozen_delays_out_of_range_are_named():
    layer = LearnableDelay(3, 2, max_delay=4)
    freeze_delays(layer)
    layer.delays[0, 0, 0] = 9
    with pytest.raises(ArgumentError, match=r"delays of FrozenDelay .*: expected delays between 0 and 4"):
        layer(torch.ones(5, 1, 3))


# --------------------------------------------------------------------------------------- what stands in for parameters


@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
def test_what_stands_in_is_brought_into_the_range(training):
    """A step that was made by hand, as in MAML, can leave it."""
    layer = make(4, 3, learn_sigma=True).train(training)
    x = torch.rand(9, 2, 4, dtype=F64)
    delays, sigma = layer.delays.detach() * 3 - 4, layer.sigma.detach() - 2
    given = delays.clone(), sigma.clone()
    found = functional_call(layer, {"delays": delays, "sigma": sigma}, (x,))
    assert torch.equal(delays, given[0])
    assert torch.equal(sigma, given[1])
    with torch.no_grad():
        layer.delays.copy_(delays)
        layer.sigma.copy_(sigma)
    assert torch.equal(found, layer(x))


@pytest.mark.real("parameters that are exchanged")
def test_parametrized_delays_are_brought_into_the_range():
    class Twice(nn.Module):
        def forward(self, delays):
            return 2 * delays

    layer, x = LearnableDelay(4, 3, max_delay=5), torch.rand(9, 2, 4)
    parametrize.register_parametrization(layer, "delays", Twice())
    found = layer(x)
    assert (layer.delays > 5).any()
    plain = LearnableDelay(4, 3, max_delay=5)
    with torch.no_grad():
        plain.delays.copy_(layer.delays)
        plain.weight.copy_(layer.weight)
    assert torch.equal(found, plain(x))
