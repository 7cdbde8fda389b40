import math

import numpy as np
import pytest
import torch

from delayplug import ArgumentError, LearnableDelay
from delayplug.layers.checks import check_count, check_delays, check_not_diverged, output_steps
from tests.layers.running import F64

VALUES = pytest.mark.cpu("values are looked at there alone")
SYNAPSE, CHANNEL = LearnableDelay(4, 3, max_delay=5), LearnableDelay(4, max_delay=5)


@pytest.mark.parametrize(
    ("layer", "x", "message"),
    [
        (SYNAPSE, torch.zeros(9, 2, 5), r"x: expected shape \(T, \*batch, 4\), got \(9, 2, 5\)"),
        (SYNAPSE, torch.zeros(4), r"x: expected shape \(T, \*batch, 4\), got \(4,\)"),
        (CHANNEL, torch.zeros(9, 2, 5, 4), r"x: expected shape \(T, B, 4, ...\), got \(9, 2, 5, 4\)"),
        (CHANNEL, torch.zeros(9, 5), r"x: expected shape \(T, B, 4, ...\), got \(9, 5\)"),
        (SYNAPSE, torch.zeros(0, 2, 4), r"x: expected at least one step, got \(0, 2, 4\)"),
        (
            SYNAPSE,
            torch.zeros(9, 2, 4, dtype=F64),
            "x: expected dtype torch.float32, half .*, got torch.float64",
        ),
        (SYNAPSE, torch.zeros(9, 2, 4, dtype=torch.complex64), "x: expected real values, got torch.complex64"),
        pytest.param(
            *(SYNAPSE, torch.zeros(9, 2, 4).index_fill(0, torch.tensor(3), math.nan)),
            "x: expected finite values, got NaN",
            marks=VALUES,
        ),
        pytest.param(
            *(CHANNEL, torch.zeros(9, 2, 4).index_fill(1, torch.tensor(1), math.inf)),
            "x: expected finite values, got NaN",
            marks=VALUES,
        ),
    ],
)
def test_input_errors(layer, x, message):
    with pytest.raises(ArgumentError, match=message):
        layer(x)
    with pytest.raises(ArgumentError, match=message):
        layer.chunk(x, None)


@VALUES
def test_opposite_infinities_are_found():
    x = torch.zeros(9, 2, 4)
    x[3, 0, 0], x[3, 0, 1] = math.inf, -math.inf
    with pytest.raises(ArgumentError, match="x: expected finite values"):
        SYNAPSE(x)


def test_step_input_errors():
    with pytest.raises(ArgumentError, match=r"x: expected shape \(\*batch, 4\), got \(2, 5\)"):
        SYNAPSE.step(torch.zeros(2, 5), SYNAPSE.initial_state(2))
    with pytest.raises(ArgumentError, match=r"x: expected shape \(B, 4, ...\), got \(2, 5\)"):
        CHANNEL.step(torch.zeros(2, 5), CHANNEL.initial_state(2))


def test_large_finite_input_is_not_taken_for_infinite():
    layer = LearnableDelay(3, max_delay=1, init=0, dtype=torch.float16)
    assert layer.eval()(torch.full((50, 50, 3), 1000.0, dtype=torch.float16)).isfinite().all()


@pytest.mark.parametrize("value", [1, 7, np.int64(3)])
def test_counts(value):
    check_count("steps", value, 1)


@pytest.mark.parametrize("value", [0, -1, 1.0, True, "2", None])
def test_what_is_no_count(value):
    with pytest.raises(ArgumentError, match=f"steps: expected an integer >= 1, got {value!r}"):
        check_count("steps", value, 1)


def test_delays_at_the_borders_are_in_range():
    check_delays(torch.tensor([0.0, 2.5, 5.0]), 5, "delays")


@pytest.mark.parametrize("value", [-0.1, 5.1, math.nan, math.inf])
def test_one_delay_out_of_range(value):
    delays = torch.tensor([0.0, value, 5.0])
    with pytest.raises(ArgumentError, match=r"d: expected delays between 0 and 5 steps, got .*\. Load others"):
        check_delays(delays, 5, "d", "Load others")


def test_the_length_of_a_result():
    assert output_steps(9, 4, None) == 9
    assert [output_steps(9, 4, steps) for steps in (1, 9, 12)] == [1, 9, 12]


@pytest.mark.parametrize("steps", [0, -1, 13])
def test_a_length_out_of_reach(steps):
    with pytest.raises(ArgumentError, match=rf"steps: expected a length between 1 and T \+ K - 1 = 12, got {steps}"):
        output_steps(9, 4, steps)


def test_values_that_diverged():
    check_not_diverged(torch.full((3,), 3e38), "sigma")  # the sum overflows
    check_not_diverged(torch.empty(0), "delays")
    for value in (math.nan, math.inf):
        with pytest.raises(ArgumentError, match=r"delays of a: expected finite .* in 2 of 3\. Training diverged"):
            check_not_diverged(torch.tensor([1.0, value, value]), "delays of a")
