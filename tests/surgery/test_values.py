"""Delays as numbers: per layer, in seconds, of the weight's shape, read and written back."""

import numpy as np
import pytest
import torch
from torch import nn

import delayplug
from delayplug import ArgumentError, LearnableDelay, WiringError, add_delays, named_delays, set_delays
from delayplug.surgery.values import by_layer, longest
from tests.surgery.networks import leaky


def net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(2, 3, 3), leaky(), nn.Flatten(), nn.Linear(3 * 4 * 4, 5), leaky(), nn.Linear(5, 4), leaky()
    )


def limits(model: nn.Module) -> dict[str, int]:
    return {name: delay.max_delay for name, delay in named_delays(model)}


# --------------------------------------------------------------------------------------------------- max_delay


@pytest.mark.parametrize(
    ("max_delay", "expected"),
    [
        (7, [7, 7, 7]),
        ({"0": 3, "3": 5, "5": 9}, [3, 5, 9]),
        ({"*": 2, "3": 5}, [2, 5, 2]),  # a name comes before a pattern
        ({"[05]": 1, "*": 8}, [1, 8, 1]),
        ({"0": np.int64(3), "*": 0}, [3, 0, 0]),
    ],
)
def test_a_largest_delay_for_each_layer(max_delay, expected) -> None:
    model = add_delays(net(), max_delay)
    assert list(limits(model).values()) == expected
    assert all(bool((d.delays <= d.max_delay).all()) for _, d in named_delays(model))


@pytest.mark.parametrize(
    ("max_delay", "match"),
    [
        ({"0": 3, "3": 4}, "max_delay: expected an entry for each layer with delays, got none for 5. Add them, or '*'"),
        ({"0": 3, "conv*": 4, "*": 1}, r"max_delay: expected names among 0, 3, 5, got conv\*"),
        ({"00": 3, "*": 1}, "got 00. Did you mean '0'"),
        ({"*": -1}, r"max_delay\['\*'\]: expected an integer >= 0, got -1"),
        ({"*": True}, "expected an integer >= 0, got True"),
        ({3: 1, "*": 1}, "names among 0, 3, 5, got 3"),
        (0.025, "got 0.025. For a time in seconds pass dt="),
        ({}, "none for 0, 3, 5"),
        ("7", "expected an integer >= 0, got '7'"),
    ],
)
def test_a_largest_delay_that_is_refused(max_delay, match) -> None:
    model = net()
    with pytest.raises(ArgumentError, match=match):
        add_delays(model, max_delay)
    assert not list(named_delays(model))


def test_a_layer_that_is_left_out_is_named_with_the_reason() -> None:
    with pytest.raises(ArgumentError, match="3 gets no delays: filter_fn leaves it out"):
        add_delays(net(), {"0": 3, "3": 4}, filter_fn=["0"])


def test_entries_that_several_keys_match() -> None:
    assert by_layer("x", {"fc*": 1, "*": 2, "fc2": 3}, ["conv", "fc1", "fc2"]) == {
        "conv": ("*", 2),
        "fc1": ("fc*", 1),
        "fc2": ("fc2", 3),
    }


# ----------------------------------------------------------------------------------------------------- seconds


@pytest.mark.parametrize(
    ("time", "dt", "steps"),
    [(0.025, 1e-3, 25), (0.3, 0.1, 3), (0, 1e-3, 0), (25, 1, 25), (0.07, 0.01, 7)],
)
def test_times_are_whole_numbers_of_steps(time, dt, steps) -> None:
    assert longest(time, ["a"], dt, {}) == {"a": steps}
    assert longest({"*": time}, ["a", "b"], dt, {}) == {"a": steps, "b": steps}


@pytest.mark.parametrize(
    ("time", "dt", "match"),
    [
        (0.025, 2e-3, "which are 12.5 steps. Pass 0.024 or 0.026"),
        (
            25,
            1e-3,
            "which are 25000 steps. If it is in milliseconds, pass 0.025; if it is a number of steps, leave dt",
        ),
        (25, 1e-2, "which are 2500 steps. If it is in milliseconds"),
        (-1e-3, 1e-3, "expected a time >= 0 in seconds"),
        (float("nan"), 1e-3, "expected a time >= 0 in seconds"),
        ("25 ms", 1e-3, "expected a time >= 0 in seconds, got '25 ms'"),
        (0.025, 0, "dt: expected the length of a step in seconds"),
        (0.025, "1 ms", "dt: expected the length of a step in seconds"),
    ],
)
def test_times_that_are_refused(time, dt, match) -> None:
    model = net()
    with pytest.raises(ArgumentError, match=match):
        add_delays(model, time, dt=dt)
    assert not list(named_delays(model))


def test_first_delays_in_seconds() -> None:
    model = add_delays(
        net(), {"0": 0.01, "*": 0.02}, dt=1e-3, init={"0": 0.0035, "3": np.full((5, 48), 0.011), "5": 0.02}
    )
    values = delayplug.delays(model)
    assert np.allclose(values["0"], 3.5)
    assert (values["3"] == 11).all()
    assert (values["5"] == 20).all()
    assert (delayplug.delays(add_delays(net(), 0.02, dt=1e-3, init=0.007))["3"] == 7).all()


# ------------------------------------------------------------------------------------------------ first delays


def test_first_delays_have_the_shape_of_the_weight() -> None:
    conv, linear = torch.rand(3, 2, 3, 3) * 7, np.arange(240).reshape(5, 48) % 8
    model = add_delays(net(), 7, init={"0": conv, "3": linear, "5": 1.5})
    values = delayplug.delays(model)
    assert np.array_equal(values["0"], conv.numpy())
    assert np.array_equal(values["3"], linear)
    assert (values["5"] == 1.5).all()
    model = add_delays(net(), 7, init={"3": linear[:, :, None], "[05]": 0})  # of the parameter's shape
    assert np.array_equal(delayplug.delays(model)["3"], linear)
    model = add_delays(net(), 7, granularity="axonal", init={"3": np.arange(48) % 8, "*": "uniform"})
    assert np.array_equal(delayplug.delays(model)["3"], np.arange(48) % 8)
    model = add_delays(net(), 7, init=linear, filter_fn=["3"])
    assert np.array_equal(delayplug.delays(model)["3"], linear)


@pytest.mark.parametrize(
    ("init", "match"),
    [
        (torch.ones(5, 48), "init: .* 3 layers get delays, 0, 3, 5: pass a mapping"),
        (
            {"3": torch.ones(48, 5)},
            r"init\['3'\]: expected a number or shape \(5, 48\), .* got \(48, 5\)",
        ),
        ({"3": 8}, r"init\['3'\]: expected delays between 0 and 7"),
        ({"3": np.full((5, 48), np.nan)}, r"init\['3'\]: expected delays between 0 and 7"),
        ({"3": object()}, r"init\['3'\]: expected a number, an array or a tensor, got object"),
        ({"fc*": 1}, r"init: expected names among 0, 3, 5, got fc\*"),
    ],
)
def test_first_delays_that_are_refused(init, match) -> None:
    model = net()
    with pytest.raises(ArgumentError, match=match):
        add_delays(model, 7, init=init)
    assert not list(named_delays(model))


# ------------------------------------------------------------------------------------------- reading and writing


def test_delays_are_copies_that_can_be_written_back() -> None:
    model, other = add_delays(net(), 7), add_delays(net(), 7)
    values = delayplug.delays(model)
    weights = {name: tuple(model.get_submodule(name).weight.shape) for name in values}
    assert {name: value.shape for name, value in values.items()} == weights
    assert all(value.dtype == np.float32 for value in values.values())
    set_delays(other, values)
    for name, delay in named_delays(other):
        assert torch.equal(delay.delays, dict(named_delays(model))[name].delays)
    values["3"][:] = 0
    assert delayplug.delays(model)["3"].any()


def test_delays_are_what_eval_uses_if_rounded() -> None:
    model = add_delays(net(), 7, init={"3": 2.5, "5": 3.49, "0": 7})
    rounded = delayplug.delays(model, rounded=True)
    assert {name: (set(value.flat), value.dtype) for name, value in rounded.items()} == {
        "0": ({7}, np.int64),
        "3": ({3}, np.int64),
        "5": ({3}, np.int64),
    }


def test_delays_in_seconds_and_back() -> None:
    model, other = add_delays(net(), 7), add_delays(net(), 7)
    values = delayplug.delays(model, dt=2e-3)
    assert np.allclose(values["3"], delayplug.delays(model)["3"] * 2e-3)
    set_delays(other, values, dt=2e-3)
    assert np.allclose(delayplug.delays(other)["3"], delayplug.delays(model)["3"])
    assert np.allclose(delayplug.delays(model, rounded=True, dt=2e-3)["3"] / 2e-3 % 1 % 1, 0)


def test_what_was_written_counts_from_the_next_sequence() -> None:
    layer = LearnableDelay(3, 2, max_delay=5, init=0).eval()
    impulse = torch.zeros(8, 1, 3)
    impulse[0] = 1
    assert layer(impulse)[0].any()
    set_delays(layer, {"": 4})
    assert layer(impulse).abs().sum((1, 2)).nonzero().flatten().tolist() == [4]


def test_layers_by_themselves() -> None:
    assert delayplug.delays(LearnableDelay(3, 4, max_delay=5))[""].shape == (4, 3)
    assert delayplug.delays(LearnableDelay(3, 4, max_delay=5, taps=2))[""].shape == (4, 3, 2)
    assert delayplug.delays(LearnableDelay(3, max_delay=5))[""].shape == (3,)
    assert delayplug.delays(LearnableDelay(1, max_delay=5))[""].shape == (1,)
    assert delayplug.delays(LearnableDelay(3, 4, max_delay=5).to(torch.bfloat16))[""].dtype == np.float32


def test_frozen_delays_are_read_and_not_written() -> None:
    model = add_delays(net(), 7)
    rounded = delayplug.delays(model, rounded=True)
    delayplug.freeze_delays(model)
    values = delayplug.delays(model)
    assert all(np.array_equal(values[name], rounded[name]) and values[name].dtype == np.int64 for name in rounded)
    with pytest.raises(WiringError, match="the delays of 3 are frozen: set them before freeze_delays"):
        set_delays(model, {"3": 1})


def test_nothing_is_written_if_something_is_wrong() -> None:
    model = add_delays(net(), 7, init=1)
    for values, match in (
        ({"0": 2, "3": 9}, r"values\['3'\]: expected delays between 0 and 7"),
        ({"0": 2, "x": 1}, "names among 0, 3, 5, got x"),
        ([1], "a mapping from names of layers to delays, got list"),
    ):
        with pytest.raises(ArgumentError, match=match):
            set_delays(model, values)
    assert all((value == 1).all() for value in delayplug.delays(model).values())
    with pytest.raises(ArgumentError, match="a model with delays"):
        delayplug.delays(net())
