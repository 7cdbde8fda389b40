"""Intervals of accuracies and of differences, against published values."""

import pytest

from delayplug.bench.report.intervals import (
    half_difference,
    half_interval,
    means_of_groups,
    student,
    student_quantile,
    wilson,
    wilson_difference,
)


@pytest.mark.parametrize(
    ("freedom", "quantile"),
    [
        *((1, 12.706), (2, 4.303), (3, 3.182), (4, 2.776), (5, 2.571), (6, 2.447), (9, 2.262), (14, 2.145)),
        *((16, 2.120), (24, 2.064), (29, 2.045), (40, 2.021), (60, 2.000), (99, 1.984), (120, 1.980), (10_000, 1.960)),
    ],
)
def test_quantiles_are_those_of_the_tables(freedom: int, quantile: float) -> None:
    assert student_quantile(freedom) == pytest.approx(quantile, abs=6e-4)


def test_students_interval() -> None:
    assert student([0.5, 0.7]) == pytest.approx(12.706 * 0.1, rel=1e-4)  # half a difference of 0.2, times t
    assert student([0.5, 0.6, 0.7]) == pytest.approx(4.303 * 0.1 / 3**0.5, rel=1e-4)
    # Student's own example, hours of sleep gained with the second drug over the first, by ten patients.
    gained = [1.2, 2.4, 1.3, 1.3, 0.0, 1.0, 1.8, 0.8, 4.6, 1.4]
    assert sum(gained) / 10 - student(gained) == pytest.approx(0.700, abs=1e-3)
    assert sum(gained) / 10 + student(gained) == pytest.approx(2.460, abs=1e-3)


def test_wilson_interval() -> None:
    low, high = wilson(0.95, 2264)
    assert (low, high) == pytest.approx((0.9402, 0.9583), abs=2e-4)  # +-0.9 points, as for SHD
    assert wilson(1.0, 100)[0] > 0.95
    # Newcombe 1998, Statistics in Medicine 17, 857, table I.
    assert wilson(81 / 263, 263) == pytest.approx((0.2553, 0.3662), abs=1e-4)
    assert wilson(0.0, 20) == pytest.approx((0, 0.1611), abs=1e-4)


def test_interval_of_a_difference() -> None:
    """Newcombe 1998, Statistics in Medicine 17, 873: 10/10 - 0/10 and the like, method 10."""
    assert wilson_difference(1.0, 0.0, 10) == pytest.approx((0.6075, 1.0), abs=1e-4)
    assert wilson_difference(0.0, 0.0, 10) == pytest.approx((-0.2775, 0.2775), abs=1e-4)
    low, high = wilson_difference(0.8, 0.7, 1600)
    assert low < 0.1 < high
    assert wilson_difference(0.7, 0.8, 1600) == pytest.approx((-high, -low))


def test_students_of_several_runs_and_wilsons_of_a_single_one() -> None:
    assert half_interval([0.5, 0.7], 100) == student([0.5, 0.7])
    low, high = wilson(0.8, 1600)
    assert half_interval([0.8], 1600) == pytest.approx((high - low) / 2)
    assert half_difference([(0.8, 0.7), (0.9, 0.7)], 100) == pytest.approx(student([0.1, 0.2]))
    low, high = wilson_difference(0.8, 0.7, 1600)
    assert half_difference([(0.8, 0.7)], 1600) == pytest.approx((high - low) / 2)


def test_runs_on_the_same_speakers_count_as_one() -> None:
    """Ten seeds on two folds say nothing about a third pair of speakers that two folds do not say."""
    values, folds = [0.8, 0.6, 0.82, 0.62], ["a", "b", "a", "b"]
    assert means_of_groups(values, folds) == pytest.approx([0.81, 0.61])
    assert half_interval(values, 100, folds) == pytest.approx(student([0.81, 0.61]))
    assert half_interval(values, 100, folds) > 5 * half_interval(values, 100)
    pairs = [(value + 0.01 * n, value) for n, value in enumerate(values)]
    assert half_difference(pairs, 100, folds) == pytest.approx(student([0.01, 0.02]))
    for groups in ((), ["a"] * 4):  # one group: its seeds are all that there is
        assert means_of_groups(values, groups) == values
