"""Draws: a function of what was tried, without a setting twice."""

import sys
from typing import Any

import pytest

from delayplug import ArgumentError, ExtraMissingError
from delayplug.bench.search.sampling import Tried, check_sampler, draw
from delayplug.bench.search.space import Choice, Range, Space

SPACE: Space = {
    "lr": Range(1e-3, 1e-1, log=True),
    "max_delay": Range(4, 24, whole=True),
    "hidden": Choice(((4,), (8, 8))),
    "blend": Choice((0, 0.5)),
}
SMALL: Space = {"max_delay": Range(1, 3, whole=True), "delays": Choice(("axonal", "dendritic"))}


def accuracy(values: dict[str, Any]) -> float:
    """Highest for 24 steps and a learning rate of 1e-2."""
    return float(1 - abs(values["max_delay"] - 24) / 24 - abs(values["lr"] - 1e-2))


def searched(sampler: Any, number: int, at_once: int = 1) -> list[Tried]:
    tried: list[Tried] = []
    while len(tried) < number:
        drawn = draw(SPACE, tried, at_once, sampler, 3)
        tried += [Tried(values, accuracy(values)) for values in drawn]
    return tried


@pytest.mark.parametrize("sampler", ["tpe", "random"])
@pytest.mark.parametrize("at_once", [1, 3])
def test_a_draw_depends_on_what_was_tried_alone(sampler: Any, at_once: int) -> None:
    tried = searched(sampler, 15, at_once)
    for start in (0, 6, 12):
        again = draw(SPACE, tried[:start], at_once, sampler, 3)
        assert again == [each.values for each in tried[start : start + at_once]]
    assert draw(SPACE, [], 1, sampler, 4) != draw(SPACE, [], 1, sampler, 3)


def test_draws_lie_inside_and_have_the_types_of_the_fields() -> None:
    for each in searched("random", 20):
        assert all(dimension.holds(each.values[name]) for name, dimension in SPACE.items())
        assert isinstance(each.values["max_delay"], int)
        assert isinstance(each.values["hidden"], tuple)


def test_tpe_learns() -> None:
    def late(sampler: Any) -> float:
        return sum(each.accuracy or 0 for each in searched(sampler, 40)[20:]) / 20

    assert late("tpe") > late("random") + 0.1


@pytest.mark.parametrize("sampler", ["tpe", "random", "grid"])
def test_no_setting_is_drawn_twice_and_none_is_left_out(sampler: Any) -> None:
    first = {"max_delay": 2, "delays": "axonal"}
    drawn = draw(SMALL, [Tried(first, 0.5)], 9, sampler, 0)
    everything = [{"max_delay": n, "delays": kind} for n in (1, 2, 3) for kind in ("axonal", "dendritic")]
    assert sorted([first, *drawn], key=str) == sorted(everything, key=str)


def test_the_order_of_a_grid_is_its_own() -> None:
    whole = draw(SMALL, [], 6, "grid", 0)
    assert [draw(SMALL, [Tried(v, None) for v in whole[:n]], 1, "grid", 0)[0] for n in range(6)] == whole
    assert [values["max_delay"] for values in whole] != sorted(values["max_delay"] for values in whole)


def test_settings_outside_of_the_space_and_without_accuracy_do_no_harm() -> None:
    outside = {"lr": 0.5, "max_delay": 24, "hidden": (4,), "blend": 0.0}
    failed = {"lr": 0.05, "max_delay": 24, "hidden": [8, 8], "blend": 0.0}
    tried = [Tried(outside, 0.9), Tried({**failed, "hidden": (8, 8)}, None)]
    assert len(draw(SPACE, tried, 2, "tpe", 0)) == 2


def test_what_cannot_be_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    check_sampler("grid", SMALL)
    with pytest.raises(ArgumentError, match=r"search\.lr: expected values"):
        check_sampler("grid", SPACE)
    with pytest.raises(ArgumentError, match=r"sampler: expected a grid of at most 1000000 points, got 1000000000000"):
        check_sampler("grid", dict.fromkeys("ab", Range(1, 1_000_000, whole=True)))
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(ExtraMissingError, match=r"pip install 'delayplug\[sweep\]'"):
        check_sampler("tpe", SPACE)
