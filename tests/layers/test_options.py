"""Options of layers with delays: what is refused, and that a layer is the same however it gets them."""

import dataclasses
import math
from typing import get_args

import pytest
import torch
from hypothesis import given, settings, strategies as st
from torch import nn

from delayplug import ArgumentError, ConvDelay, LearnableDelay
from delayplug.layers.engines.convolve import Engine
from delayplug.layers.options import KernelOptions, check_engine, check_init, check_widths
from delayplug.layers.taps import INTERPOLATIONS, SIGMA_FLOOR
from tests.profiles import examples


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"interpolation": "cubic"}, "interpolation: expected one of gauss, triangle, linear, got 'cubic'"),
        ({"sigma": 0.2}, "sigma: expected a width >= 0.27 steps with interpolation='gauss', got 0.2"),
        ({"sigma": math.nan}, "sigma: expected a width >= 0.27 steps .*, got nan"),
        ({"sigma": math.inf}, "sigma: expected a width >= 0.27 steps .*, got inf"),
        ({"sigma": "wide"}, "sigma: expected a width >= 0.27 steps .*, got wide"),
        ({"sigma": 0.9, "interpolation": "triangle"}, "sigma: expected a width >= 1.0 steps .*, got 0.9"),
        ({"sigma": 1.0, "interpolation": "linear"}, "sigma: expected None with interpolation='linear'.*, got 1.0"),
        ({"learn_sigma": True, "interpolation": "linear"}, "learn_sigma: expected False with interpolation='linear'"),
        ({"learn_sigma": "layer", "interpolation": "linear"}, "learn_sigma: expected False .*, got 'layer'"),
        ({"learn_sigma": "delay"}, "learn_sigma: expected False, True .one per delay. or 'layer' .*, got 'delay'"),
        ({"learn_sigma": 1}, "learn_sigma: expected False, True .*, got 1"),
    ],
)
def test_what_is_refused(options, message):
    with pytest.raises(ArgumentError, match=message):
        KernelOptions(**options)
    with pytest.raises(ArgumentError, match=message):
        LearnableDelay(4, 3, max_delay=5, **options)


def test_options_stay_what_was_checked():
    with pytest.raises(dataclasses.FrozenInstanceError):
        KernelOptions().sigma = -1.0


def test_the_first_width_reaches_across_all_delays():
    assert KernelOptions().first_width(24) == pytest.approx(12.27)
    assert KernelOptions("triangle").first_width(4) == 3
    assert KernelOptions("linear").first_width(4) is None
    assert KernelOptions(sigma=2).first_width(4) == 2


@st.composite
def valid(draw):
    interpolation = draw(st.sampled_from(INTERPOLATIONS))
    sigma, learn_sigma = None, False
    if interpolation != "linear":
        sigma = draw(st.none() | st.floats(SIGMA_FLOOR[interpolation], 30))
        learn_sigma = draw(st.sampled_from([False, True, "layer"]))
    init = draw(st.just("uniform") | st.floats(0, 5))
    return KernelOptions(interpolation, sigma, learn_sigma, init, draw(st.booleans()))


@settings(max_examples=examples(25))
@given(valid(), st.sampled_from(["synapse", "channel", "convolution"]))
def test_a_layer_from_options_is_that_of_the_arguments(options, kind):
    arguments = {field.name: getattr(options, field.name) for field in dataclasses.fields(options)}
    layers = []
    for from_options in (True, False):
        torch.manual_seed(0)
        passed = {"options": options} if from_options else arguments
        if kind == "convolution":
            passed = {name: value for name, value in passed.items() if name != "engine"}
            make, sizes = (ConvDelay.from_options if from_options else ConvDelay), (nn.Conv1d(4, 6, 3),)
        else:
            make = LearnableDelay.from_options if from_options else LearnableDelay
            sizes = (4, 3 if kind == "synapse" else None)
        layers.append(make(*sizes, max_delay=5, dtype=torch.float64, **passed))
    one, other = layers
    assert repr(one) == repr(other)
    assert one.round_in_eval == options.round_in_eval
    assert one.delays.dtype == torch.float64
    for a, b in zip(one.state_dict().items(), other.state_dict().items(), strict=True):
        assert a[0] == b[0]
        assert torch.equal(a[1], b[1])


def test_the_other_arguments_reach_the_layer():
    options = KernelOptions(engine="fft", round_in_eval=False)
    layer = LearnableDelay.from_options(4, 3, max_delay=5, options=options, taps=2, bias=True, weight=False)
    assert repr(layer) == repr(
        LearnableDelay(4, 3, max_delay=5, taps=2, bias=True, weight=False, engine="fft", round_in_eval=False)
    )
    assert layer.weight is None


def test_a_convolution_has_one_engine():
    with pytest.raises(ArgumentError, match="engine: expected one of auto, direct for convolutions, got 'fft'"):
        ConvDelay.from_options(nn.Conv1d(4, 6, 3), max_delay=5, options=KernelOptions(engine="fft"))


def test_engine_names():
    for engine in get_args(Engine):
        kinds = {"auto": ("synapse", "channel", "convolution"), "channel": ("channel",)}
        kinds |= {"fft": ("synapse",), "direct": ("synapse", "convolution"), "dcls": ("synapse",)}
        for kind in ("synapse", "channel", "convolution"):
            if kind in kinds[engine]:
                check_engine(engine, kind)
            else:
                with pytest.raises(ArgumentError, match=rf"engine: expected one of auto, .*, got '{engine}'. advice"):
                    check_engine(engine, kind, "advice")
    with pytest.raises(ArgumentError, match=r"engine: expected one of auto, fft, direct, dcls for .*, got 'quick'"):
        check_engine("quick", "synapse")


@pytest.mark.parametrize("init", ["uniform", 0, 5, 2.5])
def test_first_delays_in_range(init):
    check_init(init, 5)


@pytest.mark.parametrize("init", ["normal", -0.5, 5.1, math.nan, True, None])
def test_first_delays_out_of_range(init):
    expected = "'uniform' or a delay in steps" if init == "normal" else "a delay between 0 and max_delay=5 steps"
    with pytest.raises(ArgumentError, match=f"init: expected {expected}, got"):
        check_init(init, 5)


@pytest.mark.parametrize("value", [0.26, -1.0, math.nan, math.inf])
def test_one_wrong_width_among_right_ones(value):
    widths = torch.full((2, 3), 0.27)
    check_widths(widths, "gauss", "sigma")
    widths[1, 2] = value
    with pytest.raises(ArgumentError, match=r"layer.sigma: expected finite widths >= 0.27 steps, got values from"):
        check_widths(widths, "gauss", "layer.sigma")
