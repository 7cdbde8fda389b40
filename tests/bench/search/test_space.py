"""Ranges and lists of values, and which of them are refused."""

import re
from typing import Any

import pytest

from delayplug import ArgumentError
from delayplug.bench.search.space import Choice, Range, points, read_space


def test_what_may_be_searched() -> None:
    table: dict[str, object] = {
        "lr": {"low": 1e-3, "high": 1e-2, "log": True},
        "tau": {"low": 1.5, "high": 3, "step": 0.5},
        "max_delay": {"low": 8, "high": 24},
        "hidden": {"values": [[64], [64, 64]]},
        "delays": {"values": ["learned", "axonal"]},
        "compile": {"values": [True, False]},
    }
    assert read_space(table) == {
        "lr": Range(1e-3, 1e-2, log=True),
        "tau": Range(1.5, 3, step=0.5),
        "max_delay": Range(8, 24, whole=True),
        "hidden": Choice(((64,), (64, 64))),
        "delays": Choice(("learned", "axonal")),
        "compile": Choice((True, False)),
    }


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({}, "search: expected at least one setting"),
        ({"learning_rate": {"low": 1, "high": 2}}, "search.learning_rate: expected a setting among .*lr.*got 'learn"),
        ({"seed": {"values": [1]}}, "search.seed: expected a setting of the network or of its training"),
        ({"protocol": {"values": ["paper"]}}, "search.protocol: expected a setting of the network"),
        ({"dataset": {"values": ["a", "b"]}}, "search.dataset: expected a setting of the network"),
        ({"tau": {"low": 1.0, "high": 3.0}}, "search.tau.low: expected a number > 1, got 1.0"),
        ({"dropout": {"low": 0.5, "high": 1.0}}, "search.dropout.high: expected a number >= 0 and < 1, got 1.0"),
        ({"dropout": {"values": [0.5, 1.5]}}, "search.dropout: expected a number >= 0 and < 1, got 1.5"),
        ({"max_delay": {"low": 1.5, "high": 3}}, "search.max_delay.low: expected an integer >= 0, got 1.5"),
        ({"max_delay": {"low": 1, "high": 8, "step": 0.5}}, "search.max_delay.step: expected an integer above 0"),
        (
            {"max_delay": {"low": 1, "high": 10**9}},
            "expected at most 1,000,000 integers, got 999,999,999",
        ),
        (
            {"lr": {"low": 0.0, "high": 1.0, "step": 1e-300}},
            "search.lr.step: expected at most 1,000,000 steps",
        ),
        (
            {"lr": {"low": 0.0, "high": 10**400}},
            "search.lr.high: .* got 1000.*Take at most 1e[+]30",
        ),
        ({"lr": {"low": float("nan"), "high": 1}}, "search.lr.low: expected a number >= 0, got nan"),
        ({"lr": {"low": 1e-2, "high": 1e-3}}, "search.lr.high: expected more than low, 0.01, got 0.001"),
        ({"lr": {"low": 0.0, "high": 1e-3, "log": True}}, "search.lr.low: expected more than 0 for a logarithmic"),
        ({"lr": {"low": 0.0, "high": 1e-3, "log": "yes"}}, "search.lr.log: expected true or false, got 'yes'"),
        ({"lr": {"low": 1e-4, "high": 1e-3, "log": True, "step": 1e-4}}, "search.lr.step: expected .* and no log"),
        ({"lr": {"low": 1e-4, "high": 1e-3, "logarithm": True}}, "search.lr: expected the keys low, .* got logarithm"),
        ({"lr": {"low": 1e-4}}, re.escape("search.lr: expected { low = ..., high = ... } or { values = [...] }")),
        ({"lr": [1e-4, 1e-3]}, re.escape("search.lr: expected { low = ..., high = ... } or { values = [...] }")),
        ({"lr": {"values": []}}, re.escape("search.lr.values: expected a list of one value or more, got []")),
        ({"lr": {"values": [0.1, 0.1]}}, "search.lr.values: expected each value once"),
        ({"delays": {"values": ["sometimes"]}}, "search.delays: expected one of none, fixed, .* got 'sometimes'"),
        ({"delays": {"low": "a", "high": "b"}}, re.escape("search.delays: expected { values = [...] } with one of")),
        ({"hidden": {"values": [64]}}, "search.hidden: expected integers >= 1, got 64"),
    ],
)
def test_what_is_refused(table: dict[str, Any], message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        read_space(table)


def test_values_that_can_be_listed() -> None:
    assert Range(1, 4, whole=True).values() == (1, 2, 3, 4)
    assert Range(0.1, 0.45, step=0.1).values() == (0.1, 0.2, 0.3, 0.4)
    assert Range(8, 24, step=8, whole=True).values() == (8, 16, 24)
    assert Range(0.1, 0.5).values() == ()
    assert Range(1, 100, log=True, whole=True).values() == ()
    assert list(points({"a": Range(1, 2, whole=True), "b": Choice(("x", "y"))})) == [(1, 2), ("x", "y")]
    with pytest.raises(ArgumentError, match=r"search\.lr: expected values, or a range with a step, for a grid"):
        list(points({"lr": Range(0.1, 0.5)}))


def test_numbers_have_four_digits_and_stay_inside() -> None:
    assert Range(1e-3, 1e-2).tidy(0.00345678) == 0.003457
    assert Range(1.00005, 2).tidy(1.00006) == 1.00005
    assert Range(0, 1, step=0.1).tidy(0.30000000000000004) == 0.3
    whole = Range(1, 9, whole=True).tidy(3.0)
    assert (whole, type(whole)) == (3, int)


def test_what_the_sampler_can_be_told() -> None:
    assert Range(0, 1).holds(0.5)
    assert not Range(0, 1).holds(1.5)
    assert not Range(0, 1).holds("0.5")
    assert not Range(0, 1).holds(True)
    assert Range(8, 24, step=8, whole=True).holds(16)
    assert not Range(8, 24, step=8, whole=True).holds(12)
    assert Choice((0, 4)).holds(0.0)
    assert not Choice((0, 4)).holds(2)
