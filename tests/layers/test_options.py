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
def test_options_are_arguments_of_every_layer(options, kind):
    if kind == "convolution":
        layer = ConvDelay(nn.Conv1d(4, 6, 3), max_delay=5, **dataclasses.asdict(options))
    else:
        layer = LearnableDelay(4, 3 if kind == "synapse" else None, max_delay=5, **dataclasses.asdict(options))
    width, learned = options.first_width(5), isinstance(layer.sigma, nn.Parameter)
    assert layer.interpolation == options.interpolation
    assert layer.round_in_eval == options.round_in_eval
    assert learned == bool(options.learn_sigma)
    assert (layer.sigma is None) == (width is None)
    if width is not None:
        assert torch.equal(layer.sigma, torch.full_like(layer.sigma, width))
        assert layer.sigma.shape == (layer.delays.shape if options.learn_sigma is True else ())
    if options.init != "uniform":
        assert torch.equal(layer.delays, torch.full_like(layer.delays, options.init))


def test_a_convolution_has_one_engine():
    assert repr(ConvDelay(nn.Conv1d(4, 6, 3), max_delay=5, engine="direct")).startswith("ConvDelay(4, 6")
    with pytest.raises(ArgumentError, match="engine: expected one of auto, direct for convolutions, got 'fft'"):
        ConvDelay(nn.Conv1d(4, 6, 3), max_delay=5, engine="fft")


def test_engine_names():
    for engine in get_args(Engine):
        kinds = {"auto": ("synapse", "channel", "convolution"), "channel": ("channel",)}
        kinds |= dict.fromkeys(("fft", "products", "dcls"), ("synapse",))
        kinds |= {"direct": ("synapse", "convolution")}
        for kind in ("synapse", "channel", "convolution"):
            if kind in kinds[engine]:
                check_engine(engine, kind)
            else:
                with pytest.raises(ArgumentError, match=rf"engine: expected one of auto, .*, got '{engine}'. advice"):
                    check_engine(engine, kind, "advice")
    with pytest.raises(
        ArgumentError, match=r"engine: expected one of auto, fft, direct, products, dcls for .*, got 'quick'"
    ):
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
